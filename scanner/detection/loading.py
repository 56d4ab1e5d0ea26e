"""Loading of everything that decoders import at their first use, because a confined process cannot open files later."""

from __future__ import annotations

import pkgutil
from importlib import import_module

import scanner.detection
from scanner.detection.patterns.matcher import automata

_LIBRARIES = ("bcj", "brotli", "bz2", "dulwich.pack", "inflate64", "json", "lzma", "pyppmd", "zipfile", "zstandard")
"""The libraries that decoders import at their first use."""
_CODECS = ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "ascii", "latin-1", "cp437", "utf-16", "utf-32")


def load_decoders() -> None:
    """Load every decoder with its libraries and codecs, and build the automata for the active token formats."""
    for decoder in pkgutil.iter_modules(scanner.detection.__path__):
        import_module(f"scanner.detection.{decoder.name}")
    for module in _LIBRARIES:
        import_module(module)
    for codec in _CODECS:
        "".encode(codec).decode(codec, "replace")
    automata()

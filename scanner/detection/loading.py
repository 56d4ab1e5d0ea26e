"""Loads all decoders at once, because a confined process cannot open files later."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from scanner import detection
from scanner.detection import containers, encodings, git, patterns
from scanner.detection.patterns.matcher import automata

_LIBRARIES = ("bcj", "brotli", "bz2", "dulwich.pack", "inflate64", "json", "lzma", "pyppmd", "zipfile", "zstandard")
"""The libraries that decoders import at their first use."""
_CODECS = ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "ascii", "latin-1", "cp437", "utf-16", "utf-32")


def load_decoders() -> None:
    """Import every decoder with its libraries and codecs, and prepare the search for the active token formats."""
    for package in (detection, containers, encodings, git, patterns):
        for found in pkgutil.iter_modules(package.__path__):
            import_module(f"{package.__name__}.{found.name}")
    for module in _LIBRARIES:
        import_module(module)
    for codec in _CODECS:
        "".encode(codec).decode(codec, "replace")
    automata()

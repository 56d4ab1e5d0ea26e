"""Imports all modules that a confined process needs, because the process cannot open Python files later."""

from __future__ import annotations

import pkgutil
import signal
from importlib import import_module

from scanner import detection
from scanner.confinement import confine_to_reading
from scanner.detection import containers, encodings, git, patterns
from scanner.detection.encodings.base64_tokens import base64_forms
from scanner.detection.patterns.matcher import automata
from scanner.detection.patterns.token_formats import parse_formats, use_formats
from scanner.detection.prefilter import plain_only

_LIBRARIES = ("bcj", "brotli", "bz2", "dulwich.pack", "inflate64", "json", "lzma", "zipfile", "zstandard")
"""The libraries that decoders import when they are first used."""
_CODECS = ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "ascii", "latin-1", "cp437", "utf-16", "utf-32")


def load_decoders() -> None:
    """Import every decoder with its libraries, and compile the patterns for the active token formats.

    Processes that are forked later need not do it again.
    """
    for package in (detection, containers, encodings, git, patterns):
        for found in pkgutil.iter_modules(package.__path__):
            import_module(f"{package.__name__}.{found.name}")
    for module in _LIBRARIES:
        import_module(module)
    for codec in _CODECS:
        "".encode(codec).decode(codec, "replace")
    automata()
    base64_forms()


def confine_quick_search(formats: str, memory_bytes: int) -> None:
    """Prepare this process for `plain_only`, and prevent it from writing files and using a network."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    use_formats(parse_formats(formats))
    plain_only(b"\0" * 64)  # build the search automata before the confinement
    confine_to_reading(memory_bytes)

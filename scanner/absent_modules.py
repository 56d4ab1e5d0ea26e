"""Hides installed modules from libraries that import them if they exist, so that they take no memory and no time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def absent(name: str) -> Iterator[None]:
    """Make the import of this module raise ImportError while the block runs, as if it were not installed."""
    modules: dict[str, Any] = sys.modules  # None as the value makes the import fail
    before = modules.get(name)
    modules[name] = None
    try:
        yield
    finally:
        if before is None:
            del modules[name]
        else:
            modules[name] = before


def hide_httpx_command() -> None:
    """Make the import of the command `httpx` fail, for which httpx imports rich, pygments and click."""
    modules: dict[str, Any] = sys.modules
    modules.setdefault("httpx._main", None)

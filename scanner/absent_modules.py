"""Hides optional modules from the libraries that would import them. This saves memory and time."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def absent(name: str) -> Iterator[None]:
    """Make every import of the module `name` raise ImportError while the `with` block runs."""
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
    """Keep httpx from importing its command line program, which needs rich, pygments and click."""
    modules: dict[str, Any] = sys.modules
    modules.setdefault("httpx._main", None)

"""Reduces the memory of long-running processes, and the pauses of the garbage collector."""

from __future__ import annotations

import ctypes
import gc
import sys

MAX_ARENAS = 2
MMAP_BYTES = 4 << 20
"""The minimum size of an allocation that is given back to the operating system when it is freed.

Otherwise, glibc raises its limit up to 32 MB and keeps the memory of large contents.
"""
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""Numbers of options in glibc's malloc.h."""


def limit_kept_memory() -> None:
    """Limit the freed memory that the C library keeps. Call this before threads are started."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # the C library musl has no mallopt
            libc.mallopt(_M_ARENA_MAX, MAX_ARENAS)
            libc.mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES)
            libc.malloc_trim(0)  # give the memory that is free now back to the system


def freeze_started_objects() -> None:
    """Exclude all existing objects from garbage collection, and give freed memory back to the operating system."""
    gc.collect()
    gc.freeze()
    limit_kept_memory()

"""The way in which this process allocates memory and collects garbage."""

from __future__ import annotations

import ctypes
import gc
import sys

MAX_ARENAS = 2
MMAP_BYTES = 4 << 20
"""Allocations of at least this size are returned to the system when they are freed. Without a fixed size, glibc raises
it to 32 MB, and a large pack leaves its memory behind as holes.
"""
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""From malloc.h of glibc."""


def limit_kept_memory() -> None:
    """Limit the freed memory that the C library keeps.

    All threads allocate from two arenas: by default each thread gets one, which keeps what was freed in it. Large
    allocations are returned at once.

    Call it before threads are started. Forked processes inherit the limit.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # musl has none, and no arenas
            libc.mallopt(_M_ARENA_MAX, MAX_ARENAS)
            libc.mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES)
            libc.malloc_trim(0)


def freeze_started_objects() -> None:
    """Exclude the objects that exist now from all later collections of garbage.

    A service calls it once it has started. A full collection that includes all imported code takes 100 ms, in which no
    request is answered.
    """
    gc.collect()
    gc.freeze()

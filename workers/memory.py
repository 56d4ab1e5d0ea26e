"""The way in which the C library allocates memory in this process."""

from __future__ import annotations

import ctypes
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

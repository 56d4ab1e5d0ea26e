"""Limits on the freed memory that the C library keeps, and the settings of the garbage collector."""

from __future__ import annotations

import ctypes
import gc
import sys

MAX_ARENAS = 2
MMAP_BYTES = 4 << 20
"""Allocations of at least this size are returned to the system when they are freed.

Without a fixed size, glibc raises it to 32 MB, and the freed memory of a large pack stays in the process as holes.
"""
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8
"""From malloc.h of glibc."""


def limit_kept_memory() -> None:
    """Limit the freed memory that the C library keeps in this process.

    Make all threads allocate from two arenas (areas of memory). By default, threads have many arenas, and cannot reuse
    memory that was freed in another arena. Also return large allocations to the system as soon as they are freed.

    Call this before threads are started. Forked processes inherit the limits.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # musl has none, and no arenas
            libc.mallopt(_M_ARENA_MAX, MAX_ARENAS)
            libc.mallopt(_M_MMAP_THRESHOLD, MMAP_BYTES)
            libc.malloc_trim(0)


def freeze_started_objects() -> None:
    """Exclude the objects that exist now from all later garbage collections.

    A service calls this after its start. A full collection that includes all imported code would take 100 ms, during
    which no request is answered.
    """
    gc.collect()
    gc.freeze()

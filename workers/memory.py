"""The way in which the C library allocates memory in this process."""

from __future__ import annotations

import ctypes
import sys

MAX_ARENAS = 2
_M_ARENA_MAX = -8
"""From malloc.h of glibc."""


def limit_arenas() -> None:
    """Let all threads allocate from two arenas. By default each thread gets one, which keeps what was freed in it.

    Call it before threads are started. Forked processes inherit the limit.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):  # musl has none, and no arenas
            libc.mallopt(_M_ARENA_MAX, MAX_ARENAS)
            libc.malloc_trim(0)

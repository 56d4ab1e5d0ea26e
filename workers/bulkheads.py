"""Limits the number of threads that each kind of task may use."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Without these limits, a slow mail server could occupy all threads, and no token would be disabled.
SLOTS = {
    "deliver": 3,
    "announce": 2,
    "look_up": 2,
    "settle_reports": 1,
    "finish": 1,
    "take_back": 1,
    "tidy": 1,
    "plant_canaries": 1,
    "rescan": 2,
    "scan_slow": 1,
}
RESCANNER_THREADS = 3
"""The number of threads of a process that does rescans: two for rescans and one for slow scans."""
RESPONDER_THREADS = 16
"""The number of threads of a process that disables tokens and sends messages.

It exceeds the sum of this process's limits in `SLOTS`, so that a thread is always free for the sweeper.
"""

_free = {kind: threading.BoundedSemaphore(count) for kind, count in SLOTS.items()}


@contextmanager
def slot(kind: str) -> Iterator[bool]:
    """Reserve a thread for a task of this kind until the `with` block ends.

    Yield False if none is free. The task must then return without doing its work.
    """
    is_free = _free[kind].acquire(blocking=False)
    try:
        yield is_free
    finally:
        if is_free:
            _free[kind].release()

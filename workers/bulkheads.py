"""Bulkheads: how many threads of one process each kind of task may take, so that a slow kind cannot starve the others.

A mail server that answers slowly would otherwise fill the whole pool with deliveries, as the sweeper rings every two
seconds, and nobody would look up what was found.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

PLACES = {
    "deliver": 3,
    "announce": 2,
    "look_up": 2,
    "settle_reports": 1,
    "finish": 1,
    "take_back": 1,
    "tidy": 1,
    "rescan": 2,
    "scan_slow": 1,
}
RESCANNER_THREADS = 3
"""The places of rescans and slow scans together: the largest repositories leave a thread to slow pushes."""
RESPONDER_THREADS = 16
"""More than the places of its kinds together: sweeps and reports always have a thread."""

_free = {kind: threading.BoundedSemaphore(count) for kind, count in PLACES.items()}


@contextmanager
def place(kind: str) -> Iterator[bool]:
    """Take a place for the block; False if all of this kind are taken: then the task should do nothing."""
    is_free = _free[kind].acquire(blocking=False)
    try:
        yield is_free
    finally:
        if is_free:
            _free[kind].release()

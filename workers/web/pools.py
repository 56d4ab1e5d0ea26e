"""Thread pools for blocking work. Each route has its own pool."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

from workers.web.requests import RequestRefused

BUSY_RETRY_SECONDS = 5

T = TypeVar("T")


class Pool:
    """A thread pool. At most `threads` calls run in parallel, and at most `queue` calls wait."""

    def __init__(self, threads: int, queue: int) -> None:
        self._limiter = CapacityLimiter(threads)
        self._capacity = threads + queue
        self._held = 0

    @property
    def is_full(self) -> bool:
        """Return whether a call would be refused now."""
        return self._held >= self._capacity

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Run `work` in a thread of this pool and return its result.

        Raises:
            RequestRefused: The status is 503. All threads are busy and the queue is full.
        """
        if self.is_full:
            raise RequestRefused(503, "too many requests are waiting: try again later", retry_after=BUSY_RETRY_SECONDS)
        self._held += 1
        try:
            return await to_thread.run_sync(partial(work, *arguments), limiter=self._limiter)
        finally:
            self._held -= 1

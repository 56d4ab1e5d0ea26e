"""When the consuming thread of this process last did its work. The thread itself says so; nobody says it for it.

Celery's own heartbeats and pings come from places that go on while a worker no longer takes messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment: by the monotonic clock, for ages, and by the wall clock, for the times of files."""

    monotonic: float
    wall: float


class Pulse:
    """Moments at which the thread worked, and at which it tried to reach the broker. Safe to read from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.worked: Mark | None = None
        self.tried = self._now()

    def work(self) -> None:
        """Note that the thread asked the broker and got an answer, or is full and has to ask for nothing."""
        self.worked = self._now()

    def try_to_connect(self) -> None:
        """Note that the thread is not stuck: it tries to reach a broker that may be away."""
        self.tried = self._now()

    @property
    def latest(self) -> Mark:
        """Return the latest moment of both."""
        worked = self.worked
        return self.tried if worked is None or worked.monotonic < self.tried.monotonic else worked

    def age(self, mark: Mark) -> float:
        """Return the seconds since the moment."""
        return self._clock() - mark.monotonic

    def _now(self) -> Mark:
        return Mark(self._clock(), time.time())


_current = Pulse()


def current() -> Pulse:
    """Return the pulse of this process."""
    return _current

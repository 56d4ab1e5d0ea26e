"""The time at which the consuming thread of this process last made progress.

The consuming thread, which takes messages from Redis, records this time. Celery's own heartbeats and pings cannot be
used instead, because they continue even if a worker no longer takes messages.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from workers.health import systemd
from workers.health.systemd import Notifier


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment on two clocks. The monotonic clock serves to compute ages, the wall clock to set the time of files."""

    monotonic: float
    wall: float


class Pulse:
    """The moments at which the consuming thread last worked, and last tried to reach the broker.

    Any thread may read the moments.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, notifier: Notifier | None = None) -> None:
        self._clock = clock
        self._notifier = notifier or systemd.current_notifier()
        self.worked: Mark | None = None
        self.tried = self._now()

    def work(self) -> None:
        """Record that the broker answered the thread, or that the thread takes no message because its pool is full."""
        self.worked = self._now()
        self._notifier.alive()

    def try_to_connect(self) -> None:
        """Record that the thread is trying to reach the broker, so that it does not count as stuck during an outage."""
        self.tried = self._now()
        if self.worked is not None:
            self._notifier.alive()

    @property
    def latest(self) -> Mark:
        """Return the later of the two moments: the last work, or the last try to reach the broker."""
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

"""Records when the thread that receives messages last made progress, to detect a stuck worker."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from workers.health import systemd
from workers.health.systemd import Notifier


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment on two clocks: the monotonic clock for durations, the wall clock for a file's time."""

    monotonic: float
    wall: float


class Pulse:
    """The progress of the thread that receives messages. Any thread may read it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, notifier: Notifier | None = None) -> None:
        self._clock = clock
        self._notifier = notifier or systemd.current_notifier()
        self.worked: Mark | None = None
        self.tried = self._now()

    def work(self) -> None:
        """Record that Redis answered, or that the thread takes no messages because all others are busy."""
        self.worked = self._now()
        self._notifier.alive()

    def try_to_connect(self) -> None:
        """Record that the thread tries to reach Redis, so that an outage does not make it count as stuck."""
        self.tried = self._now()
        if self.worked is not None:
            self._notifier.alive()

    @property
    def latest(self) -> Mark:
        """Return when the thread last worked or tried to reach Redis, whichever is later."""
        worked = self.worked
        return self.tried if worked is None or worked.monotonic < self.tried.monotonic else worked

    def age(self, mark: Mark) -> float:
        """Return the seconds since the moment `mark`."""
        return self._clock() - mark.monotonic

    def _now(self) -> Mark:
        return Mark(self._clock(), time.time())


_current = Pulse()


def current() -> Pulse:
    """Return the `Pulse` of this process."""
    return _current

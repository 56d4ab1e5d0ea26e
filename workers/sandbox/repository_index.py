"""The repository search index of the simulated GitHub. It knows the latest push of each repository."""

from __future__ import annotations

import heapq
import random
import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class RepositoryIndex:
    """A search index of repositories by latest push. Times are seconds since the epoch.

    Attributes:
        lag: The seconds until a push is indexed, or a function that returns them for each push.
        lost: The share of pushes that are never indexed.
    """

    lag: float | Callable[[random.Random], float] = 0.0
    lost: float = 0.0
    seed: int = 1
    _ordered: list[tuple[int, int]] = field(default_factory=list)
    _place: dict[int, int] = field(default_factory=dict)
    _waiting: list[tuple[float, int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - nothing is secret here
        self._lock = threading.Lock()

    def push(self, repository: int, at: float) -> None:
        """Record a push at the time `at`. Searches find it after the delay `lag`."""
        with self._lock:
            lag = self.lag(self._random) if callable(self.lag) else self.lag
            if self._random.random() >= self.lost:
                heapq.heappush(self._waiting, (at + lag, repository, int(at)))

    def between(self, start: int, end: int, now: float) -> list[int]:
        """Return the repositories whose latest indexed push was from `start` to `end`, inclusive, oldest push first."""
        with self._lock:
            self._learn(now)
            first, last = bisect_left(self._ordered, (start, 0)), bisect_right(self._ordered, (end, 2**62))
            return [repository for _, repository in self._ordered[first:last]]

    def _learn(self, now: float) -> None:
        while self._waiting and self._waiting[0][0] <= now:
            _, repository, at = heapq.heappop(self._waiting)
            before = self._place.get(repository)
            if before is not None:
                if before >= at:
                    continue
                del self._ordered[bisect_left(self._ordered, (before, repository))]
            self._place[repository] = at
            insort(self._ordered, (at, repository))

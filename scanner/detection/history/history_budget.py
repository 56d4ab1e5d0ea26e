"""A limit on the work of building objects from deltas when a git repository is read."""

from __future__ import annotations

import threading
from collections.abc import Sequence

MIN_BUDGET = 64 << 30
"""The bytes of work on deltas that are always allowed for a repository, about a minute on two cores."""
BUDGET_PER_BYTE = 1000
"""The bytes of work on deltas that are allowed for each byte of a repository's packs. Usually 20 to 150 are needed."""


class HistoryBudget:
    """Limits how many bytes of objects may be built from deltas, and divides the bytes among groups of objects.

    A group's number is its position in the list that was passed to `reserve`. Threads may share a budget.
    """

    def __init__(self, packed: int) -> None:
        self._free = MIN_BUDGET + BUDGET_PER_BYTE * packed
        self._reserves: list[int] = []
        self._granted: dict[int, int] = {}
        self._lock = threading.Lock()

    @property
    def left(self) -> int:
        """The number of bytes that are neither reserved nor granted to a group of objects."""
        return self._free

    def reserve(self, weights: Sequence[int]) -> None:
        """Reserve bytes for each group of objects, given the estimated work on each group in bytes."""
        share = _fair_share(weights, self._free)
        self._reserves = [min(weight, share) for weight in weights]
        self._free -= sum(self._reserves)

    def grant(self, unit: int) -> int:
        """Return how many bytes may be built from deltas for this group of objects. Call this when its work begins."""
        with self._lock:
            extra = self._free // 2
            self._free -= extra
            self._granted[unit] = self._reserves[unit] + extra
            self._reserves[unit] = 0
            return self._granted[unit]

    def settle(self, unit: int, left: int) -> None:
        """Give the granted bytes that a finished group of objects did not use back to the budget."""
        with self._lock:
            self._free += min(left, self._granted.pop(unit, 0))

    def fail(self, unit: int) -> None:
        """Give half of a group's granted bytes back to the budget, because the process that read the group has died."""
        with self._lock:
            self._free += self._granted.pop(unit, 0) // 2

    def take(self, size: int) -> None:
        """Subtract `size` bytes, for work that belongs to no group. The remaining bytes do not fall below zero."""
        with self._lock:
            self._free = max(self._free - size, 0)


def _fair_share(weights: Sequence[int], budget: int) -> int:
    """Return the largest share for which the sum of `min(weight, share)` is at most `budget`."""
    left, share = budget, 0
    for number, weight in enumerate(sorted(weights)):
        share = left // (len(weights) - number)
        if weight > share:
            return share
        left -= weight
    return max(weights, default=share)

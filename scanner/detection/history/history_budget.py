"""The budget for the objects that are built from deltas when a git history is read.

A delta of 20 bytes can make an object of megabytes, so a repository of a few megabytes could keep its reader busy for
hours. Objects that are stored without a delta need no budget, because zlib makes at most 1,032 bytes from one byte.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

MIN_BUDGET = 64 << 30
"""The minimum budget of a repository in bytes: about a minute on two cores.

A file of 5 MB with 10,000 versions makes 50 GB from a pack of a few megabytes.
"""
BUDGET_PER_BYTE = 1000
"""Budget in bytes for each byte of the packs. Ordinary repositories need 20 to 150."""


class HistoryBudget:
    """A budget, in bytes of built objects, for all units (the groups of objects that a process reads at a time).

    Each unit has a reserve: its estimated work, or its fair share if the estimates exceed the budget. So no unit can
    use up the budget of another unit. Bytes that are not reserved are free. Because an estimate may be too low, a unit
    also gets half of the free bytes when it begins.

    Safe to share between threads.

    Args:
        packed: Bytes of the repository's packs.
    """

    def __init__(self, packed: int) -> None:
        self._free = MIN_BUDGET + BUDGET_PER_BYTE * packed
        self._reserves: list[int] = []
        self._granted: dict[int, int] = {}
        self._lock = threading.Lock()

    @property
    def left(self) -> int:
        """The free bytes: they are neither reserved for a unit nor granted to a unit."""
        return self._free

    def reserve(self, weights: Sequence[int]) -> None:
        """Set the reserve of each unit.

        Args:
            weights: The estimated work of each unit in bytes. A unit's position in the sequence is its number.
        """
        share = _fair_share(weights, self._free)
        self._reserves = [min(weight, share) for weight in weights]
        self._free -= sum(self._reserves)

    def grant(self, unit: int) -> int:
        """Grant a unit, whose work begins now, its reserve and half of the free bytes. Return the number of bytes."""
        with self._lock:
            extra = self._free // 2
            self._free -= extra
            self._granted[unit] = self._reserves[unit] + extra
            self._reserves[unit] = 0
            return self._granted[unit]

    def settle(self, unit: int, left: int) -> None:
        """End a unit. Make the unused part of its grant, `left` bytes, free again."""
        with self._lock:
            self._free += min(left, self._granted.pop(unit, 0))

    def fail(self, unit: int) -> None:
        """End a unit whose process has died. Make half of its grant free again.

        The other half counts as used. Git reads the unit's objects again.
        """
        with self._lock:
            self._free += self._granted.pop(unit, 0) // 2

    def take(self, size: int) -> None:
        """Charge work that belongs to no unit: subtract it from the free bytes, but not below zero."""
        with self._lock:
            self._free = max(self._free - size, 0)


def _fair_share(weights: Sequence[int], budget: int) -> int:
    """Return the largest share for which the sum over all units of `min(weight, share)` is within the budget."""
    left, share = budget, 0
    for number, weight in enumerate(sorted(weights)):
        share = left // (len(weights) - number)
        if weight > share:
            return share
        left -= weight
    return max(weights, default=share)

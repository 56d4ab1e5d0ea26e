"""Finds the order of the search strings ("cores") that makes the token matcher fastest.

The matcher uses the algorithm Teddy of the crate aho-corasick (`Teddy::new`), whose speed depends on this order.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np

BUCKETS = 16
CAPACITY = 64
COMMONEST = 40_000
"""The number of groups of three bytes to consider, the most frequent first. They are 98 % of ordinary source code."""


class Sample:
    """The frequencies of all groups of three bytes in a sample of source code."""

    def __init__(self, content: bytes) -> None:
        data = np.frombuffer(content, dtype=np.uint8).astype(np.uint32)
        counts = np.bincount((data[:-2] << 16) | (data[1:-1] << 8) | data[2:], minlength=1 << 24)
        commonest = np.argsort(-counts, kind="stable")[:COMMONEST]
        self._shares = counts[commonest] / len(data)
        self._bytes = commonest >> 16, (commonest >> 8) & 255, commonest & 255
        self._known: dict[frozenset[bytes], float] = {}

    def cost(self, order: Sequence[bytes]) -> float:
        """Return how often the matcher stops to check a position of the sample, if the strings have this order."""
        return sum(map(self._cost_of, _buckets(order)))

    def _cost_of(self, bucket: Sequence[bytes]) -> float:
        key = frozenset(bucket)
        if key not in self._known:
            matching = np.full(len(self._shares), bool(bucket))
            for place, values in enumerate(self._bytes):
                low, high = np.zeros(16, bool), np.zeros(16, bool)
                for core in bucket:
                    low[core[place] & 15] = high[core[place] >> 4] = True
                matching &= low[values & 15] & high[values >> 4]
            self._known[key] = float(self._shares[matching].sum())
        return self._known[key]


def _buckets(order: Sequence[bytes]) -> list[list[bytes]]:
    found: list[list[bytes]] = [[] for _ in range(BUCKETS)]
    bucket_of: dict[bytes, int] = {}
    for number, core in enumerate(order):
        halves = bytes(byte & 15 for byte in core[:3])
        found[bucket_of.setdefault(halves, BUCKETS - 1 - number % BUCKETS)].append(core)
    return found


def fastest_order(cores: Sequence[bytes], sample: Sample, steps: int, seed: int = 1) -> list[list[bytes]]:
    """Search for the best order of the strings ("cores") by simulated annealing. Return groups of at most 64 strings.

    Args:
        cores: The strings, in any order.
        sample: The source code for which the search should be fast.
        steps: The number of exchanges of two strings to try.
        seed: The seed of the random choices.
    """
    chance = random.Random(seed)
    number = -(-len(cores) // CAPACITY)
    groups: list[list[bytes | None]] = [[] for _ in range(number)]
    for core in sorted(cores, key=lambda core: core[2::-1]):
        free = (group for group in groups if len(group) < CAPACITY and not _clashes(core, group))
        min(free, key=len).append(core)
    for group in groups:
        group += [None] * (CAPACITY - len(group))
    costs = [_cost(sample, group) for group in groups]
    best, best_groups = sum(costs), [group[:] for group in groups]
    start = best / 30
    for step in range(steps):
        one, two = chance.randrange(number), chance.randrange(number)
        at, to = chance.randrange(CAPACITY), chance.randrange(CAPACITY)
        groups[one][at], groups[two][to] = groups[two][to], groups[one][at]
        if one == two or not (_clashes(groups[one][at], groups[one]) or _clashes(groups[two][to], groups[two])):
            changed = [
                _cost(sample, group) if which in (one, two) else costs[which] for which, group in enumerate(groups)
            ]
            worse = sum(changed) - sum(costs)
            if worse <= 0 or chance.random() < math.exp(-worse / (start * (1 - step / steps) ** 2 + 1e-9)):
                costs = changed
                if sum(costs) < best:
                    best, best_groups = sum(costs), [group[:] for group in groups]
                continue
        groups[one][at], groups[two][to] = groups[two][to], groups[one][at]
    found = [[core for core in group if core is not None] for group in best_groups]
    # Put the smallest group last, because `core_groups` expects all other groups to be full.
    return sorted(found, key=len, reverse=True)


def _cost(sample: Sample, group: Sequence[bytes | None]) -> float:
    return sample.cost([core for core in group if core is not None])


def _clashes(core: bytes | None, group: Sequence[bytes | None]) -> bool:
    """Return whether `core` begins with another string of the group, or another string begins with `core`."""
    others = (other for other in group if other is not None and other is not core)
    return core is not None and any(other.startswith(core) or core.startswith(other) for other in others)

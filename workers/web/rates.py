"""Rate limiters in memory: token buckets for each network and for all networks together, in tables of limited size.

These limiters run before any other work and do not use the database. Limits that several processes share are checked
later, inside the transaction that writes the result.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_NETWORKS = 10_000
"""Networks that one limiter remembers, about 2 MB. Beyond that it forgets the least recently seen network."""
WIDE_FACTOR = 4
"""An IPv6 /48 may use as much as this many of the /64 networks inside it."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The size of a token bucket: it contains at most `burst` units, and gains `per_minute` units a minute."""

    burst: float
    per_minute: float


class _Bucket:
    __slots__ = ("at", "level")

    def __init__(self, level: float, at: float) -> None:
        self.level = level
        self.at = at

    def refill(self, rate: Rate, now: float) -> None:
        self.level = min(rate.burst, self.level + (now - self.at) * rate.per_minute / 60)
        self.at = now


class RateLimiter:
    """A rate limiter with a bucket for each network and a bucket shared by all networks.

    The buckets of networks prevent a few networks from using up the shared bucket.

    When the shared bucket is empty, a reserve of the same size still admits networks whose own bucket is full. A
    network that keeps sending requests never reaches the reserve.
    """

    def __init__(self, per_network: Rate, overall: Rate, *, clock: Callable[[], float] = time.monotonic) -> None:
        wide = Rate(per_network.burst * WIDE_FACTOR, per_network.per_minute * WIDE_FACTOR)
        self._rates = (per_network, wide)
        self._overall_rate = overall
        self._clock = clock
        now = clock()
        self._overall = _Bucket(overall.burst, now)
        self._reserve = _Bucket(overall.burst, now)
        self._networks: OrderedDict[str, _Bucket] = OrderedDict()

    def __len__(self) -> int:
        """Return how many networks are remembered."""
        return len(self._networks)

    def admit(self, keys: Sequence[str], cost: float = 1) -> bool:
        """Take `cost` from the client's buckets and the shared bucket, and return True.

        If one of them contains too little, take nothing and return False.

        Args:
            keys: The client's networks, the narrowest first (see `rate_keys`).
            cost: Units that the request uses.
        """
        now = self._clock()
        buckets = [self._bucket(key, self._rates[min(depth, 1)], now) for depth, key in enumerate(keys)]
        if any(bucket.level < cost for bucket in buckets):
            return False
        common = self._common(buckets, cost, now)
        if common is None:
            return False
        for bucket in (*buckets, common):
            bucket.level -= cost
        return True

    def is_exhausted(self, keys: Sequence[str]) -> bool:
        """Return whether a bucket of the client's networks contains less than one unit.

        Take nothing from the buckets.
        """
        now = self._clock()
        return any(self._bucket(key, self._rates[min(depth, 1)], now).level < 1 for depth, key in enumerate(keys))

    def _common(self, buckets: Sequence[_Bucket], cost: float, now: float) -> _Bucket | None:
        self._overall.refill(self._overall_rate, now)
        self._reserve.refill(self._overall_rate, now)
        if self._overall.level >= cost:
            return self._overall
        is_fresh = all(bucket.level >= self._rates[min(depth, 1)].burst for depth, bucket in enumerate(buckets))
        return self._reserve if is_fresh and self._reserve.level >= cost else None

    def _bucket(self, key: str, rate: Rate, now: float) -> _Bucket:
        bucket = self._networks.get(key)
        if bucket is None:
            if len(self._networks) >= MAX_NETWORKS:
                self._networks.popitem(last=False)
            bucket = self._networks[key] = _Bucket(rate.burst, now)
        else:
            self._networks.move_to_end(key)
            bucket.refill(rate, now)
        return bucket

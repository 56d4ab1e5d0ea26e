"""Rate limiters in this process's memory, for each client network and for all networks together."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MAX_NETWORKS = 10_000
"""The maximum number of networks that a limiter remembers, in about 2 MB."""
WIDE_FACTOR = 4
"""The limit of an IPv6 /48 network as a multiple of the limit of a /64 network."""


@dataclass(frozen=True, slots=True)
class Rate:
    """A rate limit: at most `burst` units at once, and `per_minute` units a minute. A request costs one or more
    units.
    """

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
    """A rate limiter with a token bucket for each network, and one bucket that all networks share."""

    # If the shared bucket is empty, a network whose own bucket is full may use a second shared bucket, the reserve.

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
        """Return the number of networks that have a bucket."""
        return len(self._networks)

    def admit(self, keys: Sequence[str], cost: float = 1) -> bool:
        """Return whether a request is within the limits. If so, take its cost from the buckets.

        Args:
            keys: The client's networks, smallest first (see `rate_keys`).
            cost: The number of units that the request costs.
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
        """Return whether the rate limit of one of the client's networks is used up."""
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

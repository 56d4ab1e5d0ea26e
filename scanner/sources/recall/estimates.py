"""Estimates from marks that were seen again: a share with its interval, and a total by capture and recapture. Pure.

Both take for granted that the marks are a fair sample of what the source should see. Where two sources favour the same
pushes, the share is too high and the total too low.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Z = 1.959964
"""Standard deviations of a 95 % interval."""
TOTAL_Z = 2.1
"""The same for a total: with Z, 93.5 to 95 % of simulated intervals hold the total, since few marks are seen twice."""
HORIZONS = (60, 300, 900, 3600, 86_400)
"""Seconds from a push within which a source has seen it, or not."""
MAX_MARK_AGE = 600.0
"""A push that was seen later than this after it happened is no mark: whoever was late may have been so for a reason."""
SLACK_SECONDS = 2.0
"""Between the times that two listings give for one push."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A push that a source has seen. Times in seconds since the epoch; `is_new`: of a new repository."""

    repository_id: int
    pushed_at: float
    seen_at: float
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """How many of so many marks were seen, and the bounds of the 95 % interval of the share (Wilson's)."""

    seen: int
    marks: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Total:
    """The estimated number of pushes, and the bounds of its 95 % interval."""

    estimate: float
    low: float
    high: float


def share_of(seen: int, marks: int) -> Share | None:
    """Return the share with Wilson's interval, which is fair for few marks and for shares near 0 and 1."""
    if marks <= 0:
        return None
    share, spread = seen / marks, Z * Z / marks
    middle = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / marks + spread / (4 * marks)) / (1 + spread)
    return Share(seen, marks, max(middle - half, 0.0), min(middle + half, 1.0))


def total_of(first: int, second: int, both: int) -> Total | None:
    """Return Chapman's estimate of a total of which two sources saw `first` and `second`, and both of them `both`.

    The interval is that of the logarithm of what nobody saw, so that it never ends below what was seen.
    """
    if both <= 0 or both > min(first, second):
        return None
    estimate = (first + 1) * (second + 1) / (both + 1) - 1
    seen = first + second - both
    unseen = max(estimate - seen, 0.0)
    variance = (first + 1) * (second + 1) * (first - both) * (second - both) / ((both + 1) ** 2 * (both + 2))
    if unseen < 1 or variance <= 0:
        return Total(estimate, float(seen), estimate + TOTAL_Z * math.sqrt(max(variance, 1.0)))
    factor = math.exp(TOTAL_Z * math.sqrt(math.log(1 + variance / unseen**2)))
    return Total(estimate, seen + unseen / factor, seen + unseen * factor)


def delays(marks: Sequence[Mark], catches: Sequence[Mark]) -> list[float | None]:
    """Return, for each mark, after how many seconds the source has shown its repository as pushed then or later."""
    by_repository: dict[int, list[Mark]] = {}
    for catch in catches:
        by_repository.setdefault(catch.repository_id, []).append(catch)
    found: list[float | None] = []
    for mark in marks:
        shown = [
            catch.seen_at
            for catch in by_repository.get(mark.repository_id, ())
            if catch.pushed_at >= mark.pushed_at - SLACK_SECONDS
        ]
        found.append(max(min(shown) - mark.pushed_at, 0.0) if shown else None)
    return found


def recall(marks: Sequence[Mark], catches: Sequence[Mark], now: float) -> dict[int, Share]:
    """Return the share of other sources' marks that a source has seen within each horizon that has passed for them."""
    fair = [mark for mark in marks if mark.seen_at - mark.pushed_at <= MAX_MARK_AGE]
    waited = delays(fair, catches)
    found: dict[int, Share] = {}
    for horizon in HORIZONS:
        old = [delay for mark, delay in zip(fair, waited, strict=True) if now - mark.pushed_at >= horizon]
        own = share_of(sum(delay is not None and delay <= horizon for delay in old), len(old))
        if own is not None:
            found[horizon] = own
    return found


def total(first: Sequence[Mark], second: Sequence[Mark]) -> Total | None:
    """Return the estimated number of pushes of which two sources have seen these."""
    both = sum(delay is not None for delay in delays(first, second))
    return total_of(len(first), len(second), both)


def as_json(shares: Mapping[int, Share]) -> dict[str, list[float]]:
    """Return by horizon: marks, seen, low, high."""
    return {str(key): [one.marks, one.seen, round(one.low, 4), round(one.high, 4)] for key, one in shares.items()}

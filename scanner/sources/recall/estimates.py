"""Estimates a source's recall (the share of all pushes that it sees) and the total number of pushes.

The total is estimated by capture-recapture, from the pushes that two sources have seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Z = 1.959964
"""Half width of a 95 % confidence interval in standard deviations."""
TOTAL_Z = 2.1
"""Half width of the confidence interval of a total, in standard deviations."""
COMMON_BIAS = 0.05
"""Widens the confidence interval of the total, because two sources may tend to see the same pushes."""
HORIZONS = (60, 300, 900, 3600, 86_400)
"""Delays in seconds for which the share of seen pushes is measured."""
MAX_MARK_AGE = 600.0
"""A push that a source showed more than this many seconds late does not count."""
SLACK_SECONDS = 2.0
"""Two listings may give times for the same push that differ by this much."""
SAME_PUSH_SECONDS = 10.0
"""Pushes of one repository within this time count as one push."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A push in one of the sampled repositories that a source has seen. Times are in seconds since the epoch."""

    repository_id: int
    pushed_at: float
    seen_at: float
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """The share of pushes that a source has seen, with the bounds of Wilson's 95 % confidence interval."""

    seen: int
    marks: int
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Total:
    """The estimated number of all pushes, and the bounds of its 95 % confidence interval."""

    estimate: float
    low: float
    high: float


def share_of(seen: int, marks: int) -> Share | None:
    """Return the share of pushes that were seen, with Wilson's confidence interval, or None if `marks` is 0."""
    if marks <= 0:
        return None
    share, spread = seen / marks, Z * Z / marks
    middle = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / marks + spread / (4 * marks)) / (1 + spread)
    return Share(seen, marks, max(middle - half, 0.0), min(middle + half, 1.0))


def total_of(first: int, second: int, both: int) -> Total | None:
    """Return Chapman's estimate of the total number of pushes. Return None if it cannot be estimated.

    Args:
        first: The number of pushes that the first source saw.
        second: The number of pushes that the second source saw.
        both: The number of pushes that both sources saw.
    """
    if both <= 0 or both > min(first, second):
        return None
    estimate = (first + 1) * (second + 1) / (both + 1) - 1
    seen = first + second - both
    unseen = max(estimate - seen, 0.0)
    variance = (first + 1) * (second + 1) * (first - both) * (second - both) / ((both + 1) ** 2 * (both + 2))
    if unseen < 1 or variance <= 0:
        low, high = float(seen), estimate + TOTAL_Z * math.sqrt(max(variance, 1.0))
    else:
        factor = math.exp(TOTAL_Z * math.sqrt(math.log(1 + variance / unseen**2)))
        low, high = seen + unseen / factor, seen + unseen * factor
    return Total(estimate, max(low * (1 - COMMON_BIAS), float(seen)), high * (1 + COMMON_BIAS))


def delays(marks: Sequence[Mark], catches: Sequence[Mark]) -> list[float | None]:
    """Return for each push in `marks` the seconds until the source showed it, or None if it never did.

    `catches` are the pushes that the source has shown. Each also shows all earlier pushes of its repository.
    """
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
    """Return the share of pushes that the source has seen within each of several delays (in seconds).

    Args:
        marks: The pushes that the other sources have seen.
        catches: The pushes that this source has seen.
        now: The current time in seconds since the epoch.
    """
    fair = [mark for mark in marks if mark.seen_at - mark.pushed_at <= MAX_MARK_AGE]
    waited = delays(fair, catches)
    found: dict[int, Share] = {}
    for horizon in HORIZONS:
        old = [delay for mark, delay in zip(fair, waited, strict=True) if now - mark.pushed_at >= horizon]
        share = share_of(sum(delay is not None and delay <= horizon for delay in old), len(old))
        if share is not None:
            found[horizon] = share
    return found


def total(first: Sequence[Mark], second: Sequence[Mark]) -> Total | None:
    """Estimate the number of all pushes from the pushes that two sources have seen. Return None if that is
    impossible.
    """
    pushes, listed = _distinct(first), _distinct(second)
    both = sum(_has_near(listed.get(number, ()), at) for number, times in pushes.items() for at in times)
    return total_of(sum(map(len, pushes.values())), sum(map(len, listed.values())), both)


def _distinct(marks: Sequence[Mark]) -> dict[int, list[float]]:
    """Return the times of the pushes by repository id. Pushes within SAME_PUSH_SECONDS count as one push."""
    found: dict[int, list[float]] = {}
    for mark in sorted(marks, key=lambda mark: mark.pushed_at):
        times = found.setdefault(mark.repository_id, [])
        if not times or mark.pushed_at - times[-1] > SAME_PUSH_SECONDS:
            times.append(mark.pushed_at)
    return found


def _has_near(times: Sequence[float], at: float) -> bool:
    return any(abs(one - at) <= SAME_PUSH_SECONDS for one in times)


def as_json(shares: Mapping[int, Share]) -> dict[str, list[float]]:
    """Return the shares as JSON, by the delay in seconds.

    Each value is a list of four numbers: all pushes, pushes seen, and the bounds of the confidence interval.
    """
    return {str(key): [one.marks, one.seen, round(one.low, 4), round(one.high, 4)] for key, one in shares.items()}

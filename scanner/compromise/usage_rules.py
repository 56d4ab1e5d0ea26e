"""What usage says of a token: pure functions from one hour and the token's own history to hits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from scanner.settings import RuleMode, Settings


@dataclass(frozen=True, slots=True)
class Rules:
    """The thresholds, and what each rule may do; see docs/compromise.md for their meaning."""

    dormant: RuleMode = "flag"
    dormant_days: int = 30
    dormant_count: int = 100
    spread: RuleMode = "flag"
    spread_networks: int = 30
    spread_countries: int = 8
    listed: RuleMode = "flag"
    burst: RuleMode = "flag"
    burst_factor: float = 20
    burst_count: int = 1000
    burst_hours: int = 24


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of a token's use so far: `hour` is its beginning (UTC), the rest are counts of records and of distinct
    networks and countries."""

    hour: datetime
    count: int
    networks: int = 0
    countries: int = 0
    listed: int = 0
    listed_networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """The active hours before: how many, their records in all and at most, and when the last of them began."""

    hours: int = 0
    total: int = 0
    peak: int = 0
    previous_hour: datetime | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A rule that applies: its `sign`, what it may do, one sentence for a person and the figures behind it (JSON)."""

    sign: str
    mode: Literal["flag", "disable"]
    note: str
    evidence: dict[str, Any] = field(default_factory=dict)


def rules_of(settings: Settings) -> Rules:
    """The rules as an operator has set them."""
    return Rules(
        dormant=settings.usage_dormant,
        dormant_days=settings.usage_dormant_days,
        dormant_count=settings.usage_dormant_count,
        spread=settings.usage_spread,
        spread_networks=settings.usage_spread_networks,
        spread_countries=settings.usage_spread_countries,
        listed=settings.usage_listed,
        burst=settings.usage_burst,
        burst_factor=settings.usage_burst_factor,
        burst_count=settings.usage_burst_count,
        burst_hours=settings.usage_burst_hours,
    )


def judge(hour: Hour, history: History, rules: Rules) -> list[Hit]:
    """The rules that apply to this hour. A rule that is `off` never does."""
    return [
        *_dormant(hour, history, rules),
        *_spread(hour, rules),
        *_listed(hour, rules),
        *_burst(hour, history, rules),
    ]


def _dormant(hour: Hour, history: History, rules: Rules) -> Iterator[Hit]:
    """Not used for many days, and suddenly often. Without an earlier use on record there is nothing to judge."""
    if rules.dormant == "off" or history.previous_hour is None or hour.count < rules.dormant_count:
        return
    unused = hour.hour - history.previous_hour
    if unused >= timedelta(days=rules.dormant_days):
        note = f"used {hour.count} times within an hour after {unused.days} days without use"
        yield Hit("usage_dormant", rules.dormant, note, {"count": hour.count, "unused_days": unused.days})


def _spread(hour: Hour, rules: Rules) -> Iterator[Hit]:
    """Used from many networks or countries within one hour."""
    if rules.spread == "off":
        return
    if hour.networks >= rules.spread_networks or hour.countries >= rules.spread_countries:
        note = f"used from {hour.networks} networks and {hour.countries} countries within an hour"
        yield Hit("usage_spread", rules.spread, note, {"networks": hour.networks, "countries": hour.countries})


def _listed(hour: Hour, rules: Rules) -> Iterator[Hit]:
    """Used from a network of the operator's list."""
    if rules.listed != "off" and hour.listed:
        note = f"used {hour.listed} times within an hour from listed networks: {', '.join(hour.listed_networks)}"
        yield Hit("usage_listed", rules.listed, note, {"listed": hour.listed, "networks": list(hour.listed_networks)})


def _burst(hour: Hour, history: History, rules: Rules) -> Iterator[Hit]:
    """Far more records than this token's active hours have on average, and more than any of them."""
    if rules.burst == "off" or history.hours < rules.burst_hours or hour.count < rules.burst_count:
        return
    mean = history.total / history.hours
    if hour.count > rules.burst_factor * mean and hour.count > history.peak:
        note = f"used {hour.count} times within an hour; its mean is {mean:.1f} and its most {history.peak}"
        evidence = {"count": hour.count, "mean": round(mean, 1), "peak": history.peak, "hours": history.hours}
        yield Hit("usage_burst", rules.burst, note, evidence)

"""The usage rules. They compare one hour of a token's usage with the token's history."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from scanner.records.states import RuleMode
from scanner.settings import Settings


@dataclass(frozen=True, slots=True)
class Rules:
    """The mode (for example "off") and the thresholds of each usage rule."""

    dormant: RuleMode = RuleMode.FLAG
    dormant_days: int = 30
    dormant_count: int = 100
    spread: RuleMode = RuleMode.FLAG
    spread_networks: int = 30
    spread_countries: int = 8
    listed: RuleMode = RuleMode.FLAG
    burst: RuleMode = RuleMode.FLAG
    burst_factor: float = 20
    burst_count: int = 1000
    burst_hours: int = 24


@dataclass(frozen=True, slots=True)
class HourOfUsage:
    """The usage of a token in one hour, as stored up to now.

    Attributes:
        hour: the start of the hour (UTC).
        listed: the number of records from networks on the operator's list.
        listed_networks: the listed networks from which these records came.
    """

    hour: datetime
    count: int
    networks: int = 0
    countries: int = 0
    listed: int = 0
    listed_networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UsageHistory:
    """A summary of a token's earlier usage, before the hour that is examined.

    Attributes:
        hours: the number of hours in which the token was used.
        total: the number of usage records in these hours.
        peak: the number of records in the busiest of these hours.
        previous_hour: the start of the last of these hours.
    """

    hours: int = 0
    total: int = 0
    peak: int = 0
    previous_hour: datetime | None = None


@dataclass(frozen=True, slots=True)
class RuleHit:
    """A usage rule that matched an hour of a token's usage.

    Attributes:
        sign: what the rule observed, for example "usage_burst".
        mode: what the operator wants, for example "flag" or "disable".
        evidence: the observed numbers, as JSON.
    """

    sign: str
    mode: RuleMode
    note: str
    evidence: dict[str, Any] = field(default_factory=dict)


def rules_of(settings: Settings) -> Rules:
    """Return the usage rules from the operator's settings."""
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


def judge(hour: HourOfUsage, history: UsageHistory, rules: Rules) -> list[RuleHit]:
    """Return the usage rules that match this hour. A rule in mode `off` never matches."""
    return [
        *_dormant(hour, history, rules),
        *_spread(hour, rules),
        *_listed(hour, rules),
        *_burst(hour, history, rules),
    ]


def _dormant(hour: HourOfUsage, history: UsageHistory, rules: Rules) -> Iterator[RuleHit]:
    """Yield a match if a token is suddenly used often after many days without use."""
    if rules.dormant == RuleMode.OFF or history.previous_hour is None or hour.count < rules.dormant_count:
        return
    unused = hour.hour - history.previous_hour
    if unused >= timedelta(days=rules.dormant_days):
        note = f"used {hour.count} times within an hour after {unused.days} days without use"
        yield RuleHit("usage_dormant", rules.dormant, note, {"count": hour.count, "unused_days": unused.days})


def _spread(hour: HourOfUsage, rules: Rules) -> Iterator[RuleHit]:
    """Yield a match for use from many networks or countries within one hour."""
    if rules.spread == RuleMode.OFF:
        return
    if hour.networks >= rules.spread_networks or hour.countries >= rules.spread_countries:
        note = f"used from {hour.networks} networks and {hour.countries} countries within an hour"
        yield RuleHit("usage_spread", rules.spread, note, {"networks": hour.networks, "countries": hour.countries})


def _listed(hour: HourOfUsage, rules: Rules) -> Iterator[RuleHit]:
    """Yield a match for use from a network on the operator's list."""
    if rules.listed != RuleMode.OFF and hour.listed:
        times, networks = "once" if hour.listed == 1 else f"{hour.listed} times", ", ".join(hour.listed_networks)
        note = f"used {times} within an hour from listed networks: {networks}"
        yield RuleHit(
            "usage_listed", rules.listed, note, {"listed": hour.listed, "networks": list(hour.listed_networks)}
        )


def _burst(hour: HourOfUsage, history: UsageHistory, rules: Rules) -> Iterator[RuleHit]:
    """Yield a match if the token was used far more often than in any earlier hour."""
    if rules.burst == RuleMode.OFF or history.hours < rules.burst_hours or hour.count < rules.burst_count:
        return
    mean = history.total / history.hours
    if hour.count > rules.burst_factor * mean and hour.count > history.peak:
        note = f"used {hour.count} times within an hour; its mean is {mean:.1f} and its peak {history.peak}"
        evidence = {"count": hour.count, "mean": round(mean, 1), "peak": history.peak, "hours": history.hours}
        yield RuleHit("usage_burst", rules.burst, note, evidence)

"""Database queries for the console's charts."""

from __future__ import annotations

import statistics
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from scanner.records.canaries import is_no_canary
from scanner.records.models import Exposure, Incident, db_now
from scanner.records.states import Decision
from workers.health.incidents import percentile_95

DAYS = 30
SPEED_DAYS = 14
MAX_SAMPLED = 3000
"""The maximum number of incidents from which the chart of disabling times is drawn."""
MAX_PLACES_READ = 20_000
REPOSITORIES = 8


@dataclass(frozen=True, slots=True)
class Day:
    """The number of incidents detected on one day. `day` is YYYY-MM-DD in UTC."""

    day: str
    number: int


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the tokens of one day's incidents were disabled after their publication.

    Attributes:
        p50: The median in seconds.
        p95: The 95th percentile in seconds.
        number: The number of incidents.
    """

    day: str
    p50: float
    p95: float
    number: int


@dataclass(frozen=True, slots=True)
class Figures:
    """The data of all charts.

    Attributes:
        days: The incidents of each of the last DAYS days, oldest first.
        speeds: How fast tokens were disabled on each of the last SPEED_DAYS days, oldest first.
        sampled: The number of incidents from which `speeds` was computed.
        disabled_today: The number of tokens detected and disabled today (UTC).
    """

    days: list[Day] = field(default_factory=list)
    speeds: list[Speed] = field(default_factory=list)
    repositories: list[tuple[str, int]] = field(default_factory=list)
    sampled: int = 0
    disabled_today: int = 0


def load_figures(session: Session, now: datetime) -> Figures:
    """Read the data of all charts. `now` is the database's time."""
    delays = _delays(session)
    return Figures(
        days=_days(session, now),
        speeds=_speeds(delays),
        repositories=_repositories(session),
        sampled=sum(len(values) for values in delays.values()),
        disabled_today=_disabled_since(session, now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)),
    )


def _days(session: Session, now: datetime) -> list[Day]:
    day = _day_of(session)
    statement = select(day, func.count()).where(Incident.detected_at > db_now(-86400 * DAYS), is_no_canary())
    counted = dict(list(session.execute(statement.group_by(day))))
    names = [f"{now.astimezone(UTC) - timedelta(days=back):%Y-%m-%d}" for back in range(DAYS - 1, -1, -1)]
    return [Day(name, counted.get(name, 0)) for name in names]


def _day_of(session: Session) -> ColumnElement[str]:
    if session.get_bind().dialect.name == "postgresql":
        return func.to_char(func.timezone("UTC", Incident.detected_at), "YYYY-MM-DD")
    return func.strftime("%Y-%m-%d", Incident.detected_at)


def _delays(session: Session) -> dict[str, list[float]]:
    """Return the seconds from each token's publication until it was disabled, by day of detection."""
    newest = (
        select(Incident.id, Incident.disabled_at, Incident.detected_at)
        .where(Incident.action == Decision.DISABLED, Incident.detected_at > db_now(-86400 * SPEED_DAYS), is_no_canary())
        .order_by(Incident.detected_at.desc())
        .limit(MAX_SAMPLED)
        .subquery()
    )
    statement = (
        select(newest.c.detected_at, newest.c.disabled_at, func.min(Exposure.published_at))
        .join(Exposure, Exposure.incident_id == newest.c.id)
        .where(Exposure.published_at.is_not(None), Exposure.seen_at <= newest.c.disabled_at)
        .group_by(newest.c.id, newest.c.detected_at, newest.c.disabled_at)
    )
    found: dict[str, list[float]] = defaultdict(list)
    for detected, disabled, published in session.execute(statement):
        found[f"{detected.astimezone(UTC):%Y-%m-%d}"].append(max((disabled - published).total_seconds(), 0.0))
    return found


def _speeds(delays: dict[str, list[float]]) -> list[Speed]:
    return [
        Speed(
            day,
            statistics.median(values),
            percentile_95(sorted(values)),
            len(values),
        )
        for day, values in sorted(delays.items())
    ]


def _repositories(session: Session) -> list[tuple[str, int]]:
    """Return the repositories with the most incidents of the last DAYS days, with their numbers."""
    newest = (
        select(Exposure.repository, Exposure.incident_id)
        .where(Exposure.repository.is_not(None), Exposure.seen_at > db_now(-86400 * DAYS))
        .order_by(Exposure.id.desc())
        .limit(MAX_PLACES_READ)
        .subquery()
    )
    number = func.count(newest.c.incident_id.distinct())
    statement = (
        select(newest.c.repository, number)
        .group_by(newest.c.repository)
        .order_by(number.desc(), newest.c.repository)
        .limit(REPOSITORIES)
    )
    return [(repository, count) for repository, count in session.execute(statement)]


def _disabled_since(session: Session, since: datetime) -> int:
    disabled = Incident.action == Decision.DISABLED
    statement = select(func.count()).where(disabled, Incident.detected_at >= since, is_no_canary())
    return int(session.execute(statement).scalar_one())

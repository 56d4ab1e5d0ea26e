"""Finds the latest incidents, and computes how fast tokens were disabled."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.detection.digests import masked
from scanner.records.canaries import is_no_canary
from scanner.records.models import Exposure, Incident, db_now, table_of
from scanner.records.states import Decision
from workers.health.rows import IncidentRow, Speed

LAST_INCIDENTS = 10
MAX_DELAYS = 20_000
SPEED_SECONDS = 24 * 3600

_incidents, _exposures = table_of(Incident), table_of(Exposure)


def speed(session: Session) -> Speed:
    """Return how fast tokens were disabled in the last 24 hours."""
    delays = disable_delays(session, SPEED_SECONDS)
    if not delays:
        return Speed()
    return Speed(
        incidents_24h=len(delays),
        p50_seconds=round(statistics.median(delays), 2),
        p95_seconds=round(percentile_95(delays), 2),
    )


def latest(session: Session) -> list[IncidentRow]:
    """Return the latest `LAST_INCIDENTS` incidents, newest first."""
    newest = (
        select(_incidents)
        .where(is_no_canary())
        .order_by(_incidents.c.detected_at.desc(), _incidents.c.id)
        .limit(LAST_INCIDENTS)
    )
    return [
        IncidentRow(
            id=str(one.id),
            hint=masked(one.hint, one.digest),
            account=one.account_name,
            cause=one.cause,
            action=one.action,
            detected_at=one.detected_at,
            disabled_at=one.disabled_at,
        )
        for one in session.execute(newest)
    ]


def percentile_95(ordered: Sequence[float]) -> float:
    """Return the 95th percentile of values in ascending order. There must be at least one value."""
    return ordered[math.ceil(0.95 * len(ordered)) - 1]


def disable_delays(session: Session, seconds: float) -> list[float]:
    """Return the seconds from each token's publication until it was disabled, in ascending order.

    Only incidents of the last `seconds` count, and only the newest `MAX_DELAYS` of them.
    """
    newest = (
        select(_incidents.c.id, _incidents.c.disabled_at)
        .where(_incidents.c.action == Decision.DISABLED, _incidents.c.detected_at > db_now(-seconds), is_no_canary())
        .order_by(_incidents.c.detected_at.desc())
        .limit(MAX_DELAYS)
        .subquery()
    )
    # Leave out places where the token was found after it was disabled. They did not delay the disabling.
    first_public = (
        select(func.min(_exposures.c.published_at))
        .where(_exposures.c.incident_id == newest.c.id, _exposures.c.seen_at <= newest.c.disabled_at)
        .scalar_subquery()
    )
    statement = select(newest.c.disabled_at, first_public)
    return sorted(
        max((disabled - published).total_seconds(), 0.0)
        for disabled, published in session.execute(statement)
        if disabled and published
    )

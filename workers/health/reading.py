"""Counts pushes by band, and reads the rates of requests to GitHub.

A band is a group of pushes that are about equally likely to contain a token.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.records import tallies
from scanner.records.models import ScanJob, table_of
from scanner.records.source_models import ResourceRate
from scanner.records.states import JobKind, JobState
from scanner.sources.canaries.ways import SOURCE as CANARY
from scanner.sources.pushes.priorities import PRIORITIES
from workers.health.rows import BandRow, RateRow

HOURS = 24

_jobs, _resource_rates = table_of(ScanJob), table_of(ResourceRate)


@dataclass(frozen=True, slots=True)
class ReadingState:
    """The rates of requests to GitHub, and the numbers of pushes by how likely they contain a token."""

    rates: list[RateRow]
    bands: list[BandRow]


def read(session: Session) -> ReadingState:
    return ReadingState(_rates(session), _bands(session))


def _rates(session: Session) -> list[RateRow]:
    statement = select(_resource_rates).order_by(_resource_rates.c.credential, _resource_rates.c.resource)
    return [
        RateRow(
            credential=row.credential,
            resource=row.resource,
            per_second=round(row.per_second, 2),
            measured_per_second=round(row.measured_per_second, 2),
            refusals=row.refusals,
            refused_at=row.refused_at,
        )
        for row in session.execute(statement)
    ]


def _bands(session: Session) -> list[BandRow]:
    """Return the numbers of read, dropped and waiting pushes for each band (pushes that are about equally likely to
    contain a token).
    """
    counted: Counter[str] = Counter()
    for source, counts in tallies.since(session, HOURS).items():
        if source != CANARY:
            counted.update(counts)
    waiting = (
        select(_jobs.c.priority, func.sum(_jobs.c["items"]))
        .where(_jobs.c.kind == JobKind.PUSHES, _jobs.c.state == JobState.QUEUED)
        .group_by(_jobs.c.priority)
    )
    queued = {priority: int(items) for priority, items in session.execute(waiting)}
    return [
        BandRow(
            band=band,
            read_24h=counted[f"band_read_{band}"],
            found_24h=counted[f"band_found_{band}"],
            dropped_24h=counted[f"dropped_backlog_{band}"],
            waiting=queued.get(priority, 0),
        )
        for band, priority in PRIORITIES.items()
    ]

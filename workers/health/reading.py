"""The part of the status about reading pushes: the rate of git requests, GitHub's refusals, and bands of likelihood.

A band is a group of pushes that are about equally likely to contain a token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.records import tallies
from scanner.records.models import ScanJob
from scanner.records.source_models import ResourceRate
from scanner.records.states import JobKind, JobState
from scanner.sources.canaries.ways import SOURCE as CANARY
from scanner.sources.pushes.likelihood import PRIORITIES
from workers.health.problems import Kind, Problem
from workers.health.rows import BandRow, RateRow

HOURS = 24
REFUSED_LATELY = timedelta(hours=1)
"""A refusal is reported as a problem for this long."""


@dataclass(frozen=True, slots=True)
class ReadingState:
    """The part of an `Overview` about reading pushes, and the problems that it shows."""

    rates: list[RateRow]
    bands: list[BandRow]
    problems: list[Problem]


def read(session: Session, now: datetime) -> ReadingState:
    """Return the rates of requests, the bands, and a problem for each resource that GitHub refused lately.

    `now` is the database's time.
    """
    rates = _rates(session)
    return ReadingState(rates, _bands(session), list(_problems(rates, now)))


def _rates(session: Session) -> list[RateRow]:
    statement = select(ResourceRate).order_by(ResourceRate.credential, ResourceRate.resource)
    return [
        RateRow(
            credential=row.credential,
            resource=row.resource,
            per_second=round(row.per_second, 2),
            measured_per_second=round(row.measured_per_second, 2),
            refusals=row.refusals,
            refused_at=row.refused_at,
        )
        for row in session.execute(statement).scalars()
    ]


def _problems(rates: Sequence[RateRow], now: datetime) -> Iterator[Problem]:
    for rate in rates:
        if rate.refused_at is not None and now - rate.refused_at < REFUSED_LATELY:
            sentence = f"GitHub limits {rate.resource} requests: pushes wait, and {rate.per_second:g} a second are read"
            todo = (
                "set R8SCAN_GITHUB_TOKEN or a GitHub App, because GitHub refuses anonymous requests first"
                if rate.credential == "none"
                else "nothing at first; if it continues, lower R8SCAN_GIT_MAX_RATE or ask GitHub for a higher limit"
            )
            yield Problem(Kind.REQUESTS_LIMITED, sentence, todo, rate.refused_at, rate.resource)


def _bands(session: Session) -> list[BandRow]:
    """Return for each band how many pushes were read, were dropped and wait, and how many tokens were found.

    These numbers show whether the weights from which the likelihood is computed are right.
    """
    counted: Counter[str] = Counter()
    for source, counts in tallies.since(session, HOURS).items():
        if source != CANARY:
            counted.update(counts)
    waiting = (
        select(ScanJob.priority, func.sum(ScanJob.items))
        .where(ScanJob.kind == JobKind.PUSHES, ScanJob.state == JobState.QUEUED)
        .group_by(ScanJob.priority)
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

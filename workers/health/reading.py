"""The part of the status about reading pushes: the rate of git requests, GitHub's refusals, and bands of likelihood.

A band is a group of pushes that are about equally likely to contain a token.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.records import tallies
from scanner.records.models import ScanJob
from scanner.records.source_models import ResourceRate
from scanner.records.states import JobKind, JobState
from scanner.sources.canaries.ways import SOURCE as CANARY
from scanner.sources.pushes.likelihood import PRIORITIES
from workers.health.problems import Kind, Problem
from workers.health.rows import BandRow, Overview, RateRow

HOURS = 24
REFUSED_LATELY = timedelta(hours=1)
"""A refusal is reported as a problem for this long."""


def read(session: Session, found: Overview) -> None:
    """Add the rates of requests, a problem for each resource that was refused lately, and the bands of likelihood."""
    _bands(session, found)
    for row in session.execute(select(ResourceRate).order_by(ResourceRate.credential, ResourceRate.resource)).scalars():
        measured = round(row.measured_per_second, 2)
        rate = RateRow(row.credential, row.resource, round(row.per_second, 2), measured, row.refusals, row.refused_at)
        found.rates.append(rate)
        if rate.refused_at is not None and found.at - rate.refused_at < REFUSED_LATELY:
            sentence = f"GitHub limits {rate.resource} requests: pushes wait, and {rate.per_second:g} a second are read"
            todo = (
                "set R8SCAN_GITHUB_TOKEN or a GitHub App, because GitHub refuses anonymous requests first"
                if rate.credential == "none"
                else "nothing at first; if it continues, lower R8SCAN_GIT_MAX_RATE or ask GitHub for a higher limit"
            )
            problem = Problem(Kind.REQUESTS_LIMITED, sentence, todo, rate.refused_at, rate.resource)
            found.problems.append(problem)


def _bands(session: Session, found: Overview) -> None:
    """Add the pushes of each band that were read, dropped and are waiting, and the tokens found.

    These numbers show whether the weights of the likelihood are right.
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
    for band, priority in PRIORITIES.items():
        dropped = counted[f"dropped_backlog_{band}"]
        row = BandRow(
            band, counted[f"band_read_{band}"], counted[f"band_found_{band}"], dropped, queued.get(priority, 0)
        )
        found.bands.append(row)

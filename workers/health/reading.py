"""What limits the reading of pushes: the shared rate of git requests, and GitHub's refusals of them."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.records.source_models import ResourceRate
from workers.health.problems import Kind, Problem
from workers.health.rows import Overview, RateRow

REFUSED_LATELY = timedelta(hours=1)
"""For this long after a refusal, the status names it as a problem."""


def read(session: Session, found: Overview) -> None:
    """Add the rates of requests, and a problem for each resource that GitHub refused lately."""
    for row in session.execute(select(ResourceRate).order_by(ResourceRate.credential, ResourceRate.resource)).scalars():
        measured = round(row.measured_per_second, 2)
        rate = RateRow(row.credential, row.resource, round(row.per_second, 2), measured, row.refusals, row.refused_at)
        found.rates.append(rate)
        if rate.refused_at is not None and found.at - rate.refused_at < REFUSED_LATELY:
            sentence = f"GitHub limits {rate.resource} requests: pushes wait, and {rate.per_second:g} a second are read"
            todo = (
                "set R8SCAN_GITHUB_TOKEN or a GitHub App, since GitHub refuses anonymous requests first"
                if rate.credential == "none"
                else "nothing at first; if it goes on, lower R8SCAN_GIT_MAX_RATE or ask GitHub for a higher limit"
            )
            problem = Problem(Kind.REQUESTS_LIMITED, sentence, todo, rate.refused_at, rate.resource)
            found.problems.append(problem)

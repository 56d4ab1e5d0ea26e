"""Finds used-up quotas and kinds of requests that GitHub refuses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from workers.health.problems import Kind, Problem, span
from workers.health.rows import BudgetRow, RateRow

MIN_WAIT_SECONDS = 120.0
"""A used-up quota is reported only if it takes longer than this until the quota is available again."""
REFUSED_LATELY = timedelta(hours=1)
"""How long the service's status mentions a request that GitHub has refused."""
ANONYMOUS = "none"
"""The name of the credential in rows about anonymous requests."""


def problems(budgets: Sequence[BudgetRow], rates: Sequence[RateRow], now: datetime) -> list[Problem]:
    """Return one problem that names all used-up quotas and refused kinds of requests, or an empty list."""
    used_up = [row for row in budgets if row.limit and not row.remaining and _wait(row, now) > MIN_WAIT_SECONDS]
    refused = [row for row in rates if row.refused_at is not None and now - row.refused_at < REFUSED_LATELY]
    if not used_up and not refused:
        return []
    sentence = "; ".join((*_used_up(used_up, now), *_refused(refused)))
    since = min((row.refused_at for row in refused if row.refused_at is not None), default=None)
    return [Problem(Kind.REQUESTS_LIMITED, sentence, _todo(used_up, refused), since)]


def _used_up(rows: Sequence[BudgetRow], now: datetime) -> Iterator[str]:
    for credential in dict.fromkeys(row.credential for row in rows):
        own = [row for row in rows if row.credential == credential]
        whose = "anonymous requests" if credential == ANONYMOUS else credential
        names, wait = ", ".join(row.resource for row in own), span(max(_wait(row, now) for row in own))
        if len(own) == 1:
            yield f"GitHub's quota {names} of {whose} is used up: requests wait for {wait}"
        else:
            yield f"GitHub's quotas {names} of {whose} are used up: requests wait for up to {wait}"


def _refused(rows: Sequence[RateRow]) -> Iterator[str]:
    for row in rows:
        yield f"GitHub limits {row.resource} requests: pushes wait, and {row.per_second:g} a second are read"


def _todo(used_up: Sequence[BudgetRow], refused: Sequence[RateRow]) -> str:
    if ANONYMOUS in {*(row.credential for row in used_up), *(row.credential for row in refused)}:
        return "set R8SCAN_GITHUB_TOKEN or a GitHub App, because GitHub refuses anonymous requests first"
    if used_up:
        return "nothing at first; if it continues, set R8SCAN_GITHUB_TOKEN to a token that only r8scan uses"
    return "nothing at first; if it continues, lower R8SCAN_GIT_MAX_RATE or ask GitHub for a higher limit"


def _wait(row: BudgetRow, now: datetime) -> float:
    return (row.resets_at - now).total_seconds() if row.resets_at else 0.0

"""The source that polls repository search. Each search is limited to a window (a range of push times).

https://docs.github.com/search-github/searching-on-github/searching-for-repositories#search-by-when-a-repository-was-created-or-last-updated
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from scanner.detection import Candidate, Detector
from scanner.detection.candidate_limits import CandidateLimits
from scanner.github.client import GitHub
from scanner.github.errors import Forbidden, GitHubError, Malformed, RateLimited, Unavailable
from scanner.records.database import Database
from scanner.records.states import JobKind, SightingState
from scanner.response import sightings
from scanner.sources.polling import leased_poll
from scanner.sources.polling.leased_poll import LeasedPoll
from scanner.sources.polling.report import PollReport
from scanner.sources.polling.source import PollContext, Source, github_for_listings
from scanner.sources.pushes.discovered import queue_discovered
from scanner.sources.pushes.listed import discovered, scan_texts
from scanner.sources.pushes.priorities import PRIORITIES
from scanner.sources.repository_search import later_looks
from scanner.sources.repository_search.search_run import SearchRun
from scanner.sources.repository_search.windows import Plan

SOURCE = "repository_search"
MAX_IDLE_SECONDS = 15.0
"""The source is polled at least once in this time."""
CPU_SHARE = 0.75
"""The share of GitHub's limit of CPU time (60 s a minute) that this source may use."""


def poll(
    database: Database,
    github: GitHub,
    detector: Detector,
    *,
    vendor: str,
    wait: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.time,
) -> PollReport:
    """If the poll is due, search for repositories with new pushes, and queue jobs that read the pushes.

    Args:
        vendor: The vendor's name. Repositories that mention it are read first.
    """
    return leased_poll.run_if_due(
        database, SOURCE, wait, lambda lease: _poll(database, github, detector, vendor, clock, lease)
    )


def _poll(
    database: Database, github: GitHub, detector: Detector, vendor: str, clock: Callable[[], float], lease: LeasedPoll
) -> PollReport:
    began = clock()
    if github.credential_label == "none":
        # GitHub requires a credential for GraphQL: https://docs.github.com/graphql/guides/forming-calls-with-graphql
        message = "repository search needs a credential: set GITHUB_TOKEN"
        return _defer(database, lease, Forbidden("needs_credential", message, retry_after=3600))
    search = SearchRun(github, Plan.from_json(lease.cursor, began), clock)
    with database.read() as session:
        search.due = later_looks.due(session)
    search.run()
    error = search.error
    if error is not None and not search.has_done_anything:
        return _defer(database, lease, error, search)
    candidates = _candidates(detector, search, lease)
    with database.write() as session:
        count = _commit(session, lease, search, candidates, vendor, _interval(search, began, clock()))
    return PollReport(True, len(search.found), count, len(candidates), error.reason if error else None)


def _candidates(detector: Detector, search: SearchRun, lease: LeasedPoll) -> list[Candidate]:
    web_url, limits = search.github.web_url, CandidateLimits()
    texts = scan_texts(detector, search.found, web_url, lease.budget())
    search.counts.update(texts.unread)
    candidates = limits.take(texts.candidates)
    search.counts.update({f"unread_{reason}": count for reason, count in limits.over.items()})
    return candidates


def _commit(
    session: Session, lease: LeasedPoll, search: SearchRun, candidates: list[Candidate], vendor: str, interval: float
) -> int:
    for missed in search.missed:
        leased_poll.extend_gap(session, SOURCE, missed)
    pushed = [one for one in search.found if not one.is_empty]
    search.counts["empty_repositories"] += len(search.found) - len(pushed)
    search.counts["missed_by_estimate"] += sum(missed.estimated for missed in search.missed)
    now = datetime.now(UTC)
    newest = max((one.pushed_at for one in pushed if one.pushed_at and one.pushed_at <= now), default=None)
    if newest is not None and lease.newest_seen_at is not None:
        newest = max(newest, lease.newest_seen_at)
    leased_poll.end(
        session,
        lease,
        cursor=search.plan.to_json(),
        interval=interval,
        counts=+search.counts,
        newest=newest,
        error=_without_wait(search.error),
    )
    later_looks.write(session, search)
    if candidates:
        sightings.record(session, candidates, source=SOURCE, state=SightingState.UNCHECKED)
    return queue_discovered(session, [discovered(one, vendor) for one in pushed], source=SOURCE)


def _interval(search: SearchRun, began: float, now: float) -> float:
    """Return the seconds from the start of this run to the start of the next one."""
    idle = min(search.idle_seconds(now), MAX_IDLE_SECONDS)
    if isinstance(search.error, Unavailable | Malformed) and not search.counts["requests"]:
        idle = MAX_IDLE_SECONDS  # only the REST search works, so do not try GraphQL again immediately
    wanted = now - began + idle
    return max(wanted, search.seconds / CPU_SHARE, leased_poll.MIN_INTERVAL_SECONDS)


def _defer(database: Database, lease: LeasedPoll, error: GitHubError, search: SearchRun | None = None) -> PollReport:
    """End a failed poll, and store which push times are still to be searched."""
    with database.write() as session:
        if search is not None and isinstance(error, RateLimited):
            for missed in search.missed:
                leased_poll.extend_gap(session, SOURCE, missed)
            lease.lease.write(session, cursor=search.plan.to_json())
            # Poll again before GraphQL's quota is reset, because the REST search has its own quota.
            error = RateLimited(error.reason, str(error), retry_after=MAX_IDLE_SECONDS)
        leased_poll.defer(session, lease, error)
    return PollReport(polled=True, error=error.reason)


def _without_wait(error: GitHubError | None) -> GitHubError | None:
    """Return the error without GitHub's waiting time."""
    # Drop the waiting time: GraphQL and REST have separate quotas, so only one of them must wait.
    return None if error is None else GitHubError(error.reason, str(error))


def _poll_source(context: PollContext) -> PollReport:
    vendor = context.settings.vendor_name
    return poll(context.database, github_for_listings(context), context.detector, vendor=vendor)


REPOSITORY_SEARCH = Source(
    SOURCE, _poll_source, job_kinds=(JobKind.PUSHES,), droppable={JobKind.PUSHES: tuple(PRIORITIES.values())}
)

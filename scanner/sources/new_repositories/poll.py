"""The poll of the list of public repositories."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from scanner.detection import Candidate, Detector
from scanner.detection.candidate_limits import CandidateLimits
from scanner.github.client import GitHub
from scanner.github.errors import Forbidden, GitHubError
from scanner.records.database import Database
from scanner.records.states import JobKind, SightingState
from scanner.response import sightings
from scanner.sources.new_repositories import looks
from scanner.sources.new_repositories.listing import Listing, ListPosition
from scanner.sources.new_repositories.looks import MAX_LOOKS, Looks
from scanner.sources.polling import leased_poll
from scanner.sources.polling.leased_poll import LeasedPoll, MissedSpan
from scanner.sources.polling.report import PollReport
from scanner.sources.polling.source import PollContext, Source, github_for_listings
from scanner.sources.pushes.discovered import queue_discovered
from scanner.sources.pushes.listed import discovered, scan_texts
from scanner.sources.pushes.priorities import PRIORITIES

SOURCE = "new_repositories"
INTERVAL_SECONDS, BEHIND_SECONDS = 30.0, 10.0
"""Seconds between polls: normally, and while ids that earlier polls skipped are still to be listed."""


def poll(
    database: Database,
    github: GitHub,
    detector: Detector,
    *,
    vendor: str,
    wait: Callable[[float], None] = time.sleep,
) -> PollReport:
    """If the poll is due, list new repositories and check earlier ones for a first push.

    Return how many items were stored.

    Args:
        vendor: The vendor's name. Repositories that mention it are scanned first.
    """
    return leased_poll.run_if_due(
        database, SOURCE, wait, lambda lease: _poll(database, github, detector, vendor, lease)
    )


def _poll(database: Database, github: GitHub, detector: Detector, vendor: str, lease: LeasedPoll) -> PollReport:
    if github.credential_label == "none":
        message = "new repositories need a credential: set GITHUB_TOKEN"
        return _defer(database, lease, Forbidden("needs_credential", message, retry_after=3600))
    listing, looked = Listing(ListPosition.from_json(lease.cursor)), Looks()
    with database.read() as session:
        due = looks.due(session)
    # The requests use separate quotas, so send the second one even if the first one fails.
    errors = [
        _error_of(lambda: listing.run(github, time.time())),
        _error_of(lambda: looked.run(github, due)),
    ]
    error = next((one for one in errors if one is not None), None)
    if error is not None and not listing.counts["requests"] and not looked.counts["looks"]:
        return _defer(database, lease, error)
    limits = CandidateLimits()
    texts = scan_texts(detector, [*listing.found, *looked.pushed], github.web_url, lease.budget())
    listing.counts.update(texts.unread)
    candidates = limits.take(texts.candidates)
    listing.counts.update({f"unread_{reason}": count for reason, count in limits.over.items()})
    with database.write() as session:
        jobs = _commit(session, lease, listing, looked, candidates, vendor, error, is_full=len(due) == MAX_LOOKS)
    return PollReport(True, len(listing.found), jobs, len(candidates), error.reason if error else None)


def _commit(
    session: Session,
    lease: LeasedPoll,
    listing: Listing,
    looked: Looks,
    candidates: list[Candidate],
    vendor: str,
    error: GitHubError | None,
    *,
    is_full: bool,
) -> int:
    looks.wait_for_first_push(session, listing.found)
    looked.write(session)
    for span in listing.given_up:
        leased_poll.record_gap(session, SOURCE, _missed(lease, span))
    listing.counts["repositories"] += len(listing.found)
    # Each poll lists some earlier ids again. Only an id above the previous highest one shows a new repository.
    before = ListPosition.from_json(lease.cursor).newest
    interval = BEHIND_SECONDS if listing.place.owed else INTERVAL_SECONDS
    leased_poll.end(
        session,
        lease,
        cursor=listing.place.to_json(),
        interval=leased_poll.MIN_INTERVAL_SECONDS if is_full else interval,
        counts=+(listing.counts + looked.counts),
        newest=datetime.now(UTC) if any(one.id > before for one in listing.found) else None,
        # Omit the error's waiting time, because it would also delay requests that use another quota.
        error=None if error is None else GitHubError(error.reason, str(error)),
    )
    if candidates:
        sightings.record(session, candidates, source=SOURCE, state=SightingState.UNCHECKED)
    return queue_discovered(session, [discovered(one, vendor) for one in looked.pushed], source=SOURCE)


def _defer(database: Database, lease: LeasedPoll, error: GitHubError) -> PollReport:
    with database.write() as session:
        leased_poll.defer(session, lease, error)
    return PollReport(polled=True, error=error.reason)


def _error_of(action: Callable[[], None]) -> GitHubError | None:
    """Call the action. Return the GitHubError that it raised, or None."""
    try:
        action()
    except GitHubError as err:
        return err
    return None


def _missed(lease: LeasedPoll, span: tuple[int, int]) -> MissedSpan:
    """Return the span of time in which the repositories with ids in `span` were created."""
    now = datetime.now(UTC)
    # Estimate half of the ids as missed repositories, because about half of all ids are public:
    # https://github.com/github/rest-api-description/issues/4531.
    return MissedSpan(lease.newest_seen_at or now, now, (span[1] - span[0]) // 2, "not_caught_up")


def _poll_source(context: PollContext) -> PollReport:
    vendor = context.settings.vendor_name
    return poll(context.database, github_for_listings(context), context.detector, vendor=vendor)


NEW_REPOSITORIES = Source(
    SOURCE, _poll_source, job_kinds=(JobKind.PUSHES,), droppable={JobKind.PUSHES: tuple(PRIORITIES.values())}
)

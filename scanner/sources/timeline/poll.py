"""The source that polls GitHub's public events.

GitHub shows about 300 events in no strict order. If a poll has no event in common with earlier polls, events were
missed.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.detection import Candidate, Detector, Document, ScanBudget
from scanner.detection.detector import redacted_place
from scanner.github.client import GitHub
from scanner.github.errors import GitHubError
from scanner.records import spool, unread_contents
from scanner.records.database import Database, is_unavailable
from scanner.records.leases import LeaseLost
from scanner.records.source_models import SourceState
from scanner.records.states import JobKind, SightingState
from scanner.records.unread_contents import NotRead
from scanner.response import sightings
from scanner.response.places import candidate_to_json
from scanner.sources.batches.not_read import not_read
from scanner.sources.canaries import texts as canary_texts
from scanner.sources.files import scan as remote_files
from scanner.sources.files.scan import RemoteFile
from scanner.sources.polling import leased_poll
from scanner.sources.polling.leased_poll import LeasedPoll, MissedSpan
from scanner.sources.polling.report import PollReport
from scanner.sources.polling.source import PollContext, Source
from scanner.sources.pushes.owners import KnownOwners, known_owners
from scanner.sources.pushes.priorities import PUSH_PRIORITIES
from scanner.sources.timeline.event_jobs import REPOSITORY_PRIORITY, TIMELINE, enqueue_found, remember_events
from scanner.sources.timeline.events import Event, Found, read_events
from scanner.sources.timeline.pages import Cursor, EventList, TimelinePoll, poll_pages

SOURCE = TIMELINE
STALE_AFTER = timedelta(minutes=15)
"""A list whose newest event is older may be outdated."""
NEVER_QUIET = "https://api.github.com"
"""The API of GitHub's public instance, which has new events every second."""
SOURCES_OF_EVENTS = ("repository_search", "new_repositories")
"""If these sources have shown much newer items, GitHub's list of public events is outdated."""
MAX_QUARTILE_RANGES = 3
"""Events further than this many interquartile ranges from the middle half are outliers."""
MAX_ESTIMATED = 10_000_000
READER_PATIENCE_SECONDS = 0.5
"""A text waits at most this long for an idle confined process that can open it."""
MAX_TEXT_BYTES = 4 << 20
TEXT_PRIORITY = 130
"""Priority of jobs for texts that took too long to scan."""

_log = logging.getLogger(__name__)


def poll(
    database: Database,
    github: GitHub,
    detector: Detector,
    *,
    state_dir: Path,
    seconds: float | None = None,
    vendor: str = "",
    wait: Callable[[float], None] = time.sleep,
    canaries: Callable[[], Sequence[Event]] = tuple,
) -> PollReport:
    """If the poll is due, read GitHub's public events, and store the jobs and token candidates that result.

    If the database becomes unavailable during the poll, save the results in files.

    Args:
        state_dir: The folder in which the results are saved if the database is unavailable.
        seconds: The seconds between two polls of page 1. None: the interval in GitHub's header X-Poll-Interval.
        vendor: The vendor's name. Repositories that mention it are read first.
        canaries: Returns events with canaries (test tokens), which are read like other events.
    """
    return leased_poll.run_if_due(
        database,
        SOURCE,
        wait,
        lambda leased: _poll(database, github, detector, state_dir, seconds, vendor, canaries, leased),
    )


def _poll(
    database: Database,
    github: GitHub,
    detector: Detector,
    state_dir: Path,
    seconds: float | None,
    vendor: str,
    canaries: Callable[[], Sequence[Event]],
    leased: LeasedPoll,
) -> PollReport:
    try:
        polled = poll_pages(github, Cursor.from_json(leased.cursor))
    except GitHubError as err:
        with database.write() as session:
            leased_poll.defer(session, leased, err)
        return PollReport(polled=True, error=err.reason)
    owners = _owners(database, polled.events)
    found = read_events(polled.events, github.web_url, api_url=github.api_url, owners=owners, vendor=vendor)
    # Scan the texts of canaries (test tokens) with the others, but do not store canaries as events.
    planted = read_events(canaries(), github.web_url)
    texts = _scan(detector, [*found.documents, *planted.documents])
    # If the hourly quota is small, spread the polls over the hour, so that no part of it is left without polls.
    pace = github.gate.seconds_a_request("core") * polled.counts["requests"]
    interval = max(polled.interval if seconds is None else seconds, pace)
    try:
        try:
            with database.write() as session:
                is_quiet = github.api_url != NEVER_QUIET and not _was_newer(session, leased.newest_seen_at, polled)
                return _commit(session, leased, polled, found, texts, interval, may_be_old=is_quiet)
        except LeaseLost:
            # Another worker has polled too, but may have seen other events, so store the events of this poll as well.
            _log.warning("public events: another worker has polled; its cursor is kept, and so are these events")
            with database.write() as session:
                return _take(session, polled, found, texts)
    except Exception as err:
        if is_unavailable(err):
            _keep(state_dir, found, texts)
        raise


def _owners(database: Database, events: Sequence[Event]) -> KnownOwners:
    """Return which owners are known to leak tokens or to have an account of the vendor."""
    try:
        with database.read() as session:
            return known_owners(session, {event.repository.partition("/")[0] for event in events})
    except Exception as err:
        if not is_unavailable(err):
            raise
        return KnownOwners()


@dataclass(slots=True)
class _ScannedTexts:
    """The result of scanning the texts of the events of one poll.

    Attributes:
        to_fetch: Texts that took too long to scan and that jobs will fetch again.
        not_read: Texts that were not read completely and cannot be fetched again.
    """

    candidates: list[Candidate] = field(default_factory=list)
    to_fetch: list[RemoteFile] = field(default_factory=list)
    not_read: list[NotRead] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def _scan(detector: Detector, documents: Iterable[Document]) -> _ScannedTexts:
    """Scan the texts of one poll. If a text takes too long, a job will scan it."""
    texts = _ScannedTexts()
    budget = ScanBudget.for_poll()
    for document in documents:
        result = detector.scan(document, budget, patience=READER_PATIENCE_SECONDS)
        texts.candidates.extend(result.candidates)
        if result.ran_out_of_time and document.refetch_url:
            texts.to_fetch.append(_text_to_fetch(document))
            texts.counts["texts_deferred"] += 1
        else:
            if (missed := not_read(result, document.place, len(document.content))) is not None:
                texts.not_read.append(missed)
            texts.counts.update({f"unread_{reason}": count for reason, count in result.unread.items()})
    return texts


def _text_to_fetch(document: Document) -> RemoteFile:
    return RemoteFile(
        url=document.refetch_url,
        place=redacted_place(document.place),
        limit=MAX_TEXT_BYTES,
        accept="application/vnd.github+json",
    )


def _commit(
    session: Session,
    leased: LeasedPoll,
    polled: TimelinePoll,
    found: Found,
    texts: _ScannedTexts,
    interval: float,
    *,
    may_be_old: bool,
) -> PollReport:
    counts = polled.counts + found.counts + texts.counts
    missed = _missed(leased, polled.pushes, "no_overlap")
    texts_missed = _missed(leased, polled.texts, "texts_no_overlap")
    cursor = polled.cursor
    newest = _newest(leased.newest_seen_at, (event.created_at for event in polled.events), polled.at)
    is_stale = not may_be_old and _is_stale(newest, polled, _usual(polled.times))
    if is_stale:
        _log.warning("public events: GitHub serves an old list", extra={"newest": str(newest)})
        # Drop the ETags, so that GitHub sends the whole list again.
        cursor = replace(cursor, etags={}, is_stale=True)
    counts["stale_list"] += is_stale
    for one in (missed, texts_missed):
        counts["missed_by_estimate"] += one.estimated if one is not None else 0
    leased_poll.end(
        session,
        leased,
        cursor=cursor.to_json(),
        interval=interval,
        counts=+counts,
        newest=newest,
        missed=missed or texts_missed,
        error=polled.error,
    )
    if missed is not None and texts_missed is not None:
        leased_poll.record_gap(session, SOURCE, texts_missed)
    return _take(session, polled, found, texts)


def _take(session: Session, polled: TimelinePoll, found: Found, texts: _ScannedTexts) -> PollReport:
    """Store the new events' ids, the jobs for their pushes, and the token candidates."""
    remember_events(session, polled.events)
    unread_contents.record(session, texts.not_read, source=SOURCE)
    job_count = enqueue_found(session, found)
    job_count += remote_files.enqueue(session, texts.to_fetch, source=SOURCE, priority=TEXT_PRIORITY)
    if texts.candidates:
        sightings.record(session, texts.candidates, source=SOURCE, state=SightingState.UNCHECKED)
    return PollReport(
        True, len(polled.events), job_count, len(texts.candidates), polled.error.reason if polled.error else None
    )


def _missed(leased: LeasedPoll, polled: EventList, reason: str) -> MissedSpan | None:
    """Return the span of missed events before this poll, or None."""
    usual = _usual(polled.times)
    if not polled.has_gap or leased.newest_seen_at is None or not usual:
        return None
    seconds_seen = max((usual[-1] - usual[0]).total_seconds(), 1.0)
    seconds_missed = max((usual[0] - leased.newest_seen_at).total_seconds(), 0.0)
    estimated = min(int(len(usual) / seconds_seen * seconds_missed), MAX_ESTIMATED)
    return MissedSpan(min(leased.newest_seen_at, usual[0]), usual[0], estimated, reason)


def _usual(ordered: Sequence[datetime]) -> Sequence[datetime]:
    """Return the times without outliers."""
    if not ordered:
        return ordered
    low, high = ordered[len(ordered) // 4], ordered[-1 - len(ordered) // 4]
    reach = MAX_QUARTILE_RANGES * max(high - low, timedelta(seconds=1))
    return [at for at in ordered if at - high <= reach and low - at <= reach]


def _is_stale(known: datetime | None, polled: TimelinePoll, usual: Sequence[datetime]) -> bool:
    """Return whether GitHub serves an outdated list, whose newest event is older than STALE_AFTER."""
    newest = usual[-1] if usual else known
    return newest is not None and polled.at - newest > STALE_AFTER


def _was_newer(session: Session, known: datetime | None, polled: TimelinePoll) -> bool:
    """Return whether r8scan has already seen an event that is much newer than this list of events."""
    usual = _usual(polled.times)
    newest = usual[-1] if usual else known
    if newest is None:
        return False
    statement = select(func.max(SourceState.newest_seen_at)).where(SourceState.source.in_(SOURCES_OF_EVENTS))
    elsewhere = session.execute(statement).scalar_one()
    return any(at is not None and at - newest > STALE_AFTER for at in (known, elsewhere))


def _newest(before: datetime | None, times: Iterable[datetime | None], now: datetime) -> datetime | None:
    # Ignore times in the future, which come from a wrong clock and would hide later delays.
    return max((at for at in [before, *times] if at is not None and at <= now), default=before)


def _keep(state_dir: Path, found: Found, texts: _ScannedTexts) -> None:
    """Save the results in files, because the database is unavailable."""
    spool.save(
        state_dir,
        "poll",
        {
            "source": SOURCE,
            "pushes": [push.to_json() for push in found.pushes],
            "repositories": [
                [name, repository_id, at.isoformat() if at else None] for name, repository_id, at in found.repositories
            ],
            "candidates": [candidate_to_json(candidate) for candidate in texts.candidates],
            "files": [file.to_json() for file in texts.to_fetch],
        },
    )


def _poll_source(context: PollContext, clock: Callable[[], float] = time.monotonic) -> PollReport:
    """Poll GitHub's public events. If the interval is shorter than MIN_INTERVAL_SECONDS, poll repeatedly until
    this time has passed.
    """
    seconds, until = context.settings.events_poll_seconds, clock() + leased_poll.MIN_INTERVAL_SECONDS
    canaries = partial(canary_texts.events, context.database, context.policy, context.detector.digester)
    total = PollReport()
    while True:
        report = poll(
            context.database,
            context.github,
            context.detector,
            state_dir=context.settings.state_dir,
            seconds=seconds,
            vendor=context.settings.vendor_name,
            canaries=canaries,
        )
        total = total.plus(report)
        is_fast = seconds is not None and seconds < leased_poll.MIN_INTERVAL_SECONDS
        if not is_fast or not report.polled or report.error or clock() >= until:
            return total


PUBLIC_EVENTS = Source(
    SOURCE,
    _poll_source,
    job_kinds=(JobKind.PUSHES, JobKind.REPOSITORY, JobKind.FILES),
    droppable={
        JobKind.PUSHES: PUSH_PRIORITIES,
        JobKind.REPOSITORY: (REPOSITORY_PRIORITY,),
        JobKind.FILES: (TEXT_PRIORITY,),
    },
)

"""Runs a job that reads several items in parallel and responds to the tokens in each."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from sqlalchemy.orm import Session

from scanner.detection import Candidate
from scanner.github.errors import BadCredential, GitHubError, NotFound, RateLimited
from scanner.records import jobs, security_log, spool, tallies, unread_contents
from scanner.records.database import Database, is_unavailable
from scanner.records.jobs import ClaimedJob
from scanner.records.leases import LeaseLost
from scanner.records.states import JobKind, JobState
from scanner.records.unread_contents import NotRead
from scanner.response.places import candidate_to_json
from scanner.response.policy import Policy
from scanner.response.respond import Response
from scanner.response.responder import respond_to
from scanner.sources.found_tokens import FoundTokens
from scanner.sources.polling.backoff import spread

MAX_TRIES = 8
MAX_RETRY_SECONDS = 3600.0
RETRY_PRIORITY, SINGLE_PRIORITY = 90, 94
SLOW_KINDS = {JobKind.PUSHES: JobKind.SLOW_PUSHES, JobKind.FILES: JobKind.SLOW_FILES}
"""For each kind of job, the kind of job that reads a single slow item."""

_log = logging.getLogger(__name__)


class Item(Protocol):
    """One item for a job to read.

    `label` is its name in error messages. `published_at` is when the item became public.
    """

    @property
    def label(self) -> str: ...
    @property
    def tries(self) -> int: ...
    @property
    def published_at(self) -> datetime | None: ...
    def to_json(self) -> dict[str, Any]: ...


T = TypeVar("T", bound=Item)


@dataclass(slots=True)
class ItemOutcome(Generic[T]):
    """The result of reading one item.

    Attributes:
        is_cut_off: Whether the answer was cut off. A retry may read the rest.
        is_damaged: Whether the content was corrupt. The item is then retried once.
        is_slow: Whether the item takes so long that it needs a separate job.
    """

    item: T
    counts: Counter[str] = field(default_factory=Counter)
    not_read: Sequence[NotRead] = ()
    response: Response = field(default_factory=Response)
    error: GitHubError | None = None
    is_partial: bool = False
    is_cut_off: bool = False
    is_damaged: bool = False
    is_slow: bool = False

    @property
    def waits(self) -> bool:
        """Return whether no request was sent, for example because of a rate limit."""
        return self.error is not None and not self.error.asked


def work(
    database: Database,
    job: ClaimedJob,
    items: Sequence[T],
    read: Callable[[T], ItemOutcome[T]],
    *,
    threads: int,
    on_close: Callable[[Session, Sequence[ItemOutcome[T]]], None] = lambda *_: None,
) -> Response:
    """Read the items of a claimed job and close the job.

    If the job has failed twice, split it into one job for each item instead.

    Args:
        read: Reads one item. Several threads call it.
        on_close: Called with the outcomes of the items, in the transaction that closes the job.

    Raises:
        LeaseLost: Another worker claimed the job after this lease expired.
    """
    if job.failures >= 2 and len(items) > 1:
        # An item may have crashed the worker, so give each item its own job.
        _split(database, job, items)
        return Response()
    with jobs.keep_renewed(database, job) as keeping:
        outcomes = _read_all(job, items, read, threads, keeping.lost)
    total = Response()
    for outcome in outcomes:
        total.add(outcome.response)
    with database.write() as session:
        _close(session, job, outcomes)
        on_close(session, outcomes)
    return total


def respond_or_keep(
    database: Database, candidates: Sequence[Candidate], *, source: str, policy: Policy, state_dir: Path
) -> Response:
    """Look the token candidates up, disable the real tokens, and return what was done.

    If the database cannot be reached, save the candidates in files and raise the database's error.
    """
    try:
        return respond_to(database, candidates, source=source, policy=policy)
    except Exception as err:
        if is_unavailable(err):
            content = {"source": source, "candidates": [candidate_to_json(candidate) for candidate in candidates]}
            spool.save(state_dir, "candidates", content)
        raise


def first_visible(items: Sequence[T]) -> datetime | None:
    """Return the earliest time at which an item became public, or None if no time is known."""
    return min((item.published_at for item in items if item.published_at is not None), default=None)


def _read_all(
    job: ClaimedJob, items: Sequence[T], read: Callable[[T], ItemOutcome[T]], threads: int, lost: threading.Event
) -> list[ItemOutcome[T]]:
    """Read the items in parallel and return their outcomes."""

    def one(item: T) -> ItemOutcome[T]:
        if lost.is_set():
            raise LeaseLost(f"another worker has claimed job {job.id}; nothing was written")
        with security_log.of_job(job.id):
            return read(item)

    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        return list(pool.map(one, items))


def _close(session: Session, job: ClaimedJob, outcomes: Sequence[ItemOutcome[T]]) -> None:
    waiting = _waiting(outcomes)
    if len(waiting) == 1 and all(outcome.waits for outcome in outcomes):
        # No request could be sent, so queue the job again for when GitHub accepts requests.
        first = waiting[0][0]
        jobs.requeue_unread(session, job, delay=_wait(first), error=str(first))
        return
    counts = Counter[str]()
    errors: list[str] = []
    for outcome in outcomes:
        counts[job.kind] += 1
        if not outcome.waits:
            counts.update(_settle(session, job, outcome))
            if outcome.error is not None and not isinstance(outcome.error, NotFound):
                errors.append(f"{outcome.item.label}: {outcome.error}")
    for err, items in waiting:
        # These items were not attempted, so keep their priority.
        _enqueue(session, job, items, delay=_wait(err), priority=job.priority)
        counts["retried"] += len(items)
    counts = +counts
    state = JobState.DONE
    if counts["partly_read"] or counts["given_up"]:
        state = JobState.FAILED if counts["given_up"] == len(outcomes) else JobState.PARTIAL
    unread_contents.record(
        session, [one for outcome in outcomes for one in outcome.not_read], source=job.source, job_id=job.id
    )
    tallies.add(session, job.source, {**counts, "jobs": 1})
    if job.source == "rescan":
        # Count the found tokens only for rescans, which operators request, because counting needs extra database
        # queries.
        found = FoundTokens()
        for outcome in outcomes:
            found.add(outcome.response)
        counts += found.counts(session, job.id)
    elif known := sum(outcome.response.known for outcome in outcomes):
        counts["known"] = known
    jobs.finish(session, job, state, counts=counts, error="; ".join(errors)[:2000] or None)


def _waiting(outcomes: Sequence[ItemOutcome[T]]) -> list[tuple[GitHubError, list[T]]]:
    """Return the items for which no request could be sent, grouped by error."""
    found: dict[tuple[str, str], tuple[GitHubError, list[T]]] = {}
    for outcome in outcomes:
        err = outcome.error
        if err is not None and outcome.waits:
            found.setdefault((err.reason, err.resource), (err, []))[1].append(outcome.item)
    return list(found.values())


def _settle(session: Session, job: ClaimedJob, outcome: ItemOutcome[T]) -> Counter[str]:
    """Queue a retry of the item if a retry can help. Return the item's counters."""
    item, err = outcome.item, outcome.error
    counts = Counter(outcome.counts)
    may_try = item.tries + 1 < MAX_TRIES
    if err is None:
        if outcome.is_slow:
            _leave_to_slow_job(session, job, item)
            counts["deferred"] += 1
        elif may_try and (outcome.is_cut_off or (outcome.is_damaged and not item.tries)):
            _retry(session, job, item, spread(2.0 * 4.0**item.tries))
            counts["retried"] += 1
        elif outcome.is_partial:
            counts["partly_read"] += 1
        return counts
    counts[f"error_{err.reason}"] += 1
    if isinstance(err, NotFound):
        return counts  # the item is deleted, private, blocked or empty, so it has no public content
    if may_try and not err.is_final:
        _retry(session, job, item, _delay(item, err))
        counts["retried"] += 1
    else:
        counts["given_up"] += 1
    return counts


def _retry(session: Session, job: ClaimedJob, item: T, delay: float) -> None:
    _enqueue(session, job, [replace(item, tries=item.tries + 1)], delay=delay)  # type: ignore[type-var]


def _leave_to_slow_job(session: Session, job: ClaimedJob, item: Item) -> None:
    kind = SLOW_KINDS[job.kind]
    target = {name: value for name, value in job.target.items() if name != job.kind}
    jobs.enqueue(
        session,
        kind,
        {**target, kind: [item.to_json()]},
        source=job.source,
        priority=job.priority,
        visible_at=item.published_at,
        parent_id=job.id,
    )


def _enqueue(
    session: Session, job: ClaimedJob, items: Sequence[Item], *, delay: float = 0, priority: int = RETRY_PRIORITY
) -> None:
    jobs.enqueue(
        session,
        job.kind,
        # Keep the other fields of `target`, which say where the items come from.
        {**job.target, job.kind: [item.to_json() for item in items]},
        source=job.source,
        priority=priority,
        delay=delay,
        visible_at=first_visible(items),
    )


def _wait(err: GitHubError) -> float:
    return spread(min(err.retry_after or 60.0, MAX_RETRY_SECONDS))


def _delay(item: Item, err: GitHubError) -> float:
    """Return the seconds until the next attempt to read the item."""
    if isinstance(err, RateLimited | BadCredential):
        wait = (err.retry_after or 60.0) * 2.0**item.tries
    else:
        # MAX_TRIES attempts outlast an outage of an hour.
        wait = max(err.retry_after or 0.0, 2.0 * 4.0**item.tries)
    return spread(min(wait, MAX_RETRY_SECONDS))


def _split(database: Database, job: ClaimedJob, items: Sequence[Item]) -> None:
    with database.write() as session:
        for item in items:
            _enqueue(session, job, [item], priority=SINGLE_PRIORITY)
        jobs.finish(session, job, JobState.DONE, counts={"split": len(items)})
    _log.warning("a page failed twice: each of its items gets a separate job", extra={"job": job.id})

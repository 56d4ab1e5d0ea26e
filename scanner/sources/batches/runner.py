"""A job that is a page of items: read side by side, each responded to as it comes, closed with jobs for what is left.

What an item is, and how it is read, is not known here.
"""

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
from scanner.records import jobs, spool, tallies, unread_contents
from scanner.records.database import Database, is_unavailable
from scanner.records.jobs import ClaimedJob
from scanner.records.leases import LeaseLost
from scanner.records.states import JobKind, JobState
from scanner.records.unread_contents import NotRead
from scanner.response.places import candidate_to_json
from scanner.response.policy import Policy
from scanner.response.respond import Response
from scanner.response.responder import respond_to
from scanner.sources.polling.backoff import spread

MAX_TRIES = 8
MAX_RETRY_SECONDS = 3600.0
RETRY_PRIORITY, SINGLE_PRIORITY = 90, 94
SLOW_KINDS = {JobKind.PUSHES: JobKind.SLOW_PUSHES, JobKind.FILES: JobKind.SLOW_FILES}
"""Kinds of jobs, and the kind of the job that reads one item alone where a page of many would wait for it too long."""

_log = logging.getLogger(__name__)


class Item(Protocol):
    """One thing to read. `label` names it in errors, `published_at` is when it became public."""

    @property
    def label(self) -> str: ...
    @property
    def tries(self) -> int: ...
    @property
    def published_at(self) -> datetime | None: ...
    def to_json(self) -> dict[str, Any]: ...


T = TypeVar("T", bound=Item)


@dataclass(slots=True)
class Outcome(Generic[T]):
    """What became of one item: counts of what was read, or the error that kept us from it.

    `is_partial`: not all of it was read; `is_cut_off`: asking again may bring the rest, `is_damaged`: perhaps once.
    `is_slow`: it takes longer than others of a page should wait.
    An error that was not `asked` for is a refusal of our own: it is no try.
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
        return self.error is not None and not self.error.asked


def work(
    database: Database,
    job: ClaimedJob,
    items: Sequence[T],
    read: Callable[[T], Outcome[T]],
    *,
    threads: int,
    on_close: Callable[[Session, Sequence[Outcome[T]]], None] = lambda *_: None,
) -> Response:
    """Read the items of a claimed job and close it; `on_close` joins the closing transaction.

    LeaseLost when the job went to another worker. A page that failed twice is split into jobs of one item.
    """
    if job.failures >= 2 and len(items) > 1:
        # Something in this page kills its worker: alone, each item can fail without the others.
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
    """Respond; when the database is away, put the candidates into the spool before its error goes on."""
    try:
        return respond_to(database, candidates, source=source, policy=policy)
    except Exception as err:
        if is_unavailable(err):
            content = {"source": source, "candidates": [candidate_to_json(candidate) for candidate in candidates]}
            spool.save(state_dir, "candidates", content)
        raise


def first_visible(items: Sequence[T]) -> datetime | None:
    """When the first of them became public, where that is known."""
    return min((item.published_at for item in items if item.published_at is not None), default=None)


def _read_all(
    job: ClaimedJob, items: Sequence[T], read: Callable[[T], Outcome[T]], threads: int, lost: threading.Event
) -> list[Outcome[T]]:
    """Each item by itself: a limit that one runs into, the gate keeps from the others, where it is theirs as well."""

    def one(item: T) -> Outcome[T]:
        if lost.is_set():
            raise LeaseLost(f"another worker has claimed job {job.id}; nothing was written")
        return read(item)

    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        return list(pool.map(one, items))


def _close(session: Session, job: ClaimedJob, outcomes: Sequence[Outcome[T]]) -> None:
    waiting = _waiting(outcomes)
    if len(waiting) == 1 and all(outcome.waits for outcome in outcomes):
        # Nothing of the page was asked for: it stays as it is until GitHub may be asked again.
        first = waiting[0][0]
        jobs.requeue_unread(session, job, delay=_wait(first), error=str(first))
        return
    counts = Counter[str]()
    errors: list[str] = []
    for outcome in outcomes:
        counts[job.kind] += 1
        if not outcome.waits:
            _settle(session, job, outcome, counts, errors)
    for err, items in waiting:
        # They have lost nothing but time: as likely as before, and still among what may be dropped.
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
    jobs.finish(session, job, state, counts=counts, error="; ".join(errors)[:2000] or None)


def _waiting(outcomes: Sequence[Outcome[T]]) -> list[tuple[GitHubError, list[T]]]:
    """Items that our own gate kept back, and why: those for one budget need not wait for another."""
    found: dict[tuple[str, str], tuple[GitHubError, list[T]]] = {}
    for outcome in outcomes:
        err = outcome.error
        if err is not None and outcome.waits:
            found.setdefault((err.reason, err.resource), (err, []))[1].append(outcome.item)
    return list(found.values())


def _settle(session: Session, job: ClaimedJob, outcome: Outcome[T], counts: Counter[str], errors: list[str]) -> None:
    """Count what became of one item; try it again where that can help."""
    item, err = outcome.item, outcome.error
    counts.update(outcome.counts)
    may_try = item.tries + 1 < MAX_TRIES
    if err is None:
        if outcome.is_slow:
            _leave_to_slow_job(session, job, item)
            counts["deferred"] += 1
        elif may_try and (outcome.is_cut_off or (outcome.is_damaged and not item.tries)):
            _retry(session, job, item, spread(2.0 * 4.0**item.tries), counts)
        elif outcome.is_partial:
            counts["partly_read"] += 1
        return
    counts[f"error_{err.reason}"] += 1
    if isinstance(err, NotFound):
        return  # deleted, made private, blocked or empty: nothing is public there
    errors.append(f"{item.label}: {err}")
    if may_try and not err.is_final:
        _retry(session, job, item, _delay(item, err), counts)
    else:
        counts["given_up"] += 1


def _retry(session: Session, job: ClaimedJob, item: T, delay: float, counts: Counter[str]) -> None:
    _enqueue(session, job, [replace(item, tries=item.tries + 1)], delay=delay)  # type: ignore[type-var]
    counts["retried"] += 1


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
        # What else the target says of where the items come from is true of each of them.
        {**job.target, job.kind: [item.to_json() for item in items]},
        source=job.source,
        priority=priority,
        delay=delay,
        visible_at=first_visible(items),
    )


def _wait(err: GitHubError) -> float:
    return spread(min(err.retry_after or 60.0, MAX_RETRY_SECONDS))


def _delay(item: Item, err: GitHubError) -> float:
    """Seconds: a limit is obeyed, then approached more slowly; all tries together outlast an outage of an hour."""
    if isinstance(err, RateLimited | BadCredential):
        wait = (err.retry_after or 60.0) * 2.0**item.tries
    else:
        wait = max(err.retry_after or 0.0, 2.0 * 4.0**item.tries)
    return spread(min(wait, MAX_RETRY_SECONDS))


def _split(database: Database, job: ClaimedJob, items: Sequence[Item]) -> None:
    with database.write() as session:
        for item in items:
            _enqueue(session, job, [item], priority=SINGLE_PRIORITY)
        jobs.finish(session, job, JobState.DONE, counts={"split": len(items)})
    _log.warning("a page failed twice and was split", extra={"job": job.id})

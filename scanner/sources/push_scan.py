"""Does a `pushes` job: reads each push of the page, responds at once, and closes the job with what is left to do."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.detection import Candidate, Detector
from scanner.github.client import GitHub
from scanner.github.errors import BadCredential, GitHubError, NotFound, RateLimited
from scanner.github.packs import PackLimits
from scanner.records import jobs, leases, spool
from scanner.records.database import Database, is_unavailable
from scanner.records.jobs import ClaimedJob
from scanner.records.leases import LeaseLost
from scanner.records.models import ReadPush, db_now
from scanner.records.outbox import insert_or_nothing
from scanner.response.places import candidate_to_json
from scanner.response.respond import Policy, Response, respond
from scanner.sources.push_content import Push, PushReading, read_push

MOST_TRIES = 8
LONGEST_RETRY_SECONDS = 3600.0
KNOWN_TIPS = 1000

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What became of one push: a reading, or the error that kept us from it."""

    push: Push
    reading: PushReading | None = None
    response: Response = field(default_factory=Response)
    error: GitHubError | None = None
    skipped: bool = False
    asked: bool = True


def scan_next(
    database: Database,
    github: GitHub,
    detector: Detector,
    policy: Policy,
    *,
    limits: PackLimits,
    threads: int,
    state_dir: Path,
) -> Response | None:
    """Do the most urgent job that is due; None when there is none."""
    job = jobs.claim_next(database, "pushes")
    if job is None:
        return None
    pushes = [Push.from_json(value) for value in job.target["pushes"]]
    if job.failures >= 2 and len(pushes) > 1:
        # Something in this page kills its worker: alone, each push can fail without the others.
        _split(database, job, pushes)
        return Response()
    total = Response()
    refusals: list[GitHubError] = []
    with leases.kept(database, job.lease) as lost, ThreadPoolExecutor(min(threads, len(pushes))) as pool:

        def work(push: Push) -> Outcome:
            if lost.is_set():
                raise LeaseLost(f"the lease on job {job.id} went to another worker")
            if refusals:
                # Asking on would make the limit worse; it is not the push's failure.
                return Outcome(push, error=refusals[0], asked=False)
            outcome = _one_push(database, github, detector, policy, push, limits, job.source, state_dir)
            if isinstance(outcome.error, RateLimited | BadCredential):
                refusals.append(outcome.error)
            return outcome

        outcomes = list(pool.map(work, pushes))
    for outcome in outcomes:
        total.add(outcome.response)
    with database.write() as session:
        _close(session, job, outcomes)
    return total


def _one_push(
    database: Database,
    github: GitHub,
    detector: Detector,
    policy: Policy,
    push: Push,
    limits: PackLimits,
    source: str,
    state_dir: Path,
) -> Outcome:
    outcome = Outcome(push)
    tips = _known_tips(database, push)
    if push.kind == "push" and (push.before, push.head) in tips:
        outcome.skipped = True
        return outcome
    try:
        known_tips = [head for _, head in tips]
        outcome.reading = read_push(github, push, detector, limits=limits, known_tips=known_tips)
    except GitHubError as err:
        outcome.error = err
        return outcome
    if outcome.reading.candidates:
        outcome.response = respond_or_keep(
            database, outcome.reading.candidates, source=source, policy=policy, state_dir=state_dir
        )
    return outcome


def respond_or_keep(
    database: Database, candidates: Sequence[Candidate], *, source: str, policy: Policy, state_dir: Path
) -> Response:
    """Respond; when the database is away, put the candidates into the spool before its error goes on."""
    try:
        return respond(database, candidates, source=source, policy=policy)
    except Exception as err:
        if is_unavailable(err):
            content = {"source": source, "candidates": [candidate_to_json(candidate) for candidate in candidates]}
            spool.save(state_dir, "candidates", content)
        raise


def _known_tips(database: Database, push: Push) -> list[tuple[str, str]]:
    """(before, head) of this repository that were read completely, newest first."""
    if push.repository_id is None:
        return []
    with database.read() as session:
        statement = (
            select(ReadPush.before, ReadPush.head)
            .where(ReadPush.repository_id == push.repository_id)
            .order_by(ReadPush.read_at.desc())
            .limit(KNOWN_TIPS)
        )
        return list(session.execute(statement))


def _close(session: Session, job: ClaimedJob, outcomes: Sequence[Outcome]) -> None:
    """The job's end, what was read completely, and a job of its own for each push that has to be retried."""
    counts = Counter[str]()
    errors: list[str] = []
    partial = False
    for outcome in outcomes:
        push, reading, err = outcome.push, outcome.reading, outcome.error
        counts["pushes"] += 1
        counts["skipped_already_read"] += outcome.skipped
        counts["candidates"] += 0 if reading is None else len(reading.candidates)
        if reading is not None:
            counts["objects"] += reading.objects
            counts["bytes"] += reading.bytes
            counts.update({f"unread_{reason}": count for reason, count in reading.unread.items()})
            if reading.complete:
                _remember(session, push, reading)
            elif reading.is_cut_off and push.tries + 1 < MOST_TRIES:
                _retry(session, job, push.again(), 2.0 * 4.0**push.tries, counts)
            else:
                partial = True
        elif err is not None:
            counts[f"error_{err.reason}"] += 1
            if isinstance(err, NotFound):
                continue  # deleted or made private between event and fetch: nothing is public there any more
            errors.append(f"{push.repository}: {err}")
            if not outcome.asked or push.tries + 1 < MOST_TRIES:
                following = push.again() if outcome.asked else push
                _retry(session, job, following, _delay(push, err), counts)
            else:
                partial = True
                counts["given_up"] += 1
    state = "done"
    if partial:
        state = "failed" if counts["given_up"] == len(outcomes) else "partial"
    jobs.finish(session, job, state, counts=+counts, error="; ".join(errors)[:2000] or None)


def _retry(session: Session, job: ClaimedJob, push: Push, delay: float, counts: Counter[str]) -> None:
    target = {"pushes": [push.to_json()]}
    jobs.enqueue(session, "pushes", target, source=job.source, priority=90, delay=delay)
    counts["retried"] += 1


def _remember(session: Session, push: Push, reading: PushReading) -> None:
    head = push.head or reading.tip
    if push.repository_id is None or not head:
        return
    session.execute(
        insert_or_nothing(session, ReadPush).values(
            repository_id=push.repository_id, head=head, before=push.before, read_at=db_now()
        )
    )


def _delay(push: Push, err: GitHubError) -> float:
    """Seconds: a limit is obeyed, then approached more slowly; all tries together outlast an outage of an hour."""
    if isinstance(err, RateLimited | BadCredential):
        wait = (err.retry_after or 60.0) * 2.0**push.tries
    else:
        wait = max(err.retry_after or 0.0, 2.0 * 4.0**push.tries)
    return min(wait, LONGEST_RETRY_SECONDS)


def _split(database: Database, job: ClaimedJob, pushes: Sequence[Push]) -> None:
    with database.write() as session:
        for push in pushes:
            jobs.enqueue(session, "pushes", {"pushes": [push.to_json()]}, source=job.source, priority=95)
        jobs.finish(session, job, "done", counts={"split": len(pushes)})
    _log.warning("a page of pushes failed twice and was split", extra={"job": job.id})

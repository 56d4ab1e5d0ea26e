"""Does a `pushes` job: reads each push of the page, responds at once, and closes the job with what is left to do."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.orm import Session

from scanner.detection import Candidate, Detector
from scanner.github.client import GitHub
from scanner.github.errors import BadCredential, GitHubError, NotFound, RateLimited
from scanner.github.packs import PackLimits
from scanner.records import jobs, leases, spool, tallies
from scanner.records.database import Database, is_unavailable
from scanner.records.jobs import ClaimedJob
from scanner.records.leases import LeaseLost
from scanner.response.places import candidate_to_json
from scanner.response.respond import Policy, Response, respond
from scanner.sources import push_memory
from scanner.sources.push_content import Push, PushReading, first_visible, read_push
from scanner.sources.push_memory import PushMemory

MOST_TRIES = 8
LONGEST_RETRY_SECONDS = 3600.0
RETRY_PRIORITY, SINGLE_PRIORITY = 90, 95

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Outcome:
    """What became of one push: a reading, or the error that kept us from it."""

    push: Push
    reading: PushReading | None = None
    response: Response = field(default_factory=Response)
    error: GitHubError | None = None
    skipped: str = ""
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
    with database.read() as session:
        memory = push_memory.recall(session, pushes)
    with leases.kept(database, job.lease) as lost, ThreadPoolExecutor(min(threads, len(pushes))) as pool:

        def work(push: Push) -> Outcome:
            if lost.is_set():
                raise LeaseLost(f"the lease on job {job.id} went to another worker")
            if refusals:
                # Asking on would make the limit worse; it is not the push's failure.
                return Outcome(push, error=refusals[0], asked=False)
            outcome = _one_push(database, github, detector, policy, push, memory, limits, job.source, state_dir)
            if outcome.error is not None and _is_for_all(outcome.error):
                refusals.append(outcome.error)
                outcome.asked = outcome.error.reason not in NOT_ASKED
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
    memory: PushMemory,
    limits: PackLimits,
    source: str,
    state_dir: Path,
) -> Outcome:
    outcome = Outcome(push)
    if memory.is_read_here(push):
        outcome.skipped = "already_read"
        return outcome
    candidates: Sequence[Candidate] | None = memory.elsewhere(push, github.web_url)
    if candidates is not None:
        outcome.skipped = "read_elsewhere"
    else:
        try:
            tips = memory.known_tips(push)
            outcome.reading = read_push(github, push, detector, limits=limits, known_tips=tips)
        except GitHubError as err:
            outcome.error = err
            return outcome
        candidates = outcome.reading.candidates
    if candidates:
        outcome.response = respond_or_keep(database, candidates, source=source, policy=policy, state_dir=state_dir)
    return outcome


NOT_ASKED = ("circuit_open", "budget_spent", "budget_reserved")
"""Refusals of our own gate: nothing went out, so it is no try."""


def _is_for_all(err: GitHubError) -> bool:
    """Whether asking for the next push would meet the same refusal."""
    return isinstance(err, RateLimited | BadCredential) or err.reason in NOT_ASKED


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


def _close(session: Session, job: ClaimedJob, outcomes: Sequence[Outcome]) -> None:
    """The job's end, what was read completely, and jobs for what has to be retried."""
    waiting = [outcome for outcome in outcomes if not outcome.asked and outcome.error is not None]
    if len(waiting) == len(outcomes):
        # Nothing of the page was asked for: it stays as it is until GitHub may be asked again.
        first = waiting[0].error
        assert first is not None  # noqa: S101 - chosen by it
        job.lease.write(session, failures=0)
        jobs.postpone(session, job, delay=_wait(first), error=str(first))
        return
    counts = Counter[str]()
    errors: list[str] = []
    for outcome in outcomes:
        counts["pushes"] += 1
        if outcome.asked:
            _settle(session, job, outcome, counts, errors)
    if waiting and (first := waiting[0].error) is not None:
        _retry(session, job, [outcome.push for outcome in waiting], _wait(first), counts)
    push_memory.remember(session, [(outcome.push, outcome.reading) for outcome in outcomes if outcome.reading])
    counts = +counts
    state = "done"
    if counts["partly_read"] or counts["given_up"]:
        state = "failed" if counts["given_up"] == len(outcomes) else "partial"
    tallies.add(session, job.source, {**counts, "jobs": 1})
    jobs.finish(session, job, state, counts=counts, error="; ".join(errors)[:2000] or None)


def _settle(session: Session, job: ClaimedJob, outcome: Outcome, counts: Counter[str], errors: list[str]) -> None:
    """Count what became of one push; try it again where that can help."""
    push, reading, err = outcome.push, outcome.reading, outcome.error
    if outcome.skipped:
        counts[f"skipped_{outcome.skipped}"] += 1
    elif reading is not None:
        counts["candidates"] += len(reading.candidates)
        counts["objects"] += reading.objects
        counts["bytes"] += reading.bytes
        counts.update({f"unread_{reason}": count for reason, count in reading.unread.items()})
        if reading.is_cut_off and push.tries + 1 < MOST_TRIES:
            _retry(session, job, [push.again()], 2.0 * 4.0**push.tries, counts)
        elif not reading.complete:
            counts["partly_read"] += 1
    elif err is not None:
        counts[f"error_{err.reason}"] += 1
        if isinstance(err, NotFound):
            return  # deleted or made private between event and fetch: nothing is public there any more
        errors.append(f"{push.repository}: {err}")
        if push.tries + 1 < MOST_TRIES:
            _retry(session, job, [push.again()], _delay(push, err), counts)
        else:
            counts["given_up"] += 1


def _retry(session: Session, job: ClaimedJob, pushes: Sequence[Push], delay: float, counts: Counter[str]) -> None:
    target = {"pushes": [push.to_json() for push in pushes]}
    jobs.enqueue(
        session,
        "pushes",
        target,
        source=job.source,
        priority=RETRY_PRIORITY,
        delay=delay,
        visible_at=first_visible(pushes),
    )
    counts["retried"] += len(pushes)


def _wait(err: GitHubError) -> float:
    return min(err.retry_after or 60.0, LONGEST_RETRY_SECONDS)


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
            jobs.enqueue(
                session,
                "pushes",
                {"pushes": [push.to_json()]},
                source=job.source,
                priority=SINGLE_PRIORITY,
                visible_at=push.published_at,
            )
        jobs.finish(session, job, "done", counts={"split": len(pushes)})
    _log.warning("a page of pushes failed twice and was split", extra={"job": job.id})

"""Runs long jobs, for example scans of whole repositories, step by step."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from scanner.detection import Detector
from scanner.github.client import GitHub
from scanner.github.errors import BadCredential, GitHubError, NotFound, RateLimited, Unavailable
from scanner.github.mirrors import MirrorStopped
from scanner.records import jobs, tallies, unread_contents
from scanner.records.database import Database
from scanner.records.jobs import ClaimedJob
from scanner.records.leases import LeaseLost
from scanner.records.states import JobKind, JobState
from scanner.records.time_limits import MAX_STEP_SECONDS
from scanner.response.policy import Policy
from scanner.response.respond import Response
from scanner.settings import Settings
from scanner.sources.archive import hours as archive_hours
from scanner.sources.found_tokens import FoundTokens
from scanner.sources.polling.backoff import spread
from scanner.sources.rescan import conversations, owners
from scanner.sources.rescan import history as rescan_history
from scanner.sources.rescan.mirror_folders import remove_abandoned
from scanner.sources.rescan.steps import NotNow, Work

MAX_RETRY_SECONDS = 3600.0
CREDENTIAL_RETRY_SECONDS = 600.0
RESERVE = 0.2
"""The share of the REST quota that is left to polling."""
MAX_TRIES = jobs.MAX_FAILURES - 1
"""An optional step is skipped after this many attempts without progress."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RescanStep:
    """A step of a long job. If an `optional` step fails, the job continues with the next step."""

    name: str
    do: Callable[[Work], Response]
    optional: bool = True


STEPS: dict[JobKind, tuple[RescanStep, ...]] = {
    JobKind.REPOSITORY: (
        RescanStep("repository", rescan_history.read_repository, optional=False),
        RescanStep("wiki", rescan_history.read_wiki),
        *(RescanStep(name, conversations.reader(name)) for name in conversations.OF_REPOSITORIES),
    ),
    JobKind.GIST: (
        RescanStep("gist", rescan_history.read_gist, optional=False),
        RescanStep("gist_comments", conversations.reader("gist_comments")),
    ),
    JobKind.OWNER: (
        RescanStep("repositories", owners.queue_repositories, optional=False),
        RescanStep("gists", owners.queue_gists),
    ),
    JobKind.ARCHIVE_HOUR: (RescanStep("archive", archive_hours.read_hour, optional=False),),
}
KINDS = tuple(STEPS)


def rescan_next(
    database: Database, github: GitHub, detector: Detector, policy: Policy, *, settings: Settings
) -> Response | None:
    """Run one step of the most urgent job that is due. Return None if no job is due.

    Args:
        github: The GitHub client. The steps leave the share RESERVE of the request quota to polling.
    """
    remove_abandoned(settings.state_dir)
    job = jobs.claim_next(database, *KINDS)
    if job is None:
        return None
    try:
        return _work(database, github.reserving(RESERVE), detector, policy, job, settings)
    except (MirrorStopped, LeaseLost):
        _log.warning("a rescan was cancelled or went to another worker", extra={"job": job.id})
        return Response()


def _work(
    database: Database, github: GitHub, detector: Detector, policy: Policy, job: ClaimedJob, settings: Settings
) -> Response:
    """Run the current step of the job and record its result."""
    counts = Counter({key: int(value) for key, value in job.progress.get("counts", {}).items()})
    number = int(job.progress.get("step", 0))
    step = STEPS[job.kind][number]
    if step.optional and job.failures >= MAX_TRIES:
        # The errors of earlier attempts are unknown, because the workers crashed.
        _log.warning("rescan: a step failed too often and is skipped", extra={"job": job.id, "step": step.name})
        with database.write() as session:
            _pass_over(session, job, number, counts, FoundTokens.from_json(job.progress.get("found")))
        return Response()
    response, failure = Response(), None
    with jobs.keep_renewed(database, job, max_seconds=MAX_STEP_SECONDS) as keeping:
        at = job.progress.get("at") or {}
        work = Work(database, github, detector, policy, settings, job, counts, keeping, number, at)
        try:
            response = step.do(work)
        except GitHubError as err:
            failure = err
    with database.write() as session:
        unread_contents.record(session, work.not_read, source=job.source, job_id=job.id)
        if failure is None:
            _next_step(session, job, number, counts, work.found)
        else:
            _failed(session, work, step, failure)
    return response


def _next_step(session: Session, job: ClaimedJob, number: int, counts: Counter[str], found: FoundTokens) -> None:
    steps = STEPS[job.kind]
    if number + 1 < len(steps):
        phase = steps[number + 1].name
        progress = {"step": number + 1, "phase": phase, "counts": dict(counts), "found": found.to_json()}
        job.lease.write(session, progress=progress, failures=0)
        jobs.defer(session, job, delay=0, error=None)
        return
    _finish(session, job, counts, found)


def _finish(
    session: Session, job: ClaimedJob, counts: Counter[str], found: FoundTokens, error: str | None = None
) -> None:
    counts = +counts
    partial = any(key.startswith("unread_") for key in counts)
    state = JobState.FAILED if error else JobState.PARTIAL if partial else JobState.DONE
    tallies.add(session, job.source, {**counts, "jobs": 1})
    job.lease.write(session, progress={key: value for key, value in job.progress.items() if key != "found"})
    jobs.finish(session, job, state, counts=counts + found.counts(session, job.id), error=error)


def _failed(session: Session, work: Work, step: RescanStep, err: GitHubError) -> None:
    job, counts = work.job, work.counts
    if step.optional and isinstance(err, NotFound):
        _next_step(session, job, work.step, counts, work.found)  # nothing to read: no wiki, or issues are switched off
        return
    _log.warning("rescan: %s", err, extra={"job": job.id, "step": step.name})
    waits = isinstance(err, RateLimited | NotNow) or not err.asked
    may_pass = isinstance(err, Unavailable | BadCredential) or bool(err.retry_after)
    if waits or (may_pass and not _is_last_try(work, step)):
        wait = CREDENTIAL_RETRY_SECONDS if isinstance(err, BadCredential) else 10.0
        delay = err.retry_after or 60.0 if waits else max(err.retry_after or 0.0, wait * 4.0**job.failures)
        # A rate limit ends by itself, so do not count the wait as a failure.
        kept: dict[str, Any] = {"failures": 0} if waits else {}
        there = {"counts": dict(work.counts_there), "at": dict(work.at), "found": work.found.to_json()}
        progress = {**job.progress, "step": work.step, **there}
        job.lease.write(session, progress=progress, **kept)
        is_unread = waits and work.step == 0 and not work.at
        defer = jobs.requeue_unread if is_unread else jobs.defer
        defer(session, job, delay=spread(min(delay, MAX_RETRY_SECONDS)), error=str(err))
        return
    counts[f"error_{err.reason}"] += 1
    if step.optional:
        _pass_over(session, job, work.step, counts, work.found)
    else:
        _finish(session, job, counts, work.found, error=str(err))


def _is_last_try(work: Work, step: RescanStep) -> bool:
    has_progress = dict(work.at) != (work.job.progress.get("at") or {})
    return step.optional and not has_progress and work.job.failures + 1 >= MAX_TRIES


def _pass_over(session: Session, job: ClaimedJob, number: int, counts: Counter[str], found: FoundTokens) -> None:
    """Skip an optional step, count it as unread, and continue with the next step."""
    unread = f"unread_{STEPS[job.kind][number].name}"
    _next_step(session, job, number, Counter({**counts, unread: counts[unread] + 1}), found)

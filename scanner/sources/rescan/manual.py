"""Queues the jobs for rescans that an operator requests. They are the most urgent of their kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from scanner.detection import redact
from scanner.github.addresses import Target
from scanner.records import jobs
from scanner.records.states import JobKind
from scanner.sources.archive.hours import was_read
from scanner.sources.archive.poll import open_hour, queue_hour
from scanner.sources.pushes.push import Push
from scanner.sources.rescan.owners import NewJob, gist_job, repository_job

SOURCE = "rescan"
PRIORITY = 10


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job that an operator has queued."""

    id: int
    kind: JobKind


def queue(session: Session, target: Target) -> QueuedJob:
    """Queue an urgent job that reads the target. If such a job is already waiting, make it urgent."""
    job = _job_of(target)
    job_id = jobs.enqueue_urgent(
        session, job.kind, job.target, source=SOURCE, priority=PRIORITY, dedupe_key=job.dedupe_key
    )
    return QueuedJob(job_id, job.kind)


def queue_hours(session: Session, hours: Sequence[datetime], *, again: bool = False) -> list[int]:
    """Queue the jobs that read these hours of the event archive.

    Args:
        hours: The starts of the hours.
        again: Whether to read hours again that were read completely.

    Returns:
        The ids of the jobs, including those that were already waiting or running.
    """
    read = set() if again else was_read(session, hours)
    job_ids = []
    for hour in hours:
        if hour in read:
            continue
        job_id = queue_hour(session, hour, priority=PRIORITY)
        job_ids.append(job_id if job_id is not None else open_hour(session, hour))
    return [job_id for job_id in job_ids if job_id is not None]


def _job_of(target: Target) -> NewJob:
    name = redact(target.name)
    if target.kind == "repository":
        return repository_job(name, None)
    if target.kind == "owner":
        return NewJob(JobKind.OWNER, {"owner": name}, f"owner:{name.lower()}")
    if target.kind == "gist":
        return gist_job(name)
    push = Push(
        repository=name,
        repository_id=None,
        before=target.before or "0" * len(target.head),
        head=target.head,
        ref="",
        ref_type="",
        published_at=None,
        kind="commit",
        likelihood="likely",
    )
    return NewJob(JobKind.PUSHES, {"pushes": [push.to_json()]}, f"commit:{name.lower()}:{target.before}:{target.head}")

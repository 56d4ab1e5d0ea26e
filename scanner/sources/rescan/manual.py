"""What an operator wants read again becomes a job, the most urgent of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from scanner.detection import redact
from scanner.github.addresses import Target
from scanner.records import jobs
from scanner.sources.archive.hours import was_read
from scanner.sources.archive.poll import open_hour, queue_hour
from scanner.sources.pushes.push import Push

SOURCE = "rescan"
PRIORITY = 10


def queue(session: Session, target: Target) -> tuple[int, str]:
    """The number and kind of the job that reads the target; of the one that waits already, if there is one."""
    kind, content, key = _job_of(target)
    return jobs.enqueue_or_hasten(session, kind, content, source=SOURCE, priority=PRIORITY, dedupe_key=key), kind


def queue_hours(session: Session, hours: Sequence[datetime], *, again: bool = False) -> list[int]:
    """The jobs that read these hours of the archive; those that wait or run already are among them.

    An hour that was read to its end is left out, unless `again`.
    """
    read = set() if again else was_read(session, hours)
    found = []
    for hour in hours:
        if hour in read:
            continue
        job_id = queue_hour(session, hour, priority=PRIORITY)
        found.append(job_id if job_id is not None else open_hour(session, hour))
    return [job_id for job_id in found if job_id is not None]


def _job_of(target: Target) -> tuple[str, dict[str, Any], str]:
    name = redact(target.name)
    if target.kind == "repository":
        content = {"repository": name, "repository_id": None, "published_at": None}
        return "repository", content, f"repository:{name.lower()}"
    if target.kind == "owner":
        return "owner", {"owner": name}, f"owner:{name.lower()}"
    if target.kind == "gist":
        return "gist", {"gist": name}, f"gist:{name}"
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
    return "pushes", {"pushes": [push.to_json()]}, f"commit:{name.lower()}:{target.before}:{target.head}"

"""Queues jobs for GitHub's public events, and remembers the events that were read."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from scanner.records import jobs
from scanner.records.columns import insert_or_nothing
from scanner.records.models import db_now
from scanner.records.reading_models import SeenEvent
from scanner.records.states import JobKind
from scanner.sources.batches.runner import first_visible
from scanner.sources.pushes.priorities import PRIORITIES
from scanner.sources.recall import marks
from scanner.sources.timeline.events import Event, Found

TIMELINE = "public_events"
"""The name of the source that most events come from."""
IDS_A_STATEMENT = 500
PUSHES_A_JOB = 25
"""The number of pushes in one job."""
REPOSITORY_PRIORITY = 100


def enqueue_found(
    session: Session,
    found: Found,
    *,
    source: str = TIMELINE,
    priority: int | None = None,
    archive_hour: datetime | None = None,
) -> int:
    """Queue jobs for the pushes and repositories, in the caller's transaction. Return the number of jobs.

    Args:
        priority: The priority of all jobs. None: the more likely a push contains a token, the higher its priority.
        archive_hour: The start of the hour of the archive's file, if the events come from the archive.
    """
    count = 0
    if archive_hour is None:
        marks.record(session, source, ((push.repository_id, push.published_at, False) for push in found.pushes))
    for likelihood, own_priority in PRIORITIES.items():
        chosen = [push for push in found.pushes if push.likelihood == likelihood]
        for start in range(0, len(chosen), PUSHES_A_JOB):
            page = chosen[start : start + PUSHES_A_JOB]
            jobs.enqueue(
                session,
                JobKind.PUSHES,
                {"pushes": [push.to_json() for push in page], **_archive_fields(found, page, archive_hour)},
                source=source,
                priority=own_priority if priority is None else priority,
                visible_at=first_visible(page),
            )
            count += 1
    # Queue in a fixed order, so that two transactions with the same repositories cannot deadlock.
    for repository in sorted(found.repositories, key=lambda one: one[0].lower()):
        name, repository_id, published_at = repository
        target = {
            "repository": name,
            "repository_id": repository_id,
            "published_at": published_at.isoformat() if published_at else None,
            **_archive_fields(found, [repository], archive_hour),
        }
        key = f"repository:{name.lower()}"
        urgency = REPOSITORY_PRIORITY if priority is None else priority
        row = jobs.enqueue(
            session,
            JobKind.REPOSITORY,
            target,
            source=source,
            priority=urgency,
            dedupe_key=key,
            visible_at=published_at,
        )
        count += row is not None
    return count


def _archive_fields(found: Found, things: Sequence[object], archive_hour: datetime | None) -> dict[str, Any]:
    """Return the fields of a job that contain the ids of its events and the hour of the archive's file."""
    ids = {event_id for thing in things for event_id in found.event_ids.get(thing, ())}
    hour = {"hour": archive_hour.isoformat()} if archive_hour else {}
    return {**({"events": sorted(ids)} if ids else {}), **hour}


def remember_events(session: Session, events: Sequence[Event]) -> None:
    """Store the ids of the events, so that the archive does not queue them again."""
    rows = [{"id": event_id} for event_id in sorted({event.id for event in events})]
    if rows:
        statement = insert_or_nothing(session, SeenEvent).values(seen_at=db_now())
        session.connection().execute(statement, rows)


def forget_events(session: Session, ids: Collection[str]) -> None:
    """Delete the ids of these events, so that the archive may queue them again."""
    ordered = sorted(ids)
    for start in range(0, len(ordered), IDS_A_STATEMENT):
        listed = SeenEvent.id.in_(ordered[start : start + IDS_A_STATEMENT])
        session.execute(delete(SeenEvent).where(listed).execution_options(synchronize_session=False))

"""The list of documents that were not read completely, for operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from scanner.records.database import Database
from scanner.records.models import db_now
from scanner.records.reading_models import UnreadContent

MAX_ROWS_PER_JOB = 100
"""The maximum number of documents that one poll or one step of a job records."""
MAX_ROWS_SHOWN = 2000
"""The maximum number of documents of one job that are shown."""
MAX_ROWS = 100_000
RETENTION_DAYS = 30
MAX_REASONS_LENGTH = 200
ROWS_PER_PURGE = 10_000


@dataclass(frozen=True, slots=True)
class NotRead:
    """A document that was not read completely. Its `digest` is empty and its `size` is 0 if they are unknown."""

    reasons: tuple[str, ...]
    digest: str
    size: int
    place: Mapping[str, Any]


def record(session: Session, contents: Sequence[NotRead], *, source: str, job_id: int | None = None) -> None:
    """Record the first `MAX_ROWS_PER_JOB` documents that were not read completely, in the caller's transaction."""
    rows = [
        {
            "source": source,
            "job_id": job_id,
            "reasons": ",".join(content.reasons)[:MAX_REASONS_LENGTH],
            "content_digest": content.digest,
            "size": content.size,
            "place": dict(content.place),
        }
        for content in contents[:MAX_ROWS_PER_JOB]
    ]
    if rows:
        session.execute(insert(UnreadContent).values(seen_at=db_now()), rows)


def of_job(session: Session, job_id: int) -> list[UnreadContent]:
    """Return the documents that the job could not read completely, oldest first, at most `MAX_ROWS_SHOWN`."""
    statement = select(UnreadContent).where(UnreadContent.job_id == job_id).order_by(UnreadContent.id)
    return list(session.execute(statement.limit(MAX_ROWS_SHOWN)).scalars())


def purge(database: Database, *, keep_days: int = RETENTION_DAYS, max_rows: int = MAX_ROWS) -> int:
    """Delete records older than `keep_days`, and the oldest ones beyond `max_rows`. Return how many were deleted."""
    with database.write() as session:
        old = select(UnreadContent.id).where(UnreadContent.seen_at < db_now(-keep_days * 86400.0)).limit(ROWS_PER_PURGE)
        over = select(UnreadContent.id).order_by(UnreadContent.id.desc()).offset(max_rows).limit(ROWS_PER_PURGE)
        deleted = 0
        for ids in (old, over):
            chosen = list(session.execute(ids).scalars())
            if chosen:
                session.execute(
                    delete(UnreadContent)
                    .where(UnreadContent.id.in_(chosen))
                    .execution_options(synchronize_session=False)
                )
                deleted += len(chosen)
        return deleted


def count(session: Session) -> int:
    """Return the number of recorded documents that were not read completely."""
    return session.execute(select(func.count()).select_from(UnreadContent)).scalar_one()

"""Stores which source saw which pushes, for a sample of the repositories."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from scanner.records.columns import insert_or_nothing
from scanner.records.discovery_models import PushMark
from scanner.records.models import db_now
from scanner.records.source_models import RecallMeasurement
from scanner.sources.recall import estimates
from scanner.sources.recall.estimates import Mark

SAMPLE = 64
"""One repository in this many is sampled."""
KEPT_SECONDS = 26 * 3600
DAY_SECONDS = 86_400
FIRST_PUSHES_ONLY = ("new_repositories",)
"""Sources that show only the first push of a repository."""
TOTAL_SOURCES = ("public_events", "repository_search")
"""Two independent sources, from whose overlap the total of all pushes is estimated."""
MAX_MARKS = 500_000


def record(session: Session, source: str, pushes: Iterable[tuple[int | None, datetime | None, bool]]) -> None:
    """Record that a source has seen these pushes. Pushes to repositories outside the sample are ignored.

    Args:
        pushes: For each push the repository's id, the time of the push, and whether the repository is new.
    """
    rows = {
        (number, at): {"repository_id": number, "pushed_at": at, "is_new": is_new}
        for number, at, is_new in pushes
        if number is not None and at is not None and number % SAMPLE == 0
    }
    if rows:
        statement = insert_or_nothing(session, PushMark).values(source=source, seen_at=db_now())
        session.connection().execute(statement, [rows[key] for key in sorted(rows)])


def measure(session: Session) -> None:
    """Measure and store the recall of each source."""
    now: datetime = session.execute(select(db_now())).scalar_one()
    found: defaultdict[str, list[Mark]] = defaultdict(list)
    columns = (PushMark.source, PushMark.repository_id, PushMark.pushed_at, PushMark.seen_at, PushMark.is_new)
    for source, number, pushed_at, seen_at, is_new in session.execute(select(*columns).limit(MAX_MARKS)):
        found[source].append(Mark(number, pushed_at.timestamp(), seen_at.timestamp(), is_new))
    session.execute(delete(RecallMeasurement).execution_options(synchronize_session=False))
    for source in sorted(found):
        others = [mark for other, marks in found.items() if other != source for mark in marks]
        if source in FIRST_PUSHES_ONLY:
            others = [mark for mark in others if mark.is_new]
        shares = estimates.recall(others, found[source], now.timestamp())
        session.add(
            RecallMeasurement(
                source=source,
                shares=estimates.as_json(shares),
                total=_total(found, now.timestamp()) if source in TOTAL_SOURCES else [],
                measured_at=now,
            )
        )


def purge_expired(session: Session) -> None:
    """Delete the records of pushes that were seen more than KEPT_SECONDS ago."""
    old = PushMark.seen_at < db_now(-KEPT_SECONDS)
    session.execute(delete(PushMark).where(old).execution_options(synchronize_session=False))


def _total(found: dict[str, list[Mark]], now: float) -> list[int]:
    """Return the estimated number of pushes a day and its confidence interval, or [] if there is no estimate."""
    first, second = (
        [mark for mark in found.get(source, ()) if now - mark.pushed_at <= DAY_SECONDS] for source in TOTAL_SOURCES
    )
    total = estimates.total(first, second)
    return [] if total is None else [round(SAMPLE * value) for value in (total.estimate, total.low, total.high)]

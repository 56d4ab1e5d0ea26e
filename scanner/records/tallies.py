"""Hourly counters by source and name, for `r8scan status`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from scanner.records.columns import insert_into
from scanner.records.models import db_hour, db_now, table_of
from scanner.records.source_models import Tally

RETENTION_DAYS = 40
MAX_NAME_LENGTH = 80


def add(session: Session, source: str, counts: Mapping[str, int]) -> None:
    """Add the counts to the source's counters of this hour, in the caller's transaction."""
    totals: dict[str, int] = defaultdict(int)
    for name, count in counts.items():
        totals[name[:MAX_NAME_LENGTH]] += count
    # Two transactions cannot deadlock if both write the rows in the order of their names.
    rows = [{"name": name, "count": totals[name]} for name in sorted(totals) if totals[name]]
    if not rows:
        return
    insert = insert_into(session, Tally.__table__).values(source=source, hour=db_hour())
    statement = insert.on_conflict_do_update(
        index_elements=["source", "hour", "name"], set_={"count": Tally.count + insert.excluded.count}
    )
    session.connection().execute(statement, rows)


def since(session: Session, hours: int) -> dict[str, dict[str, int]]:
    """Return the sums of the counters of this hour and of the `hours` before it, by source and name."""
    tally = table_of(Tally).c
    statement = (
        select(tally.source, tally.name, func.sum(tally.count))
        .where(tally.hour >= db_hour(-3600 * hours))
        .group_by(tally.source, tally.name)
    )
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for source, name, count in session.execute(statement):
        found[source][name] = int(count)
    return dict(found)


def purge_expired(session: Session) -> None:
    """Delete counters older than `RETENTION_DAYS`."""
    session.execute(delete(Tally).where(Tally.hour < db_now(-RETENTION_DAYS * 86400)))

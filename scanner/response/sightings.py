"""Sightings: stored token candidates that the token store has not confirmed. They are looked up again for 30 days."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from scanner.detection import Candidate
from scanner.records.columns import insert_or_nothing
from scanner.records.models import ApiToken, Sighting, db_now
from scanner.records.states import SightingState
from scanner.response.places import candidate_of, columns_of

RETENTION_DAYS = 30
RECHECK_SECONDS = 6 * 3600
FIRST_RECHECK_SECONDS = 60
"""Seconds until a new sighting (a stored token candidate) is looked up again for the first time."""
ROWS_PER_STATEMENT = 200
MAX_SHED_ROWS = 20_000
"""The number of rows that one transaction deletes, in about a second."""
MAX_SHED_GROUPS = 100


@dataclass(frozen=True, slots=True)
class DueSighting:
    """A stored token candidate that is due to be looked up again."""

    id: int
    source: str
    candidate: Candidate


def record(session: Session, candidates: Sequence[Candidate], *, source: str, state: SightingState) -> None:
    """Store unconfirmed token candidates, unless they are already stored.

    In state `unchecked`, all of them are due now. In state `unknown`, new ones are due after `FIRST_RECHECK_SECONDS`.
    """
    delay = 0 if state == SightingState.UNCHECKED else FIRST_RECHECK_SECONDS
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for candidate in candidates:
        columns = columns_of(candidate, source)
        rows[candidate.digest, columns["place_key"]] = {
            "digest": candidate.digest,
            "hint": candidate.hint,
            **columns,
        }
    if not rows:
        return
    # Pass the rows as a list, because compiling all values into the statement takes ten times as long.
    statement = insert_or_nothing(session, Sighting).values(state=state, seen_at=db_now(), next_check_at=db_now(delay))
    session.connection().execute(statement, [rows[key] for key in sorted(rows)])
    if state == SightingState.UNCHECKED:
        _make_due(session, {digest for digest, _ in rows})


def due(session: Session, *, limit: int) -> list[DueSighting]:
    """Return at most `limit` stored token candidates to look up again: first `unchecked` ones, then the longest
    overdue.
    """
    statement = (
        select(Sighting)
        .where(Sighting.next_check_at <= db_now())
        .order_by(Sighting.state, Sighting.next_check_at)
        .limit(limit)
    )
    rows = session.execute(statement).scalars().all()
    return [DueSighting(row.id, row.source, candidate_of(row, row.digest, row.hint)) for row in rows]


def settle(session: Session, ids: Collection[int], *, known: Collection[str]) -> None:
    """Record that stored token candidates were looked up in the token store.

    Candidates whose digest is in `known` are deleted. The others are due again after `RECHECK_SECONDS`.
    """
    if not ids:
        return
    session.execute(delete(Sighting).where(Sighting.id.in_(ids), Sighting.digest.in_(known)))
    session.execute(
        update(Sighting)
        .where(Sighting.id.in_(ids))
        .values(state=SightingState.UNKNOWN, next_check_at=db_now(RECHECK_SECONDS))
    )


def defer(session: Session, ids: Collection[int], *, seconds: float) -> None:
    """Make stored token candidates due again in `seconds`."""
    if ids:
        session.execute(update(Sighting).where(Sighting.id.in_(ids)).values(next_check_at=db_now(seconds)))


def make_due_after_import(session: Session) -> int:
    """Make stored token candidates due now if the token was imported into the SQL token store. Return their number."""
    known = select(ApiToken.digest).where(ApiToken.digest == Sighting.digest).exists()
    result = session.execute(
        update(Sighting).where(known).values(next_check_at=db_now()).execution_options(synchronize_session=False)
    )
    return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has it


def purge_expired(session: Session) -> int:
    """Delete token candidates in state `unknown` that were stored more than `RETENTION_DAYS` ago. Return their
    number.
    """
    old = Sighting.seen_at < db_now(-RETENTION_DAYS * 86400)
    result = session.execute(delete(Sighting).where(Sighting.state == SightingState.UNKNOWN, old))
    return int(result.rowcount)  # type: ignore[attr-defined]  # a DELETE's result has it


def shed(session: Session, *, max_rows: int) -> dict[str, int]:
    """If more than `max_rows` token candidates are stored, delete some of them, at most `MAX_SHED_ROWS`.

    Candidates in state `unchecked` are deleted last.

    Returns:
        The number of deleted sightings by source.
    """
    # The range of ids is an upper limit of the number of rows. One query for both ends would scan the table.
    last = session.execute(select(func.max(Sighting.id))).scalar() or 0
    first = session.execute(select(func.min(Sighting.id))).scalar() or 0
    if last - first < max_rows:
        return {}
    excess = session.execute(select(func.count()).select_from(Sighting)).scalar_one() - max_rows
    excess = min(excess, MAX_SHED_ROWS)
    shed_rows: Counter[str] = Counter()
    where = func.coalesce(Sighting.repository, Sighting.url)
    groups = (
        select(Sighting.source, where, func.count())
        .where(Sighting.state == SightingState.UNKNOWN)
        .group_by(Sighting.source, where)
        .order_by(func.count().desc(), Sighting.source, where)
        .limit(MAX_SHED_GROUPS)
    )
    for source, place, count in session.execute(groups).all() if excess > 0 else ():
        if excess <= 0:
            break
        siblings = and_(Sighting.state == SightingState.UNKNOWN, Sighting.source == source, where == place)
        deleted = _delete_oldest(session, siblings, min(excess, count))
        shed_rows[source] += deleted
        excess -= deleted
    if (
        excess > 0
        and not session.execute(select(Sighting.id).where(Sighting.state == SightingState.UNKNOWN).limit(1)).first()
    ):
        for source in session.execute(select(Sighting.source).distinct().order_by(Sighting.source)).scalars().all():
            deleted = _delete_oldest(session, Sighting.source == source, excess)
            shed_rows[source] += deleted
            excess -= deleted
    return dict(+shed_rows)


def _delete_oldest(session: Session, condition: ColumnElement[bool], count: int) -> int:
    if count <= 0:
        return 0
    oldest = select(Sighting.id).where(condition).order_by(Sighting.seen_at, Sighting.id).limit(count)
    result = session.execute(
        delete(Sighting).where(Sighting.id.in_(oldest)).execution_options(synchronize_session=False)
    )
    return int(result.rowcount)  # type: ignore[attr-defined]  # a DELETE's result has it


def _make_due(session: Session, digests: set[str]) -> None:
    ordered = sorted(digests)
    for start in range(0, len(ordered), ROWS_PER_STATEMENT):
        session.execute(
            update(Sighting)
            .where(
                Sighting.digest.in_(ordered[start : start + ROWS_PER_STATEMENT]),
                or_(Sighting.state == SightingState.UNKNOWN, Sighting.next_check_at > db_now()),
            )
            .values(next_check_at=db_now())
        )

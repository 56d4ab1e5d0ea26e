"""Candidates that the token store has not confirmed: kept, and looked up again until it knows them, for 30 days."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update
from sqlalchemy.orm import Session

from scanner.detection import Candidate
from scanner.records.columns import insert_or_nothing
from scanner.records.models import ApiToken, Sighting, db_now
from scanner.records.states import SightingState
from scanner.response.places import candidate_of, columns_of

KEPT_DAYS = 30
RECHECK_SECONDS = 6 * 3600
FIRST_RECHECK_SECONDS = 60
"""An import, or a token just made, may be a moment behind the find."""
ROWS_A_STATEMENT = 200
MAX_SHED_AT_ONCE = 20_000
"""Rows that one transaction deletes: about a second, for which it holds up the other writers of SQLite."""
MAX_GROUPS_AT_ONCE = 100


def record(session: Session, candidates: Sequence[Candidate], *, source: str, state: SightingState) -> None:
    """Write candidates that are not there yet. `unchecked` ones are due at once, `unknown` ones a minute later."""
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
    # One statement with many rows of parameters: compiling a VALUES list anew costs ten times as much.
    statement = insert_or_nothing(session, Sighting).values(state=state, seen_at=db_now(), next_check_at=db_now(delay))
    session.connection().execute(statement, [rows[key] for key in sorted(rows)])
    if state == SightingState.UNCHECKED:
        _make_due(session, {digest for digest, _ in rows})


def due(session: Session, *, limit: int) -> list[tuple[Sighting, Candidate]]:
    """Sightings whose time to be looked up has come, and the candidates that they are.

    Those that were never checked come first, so that no flood of invented tokens holds them up; then who waits longest.
    """
    statement = (
        select(Sighting)
        .where(Sighting.next_check_at <= db_now())
        .order_by(Sighting.state, Sighting.next_check_at)
        .limit(limit)
    )
    rows = session.execute(statement).scalars().all()
    return [(row, candidate_of(row, row.digest, row.hint)) for row in rows]


def settle(session: Session, ids: Collection[int], *, known: Collection[str]) -> None:
    """After a look-up: what the store knows is no sighting any more, the rest is asked again later."""
    if not ids:
        return
    session.execute(delete(Sighting).where(Sighting.id.in_(ids), Sighting.digest.in_(known)))
    session.execute(
        update(Sighting)
        .where(Sighting.id.in_(ids))
        .values(state=SightingState.UNKNOWN, next_check_at=db_now(RECHECK_SECONDS))
    )


def defer(session: Session, ids: Collection[int], *, seconds: float) -> None:
    """The store could not be asked: the sightings stay what they are, and are due a little later."""
    if ids:
        session.execute(update(Sighting).where(Sighting.id.in_(ids)).values(next_check_at=db_now(seconds)))


def make_due_after_import(session: Session) -> int:
    """Have every sighting looked up now whose digest the SQL store has come to know; the number of them."""
    known = select(ApiToken.digest).where(ApiToken.digest == Sighting.digest).exists()
    result = session.execute(
        update(Sighting).where(known).values(next_check_at=db_now()).execution_options(synchronize_session=False)
    )
    return int(result.rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has it


def purge_expired(session: Session) -> int:
    """Delete what the store has not known for 30 days; what was never checked stays. The number deleted."""
    old = Sighting.seen_at < db_now(-KEPT_DAYS * 86400)
    result = session.execute(delete(Sighting).where(Sighting.state == SightingState.UNKNOWN, old))
    return int(result.rowcount)  # type: ignore[attr-defined]  # a DELETE's result has it


def shed(session: Session, *, max_rows: int) -> dict[str, int]:
    """Delete sightings beyond `max_rows`, at most `MAX_SHED_AT_ONCE`; the number deleted, by source.

    The unlikeliest go first: of `unknown` ones those with the most siblings in one place, as a flood of invented tokens
    has, and of these the oldest. `unchecked` ones, of which the store was never asked, go only when no others are left.
    """
    # There cannot be more rows than ids. Each of the two alone is one look at an index, both in one query are a scan.
    last = session.execute(select(func.max(Sighting.id))).scalar() or 0
    first = session.execute(select(func.min(Sighting.id))).scalar() or 0
    if last - first < max_rows:
        return {}
    excess = session.execute(select(func.count()).select_from(Sighting)).scalar_one() - max_rows
    excess = min(excess, MAX_SHED_AT_ONCE)
    shed_rows: Counter[str] = Counter()
    where = func.coalesce(Sighting.repository, Sighting.url)
    groups = (
        select(Sighting.source, where, func.count())
        .where(Sighting.state == SightingState.UNKNOWN)
        .group_by(Sighting.source, where)
        .order_by(func.count().desc(), Sighting.source, where)
        .limit(MAX_GROUPS_AT_ONCE)
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
    for start in range(0, len(ordered), ROWS_A_STATEMENT):
        session.execute(
            update(Sighting)
            .where(
                Sighting.digest.in_(ordered[start : start + ROWS_A_STATEMENT]),
                or_(Sighting.state == SightingState.UNKNOWN, Sighting.next_check_at > db_now()),
            )
            .values(next_check_at=db_now())
        )

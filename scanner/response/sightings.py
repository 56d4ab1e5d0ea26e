"""Candidates that the token store has not confirmed: kept, and looked up again until it knows them, for 30 days."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import delete, or_, select, update
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


def record(session: Session, candidates: Sequence[Candidate], *, source: str, state: SightingState) -> None:
    """Write candidates that are not there yet. `unchecked` ones are due at once, `unknown` ones a minute later."""
    delay = 0 if state == SightingState.UNCHECKED else FIRST_RECHECK_SECONDS
    rows = {}
    for candidate in candidates:
        columns = columns_of(candidate, source)
        rows[candidate.digest, columns["place_key"]] = {
            "digest": candidate.digest,
            "hint": candidate.hint,
            "state": state,
            "seen_at": db_now(),
            "next_check_at": db_now(delay),
            **columns,
        }
    ordered = [rows[key] for key in sorted(rows)]
    for start in range(0, len(ordered), ROWS_A_STATEMENT):
        chunk = ordered[start : start + ROWS_A_STATEMENT]
        session.execute(insert_or_nothing(session, Sighting).values(chunk))
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


def put_off(session: Session, ids: Collection[int], *, seconds: float) -> None:
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


def forget_old(session: Session) -> int:
    """Delete what the store has not known for 30 days; what was never checked stays. The number deleted."""
    old = Sighting.seen_at < db_now(-KEPT_DAYS * 86400)
    result = session.execute(delete(Sighting).where(Sighting.state == SightingState.UNKNOWN, old))
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

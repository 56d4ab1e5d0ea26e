"""Claims of periodic work by one of the processes that look for problems."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.orm import Session

from scanner.records.columns import insert_or_nothing
from scanner.records.health_models import NotifiedProblem
from scanner.records.models import db_now


def claim(session: Session, key: str, seconds: float) -> bool:
    """Return whether this process may do the work now, because no process has claimed it for `seconds`.

    Args:
        session: A writing transaction.
        key: The key of the row that records the last claim, and its kind. The row is created if it is missing.
        seconds: The time between two claims.
    """
    row = {"kind": key, "sentence": "", "todo": "", "first_at": db_now(), "last_at": db_now(-seconds - 1)}
    session.execute(insert_or_nothing(session, NotifiedProblem).values(key=key, **row))
    statement = (
        update(NotifiedProblem)
        # Subtract a second, so that the same thread does not skip its next run because of a millisecond.
        .where(NotifiedProblem.key == key, NotifiedProblem.last_at < db_now(1 - seconds))
        .values(last_at=db_now())
        .execution_options(synchronize_session=False)
    )
    return bool(session.execute(statement).rowcount)  # type: ignore[attr-defined]  # an UPDATE's result has it

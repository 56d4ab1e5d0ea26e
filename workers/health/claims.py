"""Ensures that only one of several processes does a periodic piece of work."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.orm import Session

from scanner.records.columns import insert_or_nothing
from scanner.records.health_models import NotifiedProblem
from scanner.records.models import db_now


def claim(session: Session, key: str, seconds: float) -> bool:
    """Return True if this process must do the work now, or False if the work was claimed in the last `seconds`.

    Args:
        session: A writing transaction.
        key: The name of the work.
        seconds: The interval of the work.
    """
    row = {"kind": key, "sentence": "", "todo": "", "first_at": db_now(), "last_at": db_now(-seconds - 1)}
    session.execute(insert_or_nothing(session, NotifiedProblem).values(key=key, **row))
    statement = (
        update(NotifiedProblem)
        # Allow one second less than the interval, because a caller's timer may fire slightly too early.
        .where(NotifiedProblem.key == key, NotifiedProblem.last_at < db_now(1 - seconds))
        .values(last_at=db_now())
        .execution_options(synchronize_session=False)
    )
    return bool(session.execute(statement).rowcount)  # type: ignore[attr-defined]  # an UPDATE returns a result with `rowcount`

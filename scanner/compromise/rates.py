"""The rate limit of anonymous requests to `r8scan serve`, counted in the database for all processes together."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import case, delete, select
from sqlalchemy.orm import Session

from scanner.records.columns import insert_into
from scanner.records.compromise_models import RequestRate
from scanner.records.models import db_now

ALL_CLIENTS = "*"
RETENTION_SECONDS = 3600


def admit(session: Session, client: str, *, per_client: int, overall: int) -> bool:
    """Count one request and return True, or return False if the request exceeds a rate limit.

    After `overall` requests in a minute, only networks without a request in this minute are admitted: once each, and at
    most `overall` of them.

    Args:
        session: The writing transaction.
        per_client: The limit of one network, in requests a minute.
        overall: The limit of all networks together, in requests a minute.
    """
    now = session.execute(select(db_now())).scalar_one()
    minute = now.replace(second=0, microsecond=0)
    all_count, client_count = (_count(session, key, minute) for key in (ALL_CLIENTS, client))
    # Above `overall`, still admit the first request of a network in this minute. Otherwise others could use up the
    # whole limit.
    if client_count >= per_client or all_count >= (overall if client_count else 2 * overall):
        return False
    for key in (client, ALL_CLIENTS):
        insert = insert_into(session, RequestRate).values(key=key, minute=minute, count=1)
        new_count = case((RequestRate.minute == insert.excluded.minute, RequestRate.count + 1), else_=1)
        upsert = insert.on_conflict_do_update(
            index_elements=["key"], set_={"count": new_count, "minute": insert.excluded.minute}
        )
        count = session.execute(upsert.returning(RequestRate.count)).scalar_one()
        if key == client and count > per_client:
            # The limit is used up, because other requests of this client were counted after the check above.
            return False
    return True


def _count(session: Session, key: str, minute: datetime) -> int:
    row = session.get(RequestRate, key)
    return row.count if row is not None and row.minute == minute else 0


def purge_expired(session: Session) -> None:
    """Delete the counts of requests that are more than an hour old."""
    session.execute(delete(RequestRate).where(RequestRate.minute < db_now(-RETENTION_SECONDS)))

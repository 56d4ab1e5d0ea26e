"""How often the public may ask, over all processes: counted by minute in the database.

Each process asks its own limiters in memory first (see `workers.web.rates`), so a flood does not reach this.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import case, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from scanner.records.compromise_models import RequestRate
from scanner.records.models import db_now

EVERYBODY = "*"
KEPT_SECONDS = 3600


def admit(session: Session, client: str, *, per_client: int, overall: int) -> bool:
    """Count one request of the client's network; return False if it, or everybody, asked too often within this minute.

    Once everybody together has used `overall`, as many again are kept for networks that have not asked within this
    minute: a few networks cannot use up what all share. A refused request writes no new row, so that a flood from many
    networks cannot fill the table.
    """
    now = session.execute(select(db_now())).scalar_one()
    minute = now.replace(second=0, microsecond=0)
    used, own = (_count(session, key, minute) for key in (EVERYBODY, client))
    if own >= per_client or used >= (overall if own else 2 * overall):
        return False
    for key in (client, EVERYBODY):
        dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
        insert = dialect.insert(RequestRate).values(key=key, minute=minute, count=1)
        again = case((RequestRate.minute == insert.excluded.minute, RequestRate.count + 1), else_=1)
        counted = insert.on_conflict_do_update(
            index_elements=["key"], set_={"count": again, "minute": insert.excluded.minute}
        )
        counts = session.execute(counted.returning(RequestRate.count)).scalar_one()
        if key == client and counts > per_client:
            # Another process has counted in between.
            return False
    return True


def _count(session: Session, key: str, minute: datetime) -> int:
    row = session.get(RequestRate, key)
    return row.count if row is not None and row.minute == minute else 0


def purge_expired(session: Session) -> None:
    """Delete what is over: networks of clients are kept no longer than they count."""
    session.execute(delete(RequestRate).where(RequestRate.minute < db_now(-KEPT_SECONDS)))

"""How often the public may ask: counted by minute in the database, for each client's network and for everybody."""

from __future__ import annotations

from sqlalchemy import case, delete, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from scanner.records.models import db_now
from scanner.records.sign_models import RequestRate

EVERYBODY = "*"
KEPT_SECONDS = 3600


def admit(session: Session, client: str, *, per_client: int, overall: int) -> bool:
    """Count one request of the client's; False when there were too many within this minute, by it or by everybody.

    Requests that are refused write no new row, so that a flood from many networks cannot fill the table.
    """
    now = session.execute(select(db_now())).scalar_one()
    minute = now.replace(second=0, microsecond=0)
    everybody = session.get(RequestRate, EVERYBODY)
    if everybody is not None and everybody.minute == minute and everybody.count >= overall:
        return False
    for key, most in ((client, per_client), (EVERYBODY, overall)):
        dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
        insert = dialect.insert(RequestRate).values(key=key, minute=minute, count=1)
        again = case((RequestRate.minute == insert.excluded.minute, RequestRate.count + 1), else_=1)
        counted = insert.on_conflict_do_update(
            index_elements=["key"], set_={"count": again, "minute": insert.excluded.minute}
        )
        if session.execute(counted.returning(RequestRate.count)).scalar_one() > most:
            return False
    return True


def forget_old(session: Session) -> None:
    """Delete what is over: networks of clients are kept no longer than they count."""
    session.execute(delete(RequestRate).where(RequestRate.minute < db_now(-KEPT_SECONDS)))

"""One function that reads the state of the service, for the status command, the console and the metrics alike."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.records.database import Database, is_unavailable
from scanner.records.models import db_now
from scanner.settings import Settings
from workers.health import incidents, machine, messages, reading, sources, work
from workers.health.problems import Kind, Problem
from workers.health.rows import Overview


def overview(database: Database, settings: Settings) -> Overview:
    """Return the state of the service and its problems, the most urgent first.

    Counts are of the last 24 hours where they add up. A database that is away is a problem, not an exception.
    """
    found = empty(settings)
    machine.read_settings(settings, found)
    machine.read(settings, found)
    try:
        with database.read() as session:
            read_rows(session, settings, found)
    except Exception as err:
        if not is_unavailable(err):
            raise
        found.problems.append(_database_away(err))
    found.problems.sort(key=lambda one: list(Kind).index(one.kind))
    return found


def empty(settings: Settings) -> Overview:
    """Return an overview that holds nothing but the settings."""
    return Overview(at=datetime.now(UTC), configuration=machine.configuration(settings))


def read_rows(session: Session, settings: Settings, found: Overview) -> None:
    """Add what the rows of the database tell, and the problems that follow from it."""
    found.at = session.execute(select(db_now())).scalar_one()
    sources.read(session, settings, found)
    reading.read(session, found)
    work.read(session, settings, found)
    messages.read(session, found)
    incidents.read(session, found)
    if settings.sources and not any(one.next_poll_at for one in found.sources):
        found.problems.append(Problem(Kind.NEVER_STARTED, "nothing was ever polled", "start r8scan run"))


def _database_away(err: Exception) -> Problem:
    detail = str(getattr(err, "orig", err)).strip().splitlines()
    sentence = f"the database cannot be used ({detail[0] if detail else type(err).__name__})"
    return Problem(Kind.DATABASE_AWAY, sentence, "bring it back, or correct R8SCAN_DATABASE_URL")

"""The state of the service, read by one function for the status command, the console and the metrics."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.records import versions
from scanner.records.database import Database, is_unavailable
from scanner.records.models import db_now
from scanner.settings import Settings
from workers.health import (
    broker_state,
    canaries,
    incidents,
    machine,
    messages,
    processes,
    reading,
    sources,
    work,
)
from workers.health.problems import Kind, Problem
from workers.health.rows import Overview
from workers.queues import BEAT


def overview(database: Database, settings: Settings, *, ask_broker: bool = False) -> Overview:
    """Return the state of the service and its problems, the most urgent first.

    Counts of events cover the last 24 hours. An unavailable database is reported as a problem and raises nothing.

    Args:
        database: The database.
        settings: The settings of the service.
        ask_broker: Count the messages that wait in Redis. Otherwise Redis is asked only if a process is silent.
    """
    found = empty(settings)
    machine.read_settings(settings, found)
    machine.read(settings, found)
    if ask_broker:
        found.broker_messages = broker_state.messages(settings)
    try:
        with database.read() as session:
            is_readable = _check_version(session, found)
            if is_readable:
                processes.read(session, found)
                read_rows(session, settings, found)
        if is_readable:
            judge(database, settings, found)
    except Exception as err:
        if not is_unavailable(err):
            raise
        found.problems.append(_database_away(err))
    found.problems.sort(key=lambda one: list(Kind).index(one.kind))
    return found


def empty(settings: Settings) -> Overview:
    """Return an overview that contains only the settings."""
    return Overview(at=datetime.now(UTC), configuration=machine.configuration(settings))


def read_rows(session: Session, settings: Settings, found: Overview) -> None:
    """Add the values of the database's rows, and the problems that follow from them."""
    found.at = session.execute(select(db_now())).scalar_one()
    machine.read_clock(found)
    sources.read(session, settings, found)
    reading.read(session, found)
    work.read(session, settings, found)
    messages.read(session, found)
    incidents.read(session, found)
    canaries.read(session, settings, found)


def judge(database: Database, settings: Settings, found: Overview) -> None:
    """Add problems of processes, and drop problems that are only consequences of them."""
    processes.judge(database, settings, found)
    if not (processes.has_consumer(found, "polling") and processes.is_alive(found, BEAT)):
        # Without polls every source is late, so drop the problems of sources.
        followers = (Kind.SOURCE_SILENT, Kind.SOURCE_STALE)
        found.problems = [one for one in found.problems if one.kind not in followers]
    if not (processes.has_consumer(found, "responding") and processes.is_alive(found, BEAT)):
        found.problems = [one for one in found.problems if one.kind != Kind.CANARY_NOT_PLANTED]


def _check_version(session: Session, found: Overview) -> bool:
    """Return whether the tables have this version. If they do not, add that as the only problem."""
    wrong = versions.problem(versions.present(session))
    if wrong is None:
        return True
    found.problems.append(Problem(Kind.DATABASE_VERSION, *wrong))
    return False


def _database_away(err: Exception) -> Problem:
    detail = str(getattr(err, "orig", err)).strip().splitlines()
    sentence = f"the database cannot be used ({detail[0] if detail else type(err).__name__})"
    return Problem(Kind.DATABASE_AWAY, sentence, "bring it back, or correct R8SCAN_DATABASE_URL")

"""Reads the whole state of the service."""

from __future__ import annotations

from dataclasses import replace
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
    limits,
    machine,
    messages,
    processes,
    reading,
    sources,
    tokens,
    work,
)
from workers.health.problems import Kind, Problem
from workers.health.rows import Overview
from workers.queues import BEAT

STARTING = (Kind.REDIS_AWAY, Kind.NOT_RUNNING, Kind.PROCESS_SILENT, Kind.QUEUE_WITHOUT_CONSUMER)
"""Problems that are not reported while `r8scan run` starts its processes."""


def overview(database: Database, settings: Settings, *, ask_broker: bool = False) -> Overview:
    """Return the state of the service and its problems, the most urgent problem first. Counts cover the last 24 hours.

    If the database is unavailable, the result contains only this problem and those of this machine.

    Args:
        ask_broker: Also count the messages that wait in Redis.
    """
    found = _of_database(database, settings)
    own = machine.read(settings)
    starting = processes.starting_seconds(settings, found.processes)
    of_service = [one for one in found.problems if starting is None or one.kind not in STARTING]
    problems = [*machine.settings_problems(settings), *own.problems, *of_service]
    return replace(
        found,
        starting_seconds=starting,
        spool_entries=own.spool_entries,
        spool_refused=own.spool_refused,
        disk_free_bytes=own.disk_free_bytes,
        disk_free_share=own.disk_free_share,
        broker_messages=broker_state.messages(settings) if ask_broker else None,
        problems=sorted(problems, key=lambda one: list(Kind).index(one.kind)),
    )


def read_rows(session: Session, settings: Settings) -> Overview:
    """Read the state of the service from the database, without testing Redis or the processes."""
    now = session.execute(select(db_now())).scalar_one()
    running = processes.read(session, now)
    polled = sources.read(session, settings, now, processes.polling_since(running))
    read = reading.read(session)
    waiting = work.read(session, settings, now)
    sent = messages.read(session, now)
    planted = canaries.read(session, settings, now, min((one.started_at for one in running), default=now))
    return Overview(
        at=now,
        configuration=machine.configuration(settings),
        processes=running,
        sources=polled.sources,
        is_github_away=polled.is_github_away,
        budgets=polled.budgets,
        circuits=polled.circuits,
        rates=read.rates,
        bands=read.bands,
        queues=waiting.queues,
        rescans=waiting.rescans,
        sightings=waiting.sightings,
        stalled=waiting.stalled,
        outbox=sent.outbox,
        decisions=sent.decisions,
        canaries=planted.canaries,
        incidents=incidents.latest(session),
        speed=incidents.speed(session),
        problems=[
            *machine.clock_problems(now),
            *polled.problems,
            *limits.problems(polled.budgets, read.rates, now),
            *waiting.problems,
            *tokens.problems(session, settings),
            *sent.problems,
            *planted.problems,
        ],
    )


def _of_database(database: Database, settings: Settings) -> Overview:
    """Return the state of the service, or only a problem if the database is unusable."""
    try:
        with database.read() as session:
            wrong = versions.problem(versions.present(session))
            if wrong is not None:
                sentence, todo = wrong
                return _with_only(Problem(Kind.DATABASE_VERSION, sentence, todo), settings)
            found = read_rows(session, settings)
        return replace(found, problems=_without_followers(database, settings, found))
    except Exception as err:
        if not is_unavailable(err):
            raise
        return _with_only(_database_away(err, settings), settings)


def _with_only(problem: Problem, settings: Settings) -> Overview:
    return Overview(at=datetime.now(UTC), configuration=machine.configuration(settings), problems=[problem])


def _without_followers(database: Database, settings: Settings, found: Overview) -> list[Problem]:
    """Return all problems, except those that a missing process explains."""
    # If a process is missing, report only this, not its effects. Without beat (the scheduler), no source is polled.
    problems = [*found.problems, *processes.problems(database, settings, found.processes)]
    has_beat = processes.is_alive(found.processes, BEAT)
    followers: list[Kind] = []
    if not (has_beat and processes.has_consumer(found.processes, "polling")):
        followers += (Kind.SOURCE_SILENT, Kind.SOURCE_STALE)  # without these processes, no source is polled
    if not (has_beat and processes.has_consumer(found.processes, "responding")):
        followers.append(Kind.CANARY_NOT_PLANTED)
    return [one for one in problems if one.kind not in followers]


def _database_away(err: Exception, settings: Settings) -> Problem:
    detail = str(getattr(err, "orig", err)).strip().splitlines()
    sentence = f"the database cannot be used ({detail[0] if detail else type(err).__name__})"
    setting = "R8SCAN_STATE_DIR" if settings.is_default_database else "R8SCAN_DATABASE_URL"
    return Problem(Kind.DATABASE_AWAY, sentence, f"bring it back, or correct {setting}")

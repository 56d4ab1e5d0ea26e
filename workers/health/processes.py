"""Finds out which processes run, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.records.database import Database
from scanner.records.health_models import Heartbeat
from scanner.records.models import table_of
from scanner.settings import Settings
from workers.health import broker_state, machine
from workers.health.machine import MAX_CLOCK_DIFFERENCE_SECONDS, own_host
from workers.health.problems import Kind, Problem, span
from workers.health.rows import ProcessRow
from workers.queues import BEAT, QUEUES, WEB

SILENT_SECONDS = 30.0
NAMES = {BEAT: "beat", WEB: "the web server"}
"""How problems name these processes. Other processes are named by their role, such as "the scanner"."""
START_SECONDS = 60.0
"""How long after the start of `r8scan run` processes may still be missing. Usually, they need five seconds."""
FORGOTTEN_SECONDS = 3600.0
"""A process that is silent for more than this is not reported if another process has its role.

It was probably removed on purpose.
"""


def read(session: Session, now: datetime) -> list[ProcessRow]:
    """Return the processes that have sent heartbeats, without replaced ones. `now` is the database's time."""
    table = table_of(Heartbeat)
    rows = session.execute(select(table).order_by(table.c.role, table.c.host, table.c.pid))
    found = [
        ProcessRow(
            role=row.role,
            host=row.host,
            pid=row.pid,
            queues=tuple(row.queues.split(",")) if row.queues else (),
            started_at=row.started_at,
            seen_at=row.seen_at,
            silent_seconds=round(max((now - row.seen_at).total_seconds(), 0.0), 1),
            version=row.version,
            clock_ahead_seconds=row.clock_ahead_seconds,
        )
        for row in rows
    ]
    return [one for one in found if not _is_superseded(one, found)]


def problems(database: Database, settings: Settings, processes: Sequence[ProcessRow]) -> list[Problem]:
    """Return the problems of processes. A failure of Redis or the database is reported instead of its effects."""
    clocks = list(_clocks(processes))
    silent = list(_silences(processes))
    if not silent:
        return [*clocks, *_versions(processes)]
    return [*clocks, *_causes(database, settings, processes, silent)]


def _causes(
    database: Database, settings: Settings, processes: Sequence[ProcessRow], silent: Sequence[Problem]
) -> list[Problem]:
    if refusal := broker_state.write_refusal(database):
        todo = "repair it; finds and events wait in the spool"
        return [Problem(Kind.DATABASE_READ_ONLY, f"the database cannot be written ({refusal})", todo)]
    # The web server does not search for tokens. If only the web server runs, the service is not running.
    workers = [one for one in processes if one.role != WEB]
    is_running = any(one.silent_seconds <= SILENT_SECONDS for one in workers)
    configuration = machine.configuration(settings)
    is_embedded = configuration.is_one_machine
    if not is_running and (is_embedded or not workers):
        return [_not_running(workers, configuration.how_to_start)]
    if reason := broker_state.broker_problem(settings):
        todo = configuration.how_to_start if is_embedded else "bring it back, or correct R8SCAN_REDIS_URL"
        verb = "is full" if "maxmemory" in reason else "does not answer"
        todo = "make room in it, or raise its maxmemory" if verb == "is full" else todo
        redis_away = Problem(Kind.REDIS_AWAY, f"Redis {verb} ({reason})", todo)
        # Without Redis, workers look silent, so do not report them. The web server does not need Redis.
        return [redis_away, *(one for one in silent if one.subject.startswith(WEB))]
    return list(silent)


def has_consumer(processes: Sequence[ProcessRow], queue: str) -> bool:
    """Return whether a process with a recent heartbeat consumes the queue."""
    return any(queue in one.queues and one.silent_seconds <= SILENT_SECONDS for one in processes)


def is_alive(processes: Sequence[ProcessRow], role: str) -> bool:
    """Return whether a process of this role has sent a heartbeat recently."""
    return any(one.role == role and one.silent_seconds <= SILENT_SECONDS for one in processes)


def polling_since(processes: Sequence[ProcessRow]) -> datetime | None:
    """Return since when a poller and beat (the scheduler) have both run, or None if one does not run."""
    alive = [one for one in processes if one.silent_seconds <= SILENT_SECONDS]
    pollers = min((one.started_at for one in alive if "polling" in one.queues), default=None)
    schedulers = min((one.started_at for one in alive if one.role == BEAT), default=None)
    return max(pollers, schedulers) if pollers is not None and schedulers is not None else None


def starting_seconds(settings: Settings, processes: Sequence[ProcessRow]) -> float | None:
    """Return the seconds since `r8scan run` was started here, or None if it is not starting now."""
    seconds = machine.running_seconds(settings.state_dir)
    if seconds is None or seconds > START_SECONDS:
        return None
    is_complete = is_alive(processes, BEAT) and all(has_consumer(processes, queue) for queue in QUEUES)
    return None if is_complete else seconds


def _silences(processes: Sequence[ProcessRow]) -> Iterator[Problem]:
    for one in processes:
        if one.silent_seconds > SILENT_SECONDS and not _is_forgotten(one, processes):
            alone = [queue for queue in one.queues if not has_consumer(processes, queue)]
            name = NAMES.get(one.role, f"the {one.role}")
            sentence = f"{name} ({one.host}, process {one.pid}) was seen {span(one.silent_seconds)} ago"
            if one.role == BEAT and not is_alive(processes, BEAT):
                sentence += ", so nothing is polled"
            if alone:
                sentence += f", and no other process consumes {' and '.join(alone)}"
            subject = f"{one.role} {one.host} {one.pid}"
            yield Problem(Kind.PROCESS_SILENT, sentence, "look at its log; restart it", one.seen_at, subject)
    for queue, role in QUEUES.items():
        if not any(queue in one.queues for one in processes):
            sentence = f"no process consumes the queue {queue}"
            yield Problem(Kind.QUEUE_WITHOUT_CONSUMER, sentence, f"start a {role}", None, queue)
    if not any(one.role == BEAT for one in processes):
        yield Problem(Kind.PROCESS_SILENT, "beat does not run: nothing is polled", "start beat", None, BEAT)


def _is_superseded(one: ProcessRow, others: Sequence[ProcessRow]) -> bool:
    """Return whether a newer process with the same role and host has replaced `one`."""
    return any(other.role == one.role and other.host == one.host and other.started_at > one.seen_at for other in others)


def _is_forgotten(one: ProcessRow, processes: Sequence[ProcessRow]) -> bool:
    return one.silent_seconds > FORGOTTEN_SECONDS and (
        is_alive(processes, one.role) and all(has_consumer(processes, queue) for queue in one.queues)
    )


def _not_running(workers: Sequence[ProcessRow], todo: str) -> Problem:
    newest = min(workers, key=lambda one: one.silent_seconds, default=None)
    if newest is None:  # a process deletes its row when it ends normally
        return Problem(Kind.NOT_RUNNING, "no worker runs", todo)
    sentence = f"no worker runs, the last was seen {span(newest.silent_seconds)} ago"
    return Problem(Kind.NOT_RUNNING, sentence, todo, newest.seen_at)


def _clocks(processes: Sequence[ProcessRow]) -> Iterator[Problem]:
    """Yield a problem for each other machine whose clock is wrong."""
    differences = {
        one.host: one.clock_ahead_seconds
        for one in processes
        if one.silent_seconds <= SILENT_SECONDS and one.clock_ahead_seconds is not None and one.host != own_host()
    }
    for host, seconds in sorted(differences.items()):
        if abs(seconds) > MAX_CLOCK_DIFFERENCE_SECONDS:
            yield machine.clock_off(f"the clock of {host}", seconds, host)


def _versions(processes: Sequence[ProcessRow]) -> Iterator[Problem]:
    versions = sorted({one.version for one in processes if one.silent_seconds <= SILENT_SECONDS})
    if len(versions) > 1:
        sentence = f"processes of {len(versions)} versions run: {', '.join(versions)}"
        yield Problem(Kind.MIXED_VERSIONS, sentence, "restart the older ones")

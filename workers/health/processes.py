"""The part of the status about processes: silent processes, queues without a consumer, and their common cause."""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.records.database import Database
from scanner.records.health_models import Heartbeat
from scanner.settings import Settings
from workers.health import broker_state, machine
from workers.health.heartbeats import own_host
from workers.health.machine import MAX_CLOCK_DIFFERENCE_SECONDS
from workers.health.problems import Kind, Problem, span
from workers.health.rows import Overview, ProcessRow
from workers.queues import BEAT, QUEUES, WEB

SILENT_SECONDS = 30.0
FORGOTTEN_SECONDS = 3600.0
"""After this time, a silent process is no problem if another process has its role: it was removed on purpose."""
STARTING_SECONDS = 30.0
"""After the service was started, processes may be silent for this long."""


def read(session: Session, found: Overview) -> None:
    """Add the processes that have a heartbeat."""
    for row in session.execute(select(Heartbeat).order_by(Heartbeat.role, Heartbeat.host, Heartbeat.pid)).scalars():
        found.processes.append(
            ProcessRow(
                role=row.role,
                host=row.host,
                pid=row.pid,
                queues=tuple(row.queues.split(",")) if row.queues else (),
                started_at=row.started_at,
                seen_at=row.seen_at,
                silent_seconds=round(max((found.at - row.seen_at).total_seconds(), 0.0), 1),
                version=row.version,
                clock_ahead_seconds=row.clock_ahead_seconds,
            )
        )
    found.processes = [one for one in found.processes if not _is_superseded(one, found.processes)]


def judge(database: Database, settings: Settings, found: Overview) -> None:
    """Add the problems of processes. If several are silent for one common cause, add only the cause.

    Redis and the database are tested only if a process is silent.
    """
    found.problems += _clocks(found)
    silent = list(_silences(found))
    if not silent:
        found.problems += _versions(found)
        return
    if refusal := broker_state.write_refusal(database):
        todo = "repair it; finds and events wait in the spool"
        found.problems.append(Problem(Kind.DATABASE_READ_ONLY, f"the database cannot be written ({refusal})", todo))
        return
    # The web server finds nothing and disables nothing. If only the web server runs, the service does not run.
    workers = [one for one in found.processes if one.role != WEB]
    is_running = any(one.silent_seconds <= SILENT_SECONDS for one in workers)
    is_embedded = settings.redis_url.get_secret_value() == "embedded"
    if not is_running and (is_embedded or not workers):
        found.problems.append(_not_running(workers))
        return
    if reason := broker_state.broker_problem(settings):
        todo = "start r8scan run" if is_embedded else "bring it back, or correct R8SCAN_REDIS_URL"
        verb = "is full" if "maxmemory" in reason else "does not answer"
        todo = "make room in it, or raise its maxmemory" if verb == "is full" else todo
        found.problems.append(Problem(Kind.REDIS_AWAY, f"Redis {verb} ({reason})", todo))
        # The web server does not need the broker, so its silence has another cause.
        silent = [one for one in silent if one.subject.startswith(WEB)]
    found.problems += silent


def has_consumer(found: Overview, queue: str) -> bool:
    """Return whether a process that was seen recently consumes the queue."""
    return any(queue in one.queues and one.silent_seconds <= SILENT_SECONDS for one in found.processes)


def is_alive(found: Overview, role: str) -> bool:
    """Return whether a process of this role was seen recently."""
    return any(one.role == role and one.silent_seconds <= SILENT_SECONDS for one in found.processes)


def _silences(found: Overview) -> Iterator[Problem]:
    for one in found.processes:
        if one.silent_seconds > SILENT_SECONDS and not _is_forgotten(one, found):
            alone = [queue for queue in one.queues if not has_consumer(found, queue)]
            sentence = f"the {one.role} ({one.host}, process {one.pid}) was seen {span(one.silent_seconds)} ago"
            if alone:
                sentence += f", and no other process consumes {' and '.join(alone)}"
            subject = f"{one.role} {one.host} {one.pid}"
            yield Problem(Kind.PROCESS_SILENT, sentence, "look at its log; restart it", one.seen_at, subject)
    for queue, role in QUEUES.items():
        if not any(queue in one.queues for one in found.processes):
            sentence = f"no process consumes the queue {queue}"
            yield Problem(Kind.QUEUE_WITHOUT_CONSUMER, sentence, f"start a {role}", None, queue)
    if not any(one.role == BEAT for one in found.processes):
        yield Problem(Kind.PROCESS_SILENT, "beat does not run: nothing is polled", "start beat", None, BEAT)


def _is_superseded(one: ProcessRow, others: list[ProcessRow]) -> bool:
    """Return whether a process of the same role was started on the same host after this process was last seen."""
    return any(other.role == one.role and other.host == one.host and other.started_at > one.seen_at for other in others)


def _is_forgotten(one: ProcessRow, found: Overview) -> bool:
    return one.silent_seconds > FORGOTTEN_SECONDS and (
        is_alive(found, one.role) and all(has_consumer(found, queue) for queue in one.queues)
    )


def _not_running(workers: list[ProcessRow]) -> Problem:
    newest = min(workers, key=lambda one: one.silent_seconds, default=None)
    if newest is None:  # a process that ends normally deletes its row
        return Problem(Kind.NOT_RUNNING, "no worker runs", "start r8scan run")
    sentence = f"no worker runs, the last was seen {span(newest.silent_seconds)} ago"
    return Problem(Kind.NOT_RUNNING, sentence, "start r8scan run", newest.seen_at)


def _clocks(found: Overview) -> Iterator[Problem]:
    """Yield a problem for each other host whose clock differs from the database's.

    The module `machine` compares this host's clock.
    """
    differences = {
        one.host: one.clock_ahead_seconds
        for one in found.processes
        if one.silent_seconds <= SILENT_SECONDS and one.clock_ahead_seconds is not None and one.host != own_host()
    }
    for host, seconds in sorted(differences.items()):
        if abs(seconds) > MAX_CLOCK_DIFFERENCE_SECONDS:
            yield machine.clock_off(f"the clock of {host}", seconds, host)


def _versions(found: Overview) -> Iterator[Problem]:
    versions = sorted({one.version for one in found.processes if one.silent_seconds <= SILENT_SECONDS})
    if len(versions) > 1:
        sentence = f"processes of {len(versions)} versions run: {', '.join(versions)}"
        yield Problem(Kind.MIXED_VERSIONS, sentence, "restart the older ones")

"""Tests whether a worker can start queued work now."""

from __future__ import annotations

import time

import typer
from sqlalchemy import select

from scanner.records.database import Database
from scanner.records.models import db_now
from scanner.settings import Settings
from workers.health import broker_state, machine, processes

NOT_STARTED = 3
"""The exit status of a command whose work is queued but cannot be started now."""
START_SECONDS = 10.0
"""How long a command waits for a starting service. `r8scan run` needs about five seconds."""
LOOK_SECONDS = 0.25
NOT_HERE, REDIS_AWAY = "r8scan run does not run here", "Redis does not answer"
"""If a command finds one of these reasons, it does not wait for a worker, because none will start soon."""


def obstacle(database: Database, settings: Settings, queue: str, *, seconds: float = START_SECONDS) -> str | None:
    """Return why no worker can start a job from this queue, or None if one can. Wait at most `seconds` for a worker."""
    deadline, was_said = time.monotonic() + seconds, False
    while reason := _obstacle(database, settings, queue):
        if reason in (NOT_HERE, REDIS_AWAY) or time.monotonic() > deadline:
            return reason
        if not was_said:
            typer.echo(f"{reason}: waiting up to {seconds:g} s, because the service may be starting", err=True)
            was_said = True
        time.sleep(LOOK_SECONDS)
    return None


def _obstacle(database: Database, settings: Settings, queue: str) -> str | None:
    if broker_state.broker_problem(settings):
        if settings.redis_url.get_secret_value() != "embedded":
            return REDIS_AWAY
        is_here = machine.running_seconds(settings.state_dir) is not None
        return "the Redis of r8scan run does not answer" if is_here else NOT_HERE
    with database.read() as session:
        running = processes.read(session, session.execute(select(db_now())).scalar_one())
    return None if processes.has_consumer(running, queue) else f"no worker consumes the queue {queue}"

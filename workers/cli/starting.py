"""Tests whether a worker can start queued work now, for commands that wait until the work is done."""

from __future__ import annotations

from sqlalchemy import select

from scanner.records.database import Database
from scanner.records.models import db_now
from scanner.settings import Settings
from workers.health import broker_state, processes

NOT_STARTED = 3
"""The exit status of a command if its work is queued but no worker can start it now."""


def obstacle(database: Database, settings: Settings, queue: str) -> str | None:
    """Return why no worker can start a job from this queue now, or None if a worker can start one."""
    if broker_state.broker_problem(settings):
        is_embedded = settings.redis_url.get_secret_value() == "embedded"
        return "r8scan run does not run here" if is_embedded else "Redis does not answer"
    with database.read() as session:
        running = processes.read(session, session.execute(select(db_now())).scalar_one())
    return None if processes.has_consumer(running, queue) else f"no worker consumes the queue {queue}"

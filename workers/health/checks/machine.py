"""Checks of the database, Redis, beat (the scheduler), the clock, the disk and the state folder.

Each function returns one line about the result, or raises `Wrong` if the check fails.
"""

from __future__ import annotations

import os
import stat
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import func, select

from scanner.github.client import get_json
from scanner.github.errors import GitHubError
from scanner.github.rate_limit import server_time
from scanner.records import versions
from scanner.records.database import Database, is_unavailable
from scanner.records.models import db_now
from scanner.records.source_models import SourceState
from scanner.settings import Settings
from workers.context import Context
from workers.health import broker_state, machine, processes
from workers.health.checks.check import Wrong
from workers.health.problems import Kind, span
from workers.queues import BEAT

MAX_CLOCK_DIFFERENCE_SECONDS = 30.0
"""The maximum difference between clocks. GitHub refuses an App if this machine's clock is a minute fast."""


def check_database(database: Database) -> str:
    """Check that the database answers, has the tables of this version, and can be written."""
    try:
        with database.read() as session:
            revision = versions.present(session)
    except Exception as err:
        if not is_unavailable(err):
            raise
        detail = broker_state.reason(err)
        raise Wrong(f"the database cannot be used ({detail})", "bring it back, or correct R8SCAN_DATABASE_URL") from err
    if wrong := versions.problem(revision):
        sentence, todo = wrong
        raise Wrong(sentence, todo)
    if refusal := broker_state.write_refusal(database):
        raise Wrong(f"the database cannot be written ({refusal})", "make it writable; look at its disk")
    kind = "PostgreSQL" if database.is_postgresql else "SQLite"
    return f"{kind}, tables of revision {revision}, can be written"


def check_redis(settings: Settings) -> str:
    """Check that Redis answers and accepts messages."""
    is_embedded = settings.redis_url.get_secret_value() == "embedded"
    if problem := broker_state.broker_problem(settings):
        todo = "start r8scan run" if is_embedded else "bring it back, or correct R8SCAN_REDIS_URL"
        raise Wrong(f"Redis does not answer ({problem})", todo)
    return "answers" + (" (the one of r8scan run)" if is_embedded else "")


def check_beat(context: Context) -> str:
    """Check that beat (Celery's scheduler) has sent a heartbeat recently."""
    with context.database.read() as session:
        now = session.execute(select(db_now())).scalar_one()
        running = processes.read(session, now)
        polled_at = session.execute(select(func.max(SourceState.last_success_at))).scalar_one()
    if processes.is_alive(running, BEAT):
        return "has just been seen"
    newest = min((one.silent_seconds for one in running if one.role == BEAT), default=None)
    sentence = f"beat was seen {span(newest)} ago" if newest is not None else "beat does not run"
    # Beat (the scheduler) has no heartbeat row if it ended normally. Show how long ago the last poll was.
    if newest is None and polled_at is not None:
        sentence += f", the last poll was {span(now - polled_at)} ago"
    raise Wrong(f"{sentence}: nothing is polled", "start beat, or r8scan run")


def check_clock(context: Context, clock: Callable[[], float] = time.time) -> str:
    """Check that this machine's clock agrees with the clocks of the database and of GitHub."""
    with context.database.read() as session:
        now = session.execute(select(db_now())).scalar_one()
    compared = ["the database's"]
    _compare("the database's", now.timestamp() - clock())
    github = context.lone_client(None)
    try:
        response, _ = get_json(github, f"{github.api_url}/rate_limit", expected=dict)
    except GitHubError:
        pass  # another check reports that GitHub does not answer
    else:
        compared.append("GitHub's")
        _compare("GitHub's", server_time(response) - clock())
    finally:
        github.close()
    return f"agrees with {' and '.join(compared)}"


def _compare(whose: str, seconds: float) -> None:
    if abs(seconds) > MAX_CLOCK_DIFFERENCE_SECONDS:
        word = "behind" if seconds > 0 else "ahead of"
        raise Wrong(f"this machine's clock is {span(abs(seconds))} {word} {whose}", "synchronise it, with NTP")


def check_disk(settings: Settings) -> str:
    """Check that the disk of the state folder has enough free space."""
    found = machine.read(settings)
    problem = next((one for one in found.problems if one.kind == Kind.DISK_FULL), None)
    if problem is not None:
        raise Wrong(problem.sentence, problem.todo)
    if found.disk_free_bytes is None or found.disk_free_share is None:
        return "the state folder does not exist yet"
    return f"{found.disk_free_bytes / 1024**3:,.1f} GB free ({found.disk_free_share:.0%})"


def check_state_folder(folder: Path) -> str:
    """Check that the state folder is private and writable. A missing folder is not created."""
    existing = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    try:
        if existing != folder:
            with tempfile.TemporaryDirectory(dir=existing, prefix="doctor-"):
                return f"{folder} does not exist yet; r8scan run creates it"
        found = folder.stat()
        with tempfile.NamedTemporaryFile(dir=folder, prefix="doctor-") as file:
            file.write(b"r8scan")
            file.flush()
    except OSError as err:
        todo = "make it writable for this user, or set R8SCAN_STATE_DIR"
        raise Wrong(f"{folder} cannot be written ({err.strerror or err})", todo) from err
    if found.st_uid != os.geteuid():
        raise Wrong(f"{folder} belongs to another user (uid {found.st_uid})", f"chown it to uid {os.geteuid()}")
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise Wrong(f"others may enter {folder} (mode {mode:04o})", f"chmod 700 {folder}")
    return f"{folder}, mode {mode:04o}, can be written"

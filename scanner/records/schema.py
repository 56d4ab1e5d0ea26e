"""Migrations of the database schema: upgrades the tables to this version, and reports their revision."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from scanner.records import online_changes, versions
from scanner.records.database import Database

# An arbitrary number for the lock that allows only one upgrade at a time. It must be the same in every version.
_ADVISORY_LOCK = 724_385_201
_LOCK_ASKED_EVERY_SECONDS = 0.1


def upgrade(database: Database) -> tuple[str | None, str]:
    """Upgrade the database to the newest revision, and return the old one (None for an empty database) and the new one.

    Raises:
        WrongVersion: A newer version of r8scan has upgraded the database.
    """
    return upgrade_to(database, "head"), newest_revision()


def upgrade_to(database: Database, revision: str) -> str | None:
    """Upgrade the database to the given revision. Return the revision before, or None for an empty database."""
    with _only_one(database):
        before = current_revision(database)
        if before is not None and before > versions.wanted():
            # Refuse a database of a newer version of r8scan. Alembic would end with a traceback.
            sentence, todo = versions.problem(before) or ("", "")
            raise versions.WrongVersion(f"{sentence}: {todo}")
        if database.is_postgresql:
            _change_online(database, before, revision)
        _migrate(database, revision)
        return before


def _change_online(database: Database, before: str | None, revision: str) -> None:
    """Make the changes to large tables that some revisions need before their migration."""
    last = versions.wanted() if revision == "head" else revision
    for needed_by, change in online_changes.BEFORE.items():
        if (before or "") < needed_by <= last:
            _migrate(database, f"{int(needed_by) - 1:04d}")
            change(database.engine)


def _migrate(database: Database, revision: str) -> None:
    with database.engine.execution_options(r8scan_writes=True).begin() as connection:
        command.upgrade(_config(connection), revision)


@contextmanager
def _only_one(database: Database) -> Iterator[None]:
    """Let only one process upgrade at a time."""
    if not database.is_postgresql:
        yield
        return
    while True:
        # Hold the lock in a transaction, because PgBouncer may give a session to another client. Try again in a new
        # transaction each time, because `CREATE INDEX CONCURRENTLY` waits for the end of older transactions.
        with database.engine.begin() as connection:
            if _takes_lock(connection):
                yield
                return
        time.sleep(_LOCK_ASKED_EVERY_SECONDS)


def _takes_lock(connection: Connection) -> bool:
    lock = text("SELECT pg_try_advisory_xact_lock(:key)")
    is_ours = bool(connection.execute(lock, {"key": _ADVISORY_LOCK}).scalar_one())
    # Turn off the idle time-out, because this transaction only holds the lock. The statement also ends the snapshot of
    # the query above, for which an index build would wait.
    connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
    return is_ours


def current_revision(database: Database) -> str | None:
    """Return the revision of the database, or None if r8scan has not created its tables yet."""
    with database.engine.connect() as connection:
        return _revision(connection)


def newest_revision() -> str:
    """Return the id of the newest migration."""
    head = ScriptDirectory.from_config(_config(None)).get_current_head()
    assert head is not None  # noqa: S101 - the package ships its migrations
    return head


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _config(connection: Connection | None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config

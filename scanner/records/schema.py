"""Schema migrations: upgrade the database to this version's tables, and report its revision."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from scanner.records import versions
from scanner.records.database import Database

# An arbitrary number. Every version of r8scan must use the same one.
_ADVISORY_LOCK = 724_385_201


def upgrade(database: Database) -> tuple[str | None, str]:
    """Upgrade to the newest revision. Several processes may call it at the same time.

    Returns:
        The revision before the upgrade, None for an empty database, and the newest revision.

    Raises:
        WrongVersion: a newer version of r8scan has upgraded it.
    """
    return upgrade_to(database, "head"), newest_revision()


def upgrade_to(database: Database, revision: str) -> str | None:
    """Upgrade to the given revision. Return the revision before; None for an empty database."""
    engine = database.engine.execution_options(r8scan_writes=True)
    with engine.begin() as connection:
        if database.is_postgresql:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        before = _revision(connection)
        if before is not None and before > versions.wanted():
            # Alembic does not know the revision, and would end with a traceback.
            sentence, todo = versions.problem(before) or ("", "")
            raise versions.WrongVersion(f"{sentence}: {todo}")
        command.upgrade(_config(connection), revision)
        return before


def current_revision(database: Database) -> str | None:
    """Return the revision of the database; None if r8scan has not created its tables yet."""
    with database.engine.connect() as connection:
        return _revision(connection)


def newest_revision() -> str:
    """Return the revision that this version of r8scan needs."""
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

"""Brings a database to the tables of this version, and says which version it has."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from scanner.records.database import Database

# Any number will do, as long as every version of us takes the same one.
_ADVISORY_LOCK = 724_385_201


def upgrade(database: Database) -> tuple[str | None, str]:
    """Upgrade to the newest revision; returns the ones before and after. Several processes may do it at once."""
    return upgrade_to(database, "head"), newest_revision()


def upgrade_to(database: Database, revision: str) -> str | None:
    """Upgrade to one revision; returns the one before."""
    engine = database.engine.execution_options(r8scan_writes=True)
    with engine.begin() as connection:
        if database.is_postgresql:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
        before = _revision(connection)
        command.upgrade(_config(connection), revision)
        return before


def current_revision(database: Database) -> str | None:
    """The revision of the database, None when it has no tables of ours yet."""
    with database.engine.connect() as connection:
        return _revision(connection)


def newest_revision() -> str:
    """The revision that this version of the program wants."""
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

"""Tests that the migrations create the same tables as the models."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from pathlib import Path

import alembic.command
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from scanner.records import schema
from scanner.records.database import Database
from scanner.records.models import Base

ROOT = Path(__file__).parents[3]


def test_migrations_make_exactly_the_tables_of_the_models(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_upgrading_again_changes_nothing(database: Database) -> None:
    newest = schema.newest_revision()
    assert schema.upgrade(database) == (newest, newest)
    assert schema.current_revision(database) == newest


def test_the_alembic_command_upgrades_a_database_and_finds_nothing_to_migrate(tmp_path: Path) -> None:
    config = Config(ROOT / "alembic.ini")
    config.set_main_option("script_location", str(ROOT / "scanner" / "records" / "migrations"))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{tmp_path / 'developer.db'}")
    alembic.command.upgrade(config, "head")
    alembic.command.check(config)


def test_the_newest_migration_can_be_undone_and_repeated_and_keeps_the_triggers(tmp_path: Path) -> None:
    def triggers() -> list[str]:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")]

    path = tmp_path / "developer.db"
    config = Config(ROOT / "alembic.ini")
    config.set_main_option("script_location", str(ROOT / "scanner" / "records" / "migrations"))
    config.set_main_option("sqlalchemy.url", f"sqlite:///{path}")
    alembic.command.upgrade(config, "head")
    before = triggers()
    assert "exposures_copies" in before
    alembic.command.downgrade(config, "-1")
    alembic.command.upgrade(config, "head")
    assert sorted(triggers()) == sorted(before)
    alembic.command.check(config)


def test_several_processes_may_upgrade_at_once(postgresql_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Let the waiting connections ask for the lock very often, so that one of them asks while an index is built.
    monkeypatch.setattr(schema, "_LOCK_ASKED_EVERY_SECONDS", 0.0005)
    databases = [Database(postgresql_url) for _ in range(4)]
    results: list[tuple[str | None, str]] = []
    threads = [threading.Thread(target=lambda one=one: results.append(schema.upgrade(one))) for one in databases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    newest = schema.newest_revision()
    assert sorted(results, key=str) == sorted([(None, newest), *[(newest, newest)] * 3], key=str)
    for one in databases:
        one.close()

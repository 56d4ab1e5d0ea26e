"""Tests for processes whose database was upgraded by a newer version of r8scan."""

from __future__ import annotations

import logging

import pytest
from sqlalchemy import text

from scanner.records.database import Database
from workers import celery
from workers.context import current_context, forget_context
from workers.tasks import housekeeping


@pytest.fixture
def newer(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """Return a database with an unknown version and a renamed column, as after an upgrade by a newer version."""
    monkeypatch.setenv("R8SCAN_DATABASE_URL", database.url.render_as_string(hide_password=False))
    forget_context()
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        session.execute(text("ALTER TABLE sightings RENAME COLUMN next_check_at TO next_look_at"))
    monkeypatch.setattr(celery, "_newer", celery._NewerDatabase())
    return database


def test_tasks_that_fail_with_a_newer_database_log_one_line_a_minute(
    newer: Database, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        housekeeping.sweep()
    current_context().close()
    forget_context()
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [record.getMessage().partition(" (9999")[0] for record in lines] == [
        "no task can run: the database is newer than this program"
    ]
    assert lines[0].exc_info is None


def test_a_process_does_not_start_with_a_newer_database(newer: Database, capsys: pytest.CaptureFixture[str]) -> None:
    before = logging.getLogger().handlers[:]
    with pytest.raises(SystemExit):
        celery._logs()
    logging.getLogger().handlers[:] = before
    forget_context()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("r8scan: the database is newer than this program (9999")

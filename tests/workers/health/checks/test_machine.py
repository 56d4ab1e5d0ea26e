"""Tests for the checks of the database, beat (the scheduler), the clock and the state folder."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from sqlalchemy import text

from scanner.records.database import Database
from scanner.records.models import db_now
from scanner.records.source_models import SourceState
from scanner.settings import load_settings
from tests.workers.health.alive import seen
from workers.context import Context
from workers.health.checks import machine
from workers.health.checks.check import Wrong
from workers.sandbox.github import SandboxGitHub


def context_of(database: Database, api_url: str = "http://127.0.0.1:1") -> Context:
    url = database.url.render_as_string(hide_password=False)
    return Context(load_settings(database_url=url, github_api_url=api_url, github_web_url=api_url))


def test_a_database_with_the_tables_of_this_version_is_ok(database: Database) -> None:
    assert "can be written" in machine.check_database(database)


def test_a_newer_or_unreachable_database_fails_the_check(database: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Wrong, match="newer than this program") as newer:
        machine.check_database(database)
    assert newer.value.todo == "install the version that upgraded it"
    with pytest.raises(Wrong, match="cannot be used") as away:
        machine.check_database(Database("postgresql://someone:hunter2@127.0.0.1:1/r8scan"))
    assert "hunter2" not in away.value.sentence


def test_beat_must_have_sent_a_heartbeat_recently(database: Database) -> None:
    context = context_of(database)
    with pytest.raises(Wrong, match="beat does not run: nothing is polled"):
        machine.check_beat(context)
    with database.write() as session:
        session.add(SourceState(source="gists", next_poll_at=db_now(), last_success_at=db_now(-1680)))
    with pytest.raises(Wrong, match="beat does not run, the last poll was 28 minutes ago: nothing is polled"):
        machine.check_beat(context)
    with database.write() as session:
        seen(session, "beat", silent_seconds=300)
    with pytest.raises(Wrong, match="beat was seen 5 minutes ago"):
        machine.check_beat(context)
    with database.write() as session:
        seen(session, "beat")
    assert machine.check_beat(context) == "has just been seen"
    context.close()


def test_the_clock_is_compared_with_the_database_and_github(database: Database, sandbox: SandboxGitHub) -> None:
    context = context_of(database, sandbox.api_url)
    assert machine.check_clock(context) == "agrees with the database's and GitHub's"
    with pytest.raises(Wrong, match="this machine's clock is 24 hours behind the database's"):
        machine.check_clock(context, lambda: time.time() - 86400)
    with pytest.raises(Wrong, match="this machine's clock is 60 s ahead of the database's"):
        machine.check_clock(context, lambda: time.time() + 60)
    context.close()


def test_a_state_folder_that_others_may_enter_or_that_cannot_be_made_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    assert machine.check_state_folder(folder).endswith("own does not exist yet; r8scan run creates it")
    assert list(tmp_path.iterdir()) == [], "a check creates nothing"
    folder.mkdir(mode=0o700)
    assert "mode 0700" in machine.check_state_folder(folder)
    folder.chmod(0o750)
    with pytest.raises(Wrong, match=r"others may enter .*0750") as open_to_others:
        machine.check_state_folder(folder)
    assert open_to_others.value.todo == f"chmod 700 {folder}"
    (tmp_path / "file").touch()
    with pytest.raises(Wrong, match="cannot be written"):
        machine.check_state_folder(tmp_path / "file" / "state")

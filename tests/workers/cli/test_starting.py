"""Tests that a command waits for a starting service before it reports that no worker consumes the queue."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from scanner.records.database import Database
from scanner.settings import load_settings
from tests.workers.health.alive import seen
from workers.cli import starting


def test_a_command_waits_until_the_first_worker_of_its_queue_is_there(
    database: Database, redis_socket: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def started(_: float) -> None:
        with database.write() as session:
            seen(session)

    monkeypatch.setattr(time, "sleep", started)
    settings = load_settings(redis_url=f"redis+socket://{redis_socket}?virtual_host=7")
    assert starting.obstacle(database, settings, "rescans") is None
    line = "no worker consumes the queue rescans: waiting up to 10 s, because the service may be starting\n"
    assert capsys.readouterr().err == line


def test_a_command_waits_no_longer_than_its_limit(database: Database, redis_socket: str) -> None:
    settings = load_settings(redis_url=f"redis+socket://{redis_socket}?virtual_host=7")
    assert starting.obstacle(database, settings, "rescans", seconds=0) == "no worker consumes the queue rescans"


def test_a_command_waits_for_the_redis_of_a_service_that_starts_here_and_for_no_other(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(state_dir=tmp_path)
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("no service starts here"))
    assert starting.obstacle(database, settings, "rescans") == starting.NOT_HERE
    (tmp_path / "run.lock").write_text(str(os.getpid()))
    assert starting.obstacle(database, settings, "rescans", seconds=0) == "the Redis of r8scan run does not answer"

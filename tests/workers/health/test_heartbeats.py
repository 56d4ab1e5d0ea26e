"""Tests for heartbeats, which show when a process last made progress."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from scanner.records.database import Database
from scanner.records.health_models import Heartbeat
from scanner.records.models import db_now
from scanner.settings import Settings, load_settings
from tests.workers.health.alive import process
from workers import alive
from workers.health.heartbeats import DEAF_SECONDS, Heart
from workers.health.pulse import Pulse
from workers.queues import role_of
from workers.sandbox.world import until


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pulse(clock: Clock) -> Pulse:
    return Pulse(clock)


@pytest.fixture
def settings(database: Database, tmp_path: Path) -> Settings:
    url = database.url.render_as_string(hide_password=False)
    return load_settings(database_url=url, alive_file=tmp_path / "alive")


def silent_seconds(database: Database) -> list[float]:
    with database.read() as session:
        now = session.execute(select(db_now())).scalar_one()
        return [round((now - row.seen_at).total_seconds()) for row in session.execute(select(Heartbeat)).scalars()]


def test_a_row_is_as_old_as_the_last_work_of_the_consuming_thread(
    database: Database, settings: Settings, pulse: Pulse, clock: Clock
) -> None:
    heart = Heart(settings, process("poller"), pulse)
    heart.look()
    assert silent_seconds(database) == [], "no message was consumed yet"
    pulse.work()
    heart.look()
    clock.now += 40
    pulse.try_to_connect()
    heart.look()
    assert silent_seconds(database) == [40], "attempts to reach a broker are not work"
    pulse.work()
    heart.look()
    assert silent_seconds(database) == [0]


def test_a_process_whose_consuming_thread_is_stuck_ends(
    settings: Settings, pulse: Pulse, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[float] = []
    heart = Heart(settings, process("poller"), pulse, end=lambda: ends.append(clock.now))
    pulse.work()
    for _ in range(3):
        clock.now += DEAF_SECONDS - 1
        pulse.try_to_connect()
        heart.look()
    assert ends == [], "a process that cannot reach Redis keeps trying, and does not end"
    clock.now += DEAF_SECONDS + 1
    heart.look()
    assert len(ends) == 1
    assert "no longer takes messages" in caplog.text


def test_a_fork_of_a_parent_that_is_older_than_the_limit_has_the_whole_limit_to_begin(
    settings: Settings, pulse: Pulse, clock: Clock
) -> None:
    ends: list[float] = []
    clock.now += DEAF_SECONDS + 1
    heart = Heart(settings, process("poller"), pulse, end=lambda: ends.append(clock.now))
    heart.start()
    heart.look()
    assert ends == []
    clock.now += DEAF_SECONDS + 1
    heart.look()
    heart.stop()
    assert len(ends) >= 1, "a process that never begins to take messages ends"


def test_the_alive_file_is_as_old_as_the_last_progress_of_the_consuming_thread(
    settings: Settings, pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    heart = Heart(settings, process("poller"), pulse)
    heart.look()
    assert alive.problem(settings.alive_file) is None
    assert settings.alive_file is not None
    touched = settings.alive_file.stat().st_mtime
    monkeypatch.setattr("workers.alive.time.time", lambda: touched + 61)
    heart.look()
    assert "taken no messages for 61 s" in str(alive.problem(settings.alive_file))


def test_a_process_that_ends_normally_leaves_no_row(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.health.heartbeats.WRITE_SECONDS", 0.05)
    pulse = Pulse()
    pulse.work()
    heart = Heart(settings, process("poller"), pulse)
    heart.start()
    until(lambda: bool(silent_seconds(database)), 30)
    heart.stop()
    assert silent_seconds(database) == []


def test_an_unavailable_database_is_logged_once(tmp_path: Path, pulse: Pulse, caplog: pytest.LogCaptureFixture) -> None:
    heart = Heart(load_settings(database_url=f"postgresql://x@/x?host={tmp_path}"), process("poller"), pulse)
    pulse.work()
    for _ in range(3):
        heart.look()
    assert caplog.text.count("the heartbeat was not written") == 1


@pytest.mark.parametrize(
    ("queues", "role"),
    [
        (("polling",), "poller"),
        (("responding", "notifying"), "responder"),
        (("scanning",), "scanner"),
        (("rescans",), "rescanner"),
        (("polling", "scanning"), "worker"),
    ],
)
def test_a_worker_is_named_after_its_queues(queues: tuple[str, ...], role: str) -> None:
    assert role_of(queues) == role

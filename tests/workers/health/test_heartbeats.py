"""Tests for heartbeats, which show when a process last made progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.pool import Pool

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


@pytest.fixture
def heart_of() -> Iterator[Callable[..., Heart]]:
    """Yield the class `Heart`. At the end, the connections of its objects are closed."""
    with ExitStack() as hearts:
        yield lambda *arguments, **options: hearts.enter_context(closing(Heart(*arguments, **options)))


def silent_seconds(database: Database) -> list[float]:
    with database.read() as session:
        now = session.execute(select(db_now())).scalar_one()
        return [round((now - row.seen_at).total_seconds()) for row in session.execute(select(Heartbeat)).scalars()]


@contextmanager
def connections_opened() -> Iterator[list[object]]:
    """Yield a list of the database connections that are opened in the `with` block."""
    opened: list[object] = []

    def record(connection: object, _: object) -> None:
        opened.append(connection)

    event.listen(Pool, "connect", record)
    try:
        yield opened
    finally:
        event.remove(Pool, "connect", record)


def test_a_row_is_as_old_as_the_last_work_of_the_consuming_thread(
    heart_of: Callable[..., Heart], database: Database, settings: Settings, pulse: Pulse, clock: Clock
) -> None:
    heart = heart_of(settings, process("poller"), pulse)
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
    heart_of: Callable[..., Heart], settings: Settings, pulse: Pulse, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ends: list[float] = []
    heart = heart_of(settings, process("poller"), pulse, end=lambda: ends.append(clock.now))
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
    heart_of: Callable[..., Heart], settings: Settings, pulse: Pulse, clock: Clock
) -> None:
    ends: list[float] = []
    clock.now += DEAF_SECONDS + 1
    heart = heart_of(settings, process("poller"), pulse, end=lambda: ends.append(clock.now))
    heart.start()
    heart.look()
    assert ends == []
    clock.now += DEAF_SECONDS + 1
    heart.look()
    heart.stop()
    assert len(ends) >= 1, "a process that never begins to take messages ends"


def test_the_alive_file_is_as_old_as_the_last_progress_of_the_consuming_thread(
    heart_of: Callable[..., Heart], settings: Settings, pulse: Pulse, monkeypatch: pytest.MonkeyPatch
) -> None:
    heart = heart_of(settings, process("poller"), pulse)
    heart.look()
    assert alive.problem(settings.alive_file) is None
    assert settings.alive_file is not None
    touched = settings.alive_file.stat().st_mtime
    monkeypatch.setattr("workers.alive.time.time", lambda: touched + 61)
    heart.look()
    assert "taken no messages for 61 s" in str(alive.problem(settings.alive_file))


def test_a_process_that_ends_normally_leaves_no_row(
    heart_of: Callable[..., Heart], database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.health.heartbeats.WRITE_SECONDS", 0.05)
    pulse = Pulse()
    pulse.work()
    heart = heart_of(settings, process("poller"), pulse)
    heart.start()
    until(lambda: bool(silent_seconds(database)), 30)
    heart.stop()
    assert silent_seconds(database) == []


def test_an_unavailable_database_is_logged_once(
    heart_of: Callable[..., Heart], tmp_path: Path, pulse: Pulse, caplog: pytest.LogCaptureFixture
) -> None:
    heart = heart_of(load_settings(database_url=f"postgresql://x@/x?host={tmp_path}"), process("poller"), pulse)
    pulse.work()
    for _ in range(3):
        heart.look()
    assert caplog.text.count("the heartbeat was not written") == 1


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize(("will_fork", "opened"), [(False, 1), (True, 3)])
def test_a_connection_to_postgresql_is_kept_unless_the_process_is_forked(
    heart_of: Callable[..., Heart], settings: Settings, pulse: Pulse, *, will_fork: bool, opened: int
) -> None:
    heart = heart_of(settings, process("poller"), pulse, will_fork=will_fork)
    pulse.work()
    with connections_opened() as connections:
        for _ in range(3):
            heart.look()
    assert len(connections) == opened


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_heartbeat_is_written_although_its_kept_connection_was_lost(
    heart_of: Callable[..., Heart],
    database: Database,
    settings: Settings,
    pulse: Pulse,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    heart = heart_of(settings, process("poller"), pulse)
    pulse.work()
    heart.look()
    with database.read() as session:
        others = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()")
        assert session.execute(text(f"{others} AND pid <> pg_backend_pid()")).scalars().all() == [True]
    clock.now += 7
    heart.look()
    assert silent_seconds(database) == [7]
    assert caplog.text == ""


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

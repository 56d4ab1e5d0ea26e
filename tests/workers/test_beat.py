"""Tests that beat starts periodic tasks at the same rate after a change of the clock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery.beat import SchedulingError

from workers import beat
from workers.celery import app
from workers.health import pulse


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = Clock()
    monkeypatch.setattr("workers.beat.time.monotonic", lambda: clock.now)
    monotonic = beat.MonotonicScheduler(app=app, max_interval=1)
    sent: list[str] = []
    away: list[Exception] = []

    def send(entry: Any, **_: Any) -> None:
        if away:
            raise SchedulingError("it cannot be sent") from away[0]
        sent.append(entry.task)

    monotonic.apply_async = send
    monkeypatch.setattr(beat.MonotonicScheduler, "producer", None)
    return SimpleNamespace(tick=monotonic.tick, clock=clock, sent=sent, away=away)


def test_a_poll_is_due_every_second(scheduler: Any) -> None:
    for _ in range(50):
        scheduler.clock.now += scheduler.tick()
    polls = scheduler.sent.count("r8scan.poll_due")
    elapsed = scheduler.clock.now - 1000.0
    assert abs(polls - elapsed) <= 1


def test_a_jump_of_the_system_clock_changes_nothing(scheduler: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler.tick()
    monkeypatch.setattr("time.time", lambda: 0.0)
    scheduler.clock.now += 1
    scheduler.tick()
    assert scheduler.sent.count("r8scan.poll_due") == 2


def test_missed_ticks_are_not_repeated(scheduler: Any) -> None:
    scheduler.tick()
    scheduler.clock.now += 3600
    for _ in range(5):
        scheduler.tick()
    assert scheduler.sent.count("r8scan.poll_due") == 2


def test_during_a_redis_outage_beat_has_no_heartbeat_and_logs_few_lines(
    scheduler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler.tick()
    before = pulse.current().worked
    scheduler.away.append(ConnectionError())
    for _ in range(600):
        scheduler.clock.now += max(scheduler.tick(), 0.1)
    assert pulse.current().worked == before
    assert 1 < len(caplog.records) < 10
    assert "Traceback" not in caplog.text
    assert (
        caplog.records[0].getMessage() == "Redis is unavailable (ConnectionError); nothing is polled until it is back"
    )
    scheduler.away.clear()
    scheduler.clock.now += scheduler.tick()
    assert pulse.current().worked != before
    assert caplog.records[-1].getMessage() == "Redis answers again"


def test_every_entry_names_a_task_that_exists_and_has_no_expiry_by_the_clock_of_another_host() -> None:
    app.loader.import_default_modules()
    for entry in app.conf.beat_schedule.values():
        assert entry["task"] in app.tasks
        assert "expires" not in entry.get("options", {})
    for task in app.conf.task_routes:
        assert task in app.tasks

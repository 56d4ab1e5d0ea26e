"""Tests for the check that a worker consumes each queue."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from scanner.records.database import Database
from scanner.settings import Settings, load_settings
from workers import wake
from workers.health import broker_state
from workers.health.checks import round_trip
from workers.health.checks.check import Wrong
from workers.queues import QUEUES


@pytest.fixture
def settings(redis_socket: str) -> Settings:
    return load_settings(redis_url=f"redis+socket://{redis_socket}?virtual_host=8")


def _answered_by(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], None]) -> None:
    def send(task_name: str) -> bool:
        threading.Thread(target=answer, args=(task_name,)).start()
        return True

    monkeypatch.setattr(wake, "wake", send)


def test_a_queue_whose_worker_answers_is_ok(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def worker(task_name: str) -> None:
        assert task_name == "r8scan.echo_rescans"
        round_trip.answer("rescans", database, settings)

    _answered_by(monkeypatch, worker)
    assert "a worker answered" in round_trip.check_queue("rescans", settings)


@pytest.mark.parametrize("queue", QUEUES)
def test_without_a_valid_answer_the_check_names_the_process_to_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, queue: str
) -> None:
    def strange(_: str) -> None:
        with broker_state.connected(settings) as client:
            client.set(f"r8scan:echo:{queue}", b"anything")

    with broker_state.connected(settings) as client:
        client.set(f"r8scan:echo:{queue}", round_trip.OK)
    _answered_by(monkeypatch, strange)
    with pytest.raises(Wrong, match="no worker answered within") as wrong:
        round_trip.check_queue(queue, settings, seconds=0.1)
    assert wrong.value.todo.startswith(f"start or restart a {QUEUES[queue]}")


def test_a_worker_that_cannot_write_into_the_database_says_so(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = Database(f"sqlite:///{tmp_path}/empty.db")
    _answered_by(monkeypatch, lambda _: round_trip.answer("polling", empty, settings))
    with pytest.raises(Wrong, match="its worker cannot write into the database"):
        round_trip.check_queue("polling", settings)
    empty.close()

"""Tests that a worker that is too large or too old ends when it becomes idle, and is started again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scanner.records import schema
from scanner.records.database import Database
from workers import recycling, watchdog
from workers.recycling import MAX_AGE_SECONDS, MAX_MEMORY_BYTES, PATIENCE_SECONDS, SPREAD_SECONDS, Recycler

PROGRAM = """
import sys
from workers import recycling, watchdog
from workers.health import heartbeats
recycling.MAX_MEMORY_BYTES = 1
heartbeats.WRITE_SECONDS = 0.2
from workers.celery import app
from workers.programs import parse, start
start(app, parse(("worker", "-n", "large@test", "-Q", "scanning", "-P", "threads", "-c", "1")))
"""


class Worker:
    """A simulated worker with a clock and memory that a test sets. `ends` counts how often it was ended."""

    def __init__(self) -> None:
        self.now, self.memory, self.is_idle, self.ends = 1000.0, 100, True, 0
        self.recycler = Recycler(lambda: self.is_idle, lambda: self.memory, self.end, lambda: self.now)

    def end(self) -> None:
        self.ends += 1

    def look(self, seconds: float = 5.0) -> int:
        self.now += seconds
        self.recycler.look()
        return self.ends


def test_a_young_and_small_worker_continues() -> None:
    worker = Worker()
    assert worker.look(MAX_AGE_SECONDS - 1) == 0


def test_an_old_worker_ends_once_when_it_is_idle() -> None:
    worker = Worker()
    worker.is_idle = False
    assert worker.look(MAX_AGE_SECONDS + SPREAD_SECONDS) == 0
    worker.is_idle = True
    assert [worker.look(), worker.look()] == [1, 1]


def test_a_large_worker_ends_when_it_is_idle_or_after_half_an_hour_of_work() -> None:
    worker, busy = Worker(), Worker()
    worker.memory = busy.memory = MAX_MEMORY_BYTES + 1
    busy.is_idle = False
    assert worker.look() == 1
    assert busy.look() == 0
    assert busy.look(PATIENCE_SECONDS + 1) == 1


def test_a_worker_that_was_large_for_a_moment_continues() -> None:
    worker = Worker()
    worker.is_idle = False
    worker.memory = MAX_MEMORY_BYTES + 1
    worker.look()
    worker.memory = 100
    worker.look()
    worker.memory = MAX_MEMORY_BYTES + 1
    assert worker.look(PATIENCE_SECONDS + 1) == 0


def test_a_process_knows_its_memory_and_whether_it_works() -> None:
    assert recycling.resident_bytes() > 10_000_000
    own = watchdog.TaskWatchdog()
    with own.watching("r8scan.scan"):
        assert not own.is_idle()
    assert own.is_idle()


@pytest.mark.servers
def test_a_real_worker_with_threads_ends_by_itself_with_status_0(tmp_path: Path, redis_socket: str) -> None:
    database = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    schema.upgrade(database)
    database.close()
    environment = {
        "PATH": os.environ["PATH"],
        "R8SCAN_STATE_DIR": str(tmp_path / "state"),
        "R8SCAN_REDIS_URL": f"redis+socket://{redis_socket}?virtual_host=7",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "this worker ends, to be started again: it has grown to" in done.stderr
    assert "Traceback" not in done.stderr

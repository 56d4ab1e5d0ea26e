"""Tests that `celery -A workers …` works as documented, in any folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from celeryconfig import task_queues
from scanner.records import schema
from scanner.records.database import Database
from workers.sandbox.world import until

CELERY = [sys.executable, "-m", "celery", "-A", "workers"]


@pytest.fixture
def environment(tmp_path: Path, redis_socket: str) -> dict[str, str]:
    database = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    schema.upgrade(database)
    database.close()
    return {
        "PATH": os.environ["PATH"],
        "PYTHONUNBUFFERED": "1",
        "R8SCAN_STATE_DIR": str(tmp_path / "state"),
        "R8SCAN_REDIS_URL": f"redis+socket://{redis_socket}?virtual_host=5",
        "R8SCAN_SOURCES": "",
        "R8SCAN_GITHUB_API_URL": "http://127.0.0.1:1",
        "R8SCAN_GITHUB_WEB_URL": "http://127.0.0.1:1",
    }


def test_a_worker_started_by_hand_consumes_every_queue(tmp_path: Path, environment: dict[str, str]) -> None:
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        command = [*CELERY, "worker", "-n", "one@test", "--pool", "solo", "--without-gossip", "--without-mingle"]
        worker = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=output, stderr=output)
    try:
        until(lambda: worker.poll() is not None or "a worker starts" in log.read_text(), 60)
        shown = log.read_text()
        doctor = [str(Path(sys.executable).parent / "r8scan"), "doctor", "--json"]
        answers = subprocess.run(doctor, env=environment, cwd=tmp_path, capture_output=True, timeout=60, check=False)
    finally:
        worker.kill()
        worker.wait()
    checks = {one["check"]: one for one in map(json.loads, answers.stdout.splitlines())}
    for queue in task_queues:
        assert queue.name in shown
        assert checks[f"worker of {queue.name}"]["state"] == "ok", checks
    assert "Traceback" not in shown


def test_every_thread_uses_the_same_backend_without_results(environment: dict[str, str]) -> None:
    program = """
from concurrent.futures import ThreadPoolExecutor
from workers.celery import app
with ThreadPoolExecutor(1) as pool:
    print(type(app.backend).__name__, app.backend is pool.submit(lambda: app.backend).result())
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "DisabledBackend True\n", done.stderr


def test_beat_uses_the_clock_that_cannot_jump(tmp_path: Path, environment: dict[str, str]) -> None:
    log = tmp_path / "beat.log"
    with log.open("wb") as output:
        beat = subprocess.Popen(
            [*CELERY, "beat", "--pidfile="], env=environment, cwd=tmp_path, stdout=output, stderr=output
        )
    try:
        until(lambda: beat.poll() is not None or "MonotonicScheduler" in log.read_text(), 60)
        assert beat.poll() is None
    finally:
        beat.kill()
        beat.wait()
    assert not list(tmp_path.glob("celerybeat*")), "beat must not keep a schedule file"


def test_a_wrong_setting_ends_every_process_with_one_line(tmp_path: Path, environment: dict[str, str]) -> None:
    wrong = environment | {"R8SCAN_ENFORCE": "perhaps"}
    for command in ([*CELERY, "worker"], [*CELERY, "beat"]):
        result = subprocess.run(
            command, env=wrong, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert result.returncode != 0
        assert "R8SCAN_ENFORCE" in result.stderr
        assert "Traceback" not in result.stderr

"""Tests for the watchdog, which ends a worker process in which a task hangs."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from celery import Celery
from sqlalchemy import select, update

from scanner.records import jobs, leases, schema, time_limits
from scanner.records.database import Database
from scanner.records.models import ScanJob
from scanner.records.source_models import SourceState
from scanner.records.states import JobKind
from scanner.sources.pushes.push import Push
from tests.processes import family
from workers import watchdog
from workers.sandbox.world import until
from workers.watchdog import EXIT_STATUS, TaskWatchdog

ROOT = Path(__file__).parent.parent.parent
MINUTE = 120.0


@dataclass
class Service:
    """Runs a worker, and starts it again when it has ended. `ends` has the exit statuses."""

    database: Database
    sender: Celery
    state: Path
    start: Callable[[], subprocess.Popen[bytes]]
    worker: subprocess.Popen[bytes]
    ends: list[int] = field(default_factory=list)

    def wake(self, task: str, *arguments: object, queue: str) -> None:
        """Send the message that starts a task. If the worker has ended, start it again first."""
        status = self.worker.poll()
        if status is not None:
            self.ends.append(status)
            self.worker = self.start()
        self.sender.send_task(task, arguments, queue=queue, ignore_result=True, expires=5)

    def job(self, job_id: int) -> ScanJob:
        with self.database.read() as session:
            return session.execute(select(ScanJob).where(ScanJob.id == job_id)).scalar_one()

    def hanging(self) -> list[int]:
        """Return the ids of the processes that hang in a task, and of their child processes."""
        path = self.state / "hanging"
        return [int(line) for line in path.read_text().split()] if path.exists() else []


@contextmanager
def running(folder: Path, redis_socket: str, *options: str) -> Iterator[Service]:
    state = folder / "state"
    database = Database(f"sqlite:///{state}/r8scan.db")
    schema.upgrade(database)
    broker = f"redis+socket://{redis_socket}?virtual_host=9"
    environment = {
        "PATH": __import__("os").environ["PATH"],
        "PYTHONUNBUFFERED": "1",
        "R8SCAN_STATE_DIR": str(state),
        "R8SCAN_REDIS_URL": broker,
        "R8SCAN_SOURCES": "gists",
        "R8SCAN_SCAN_THREADS": "1",
    }
    command = [sys.executable, "-m", "celery", "-A", "tests.workers.hanging_app", "worker", "-n", "hanging@test"]
    log = (folder / "worker.log").open("ab")

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*command, *options, "--without-gossip", "--without-mingle"],
            env=environment,
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )

    with Celery("elsewhere", broker=broker) as sender:
        service = Service(database, sender, state, start, start())
        try:
            yield service
        finally:
            left = family(service.worker.pid)
            service.worker.kill()
            service.worker.wait()
            _, alive = psutil.wait_procs(left, timeout=MINUTE)
            log.close()
            database.close()
            assert not alive, "processes outlived the worker"


def queue(database: Database, repository: str, failures: int) -> int:
    push = Push(repository, 1, "a" * 40, "b" * 40, "", "branch", None, "push")
    with database.write() as session:
        job_id = jobs.enqueue(session, JobKind.PUSHES, {"pushes": [push.to_json()]}, source="test")
        session.execute(update(ScanJob).where(ScanJob.id == job_id).values(failures=failures))
    assert job_id is not None
    return job_id


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_hung_job_visibly_fails_and_the_others_are_done(tmp_path: Path, redis_socket: str, pool: str) -> None:
    with running(tmp_path, redis_socket, "--pool", pool, "-c", "1", "-Q", "scanning") as service:
        # After one more failure, this job is not tried again.
        hung = queue(service.database, "hangs/app", jobs.MAX_FAILURES - 1)
        good = queue(service.database, "ana/app", 0)

        def is_over() -> bool:
            service.wake("r8scan.scan", queue="scanning")
            return service.job(hung).state == "failed" and service.job(good).state == "done"

        until(is_over, MINUTE, pause=0.5)
        assert time_limits.TIME_LIMIT in str(service.job(hung).error)
        pids = service.hanging()
        assert len(pids) == 2
        until(lambda: not any(psutil.pid_exists(pid) for pid in pids), MINUTE)
        # In a prefork pool, the worker replaces only the child process that hung. In a pool of threads, the whole
        # worker ends and is started again.
        assert service.ends == ([EXIT_STATUS] if pool == "threads" else [])


def test_a_hung_poll_loses_its_lease_and_the_source_is_polled_again(tmp_path: Path, redis_socket: str) -> None:
    with running(tmp_path, redis_socket, "--pool", "threads", "-c", "2", "-Q", "polling") as service:

        def polls_over_time() -> int:
            service.wake("r8scan.poll", "gists", queue="polling")
            with service.database.read() as session:
                state = session.execute(select(SourceState)).scalar_one_or_none()
            return 0 if state is None else int(state.counts.get("error_time_limit", 0))

        until(lambda: polls_over_time() == 2, MINUTE, pause=0.5)
        until(lambda: polls_over_time() == 2 and len(service.ends) == 2, MINUTE, pause=0.5)
        assert set(service.ends) == {EXIT_STATUS}
        with service.database.read() as session:
            error = session.execute(select(SourceState.error)).scalar_one()
        assert str(error).startswith(time_limits.TIME_LIMIT)


def test_a_process_ends_even_while_c_code_holds_the_interpreters_lock() -> None:
    script = (
        "import ctypes; from workers import watchdog;"
        "watchdog.FROZEN_INTERPRETER_SECONDS = 1; watchdog.current().start();"
        # PyDLL holds the interpreter's lock during the call, so no other Python thread can run.
        "ctypes.PyDLL(None).sleep(600)"
    )
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=MINUTE, check=False)
    assert ended.returncode == 1
    assert b"Timeout" in ended.stderr


def test_other_rows_are_released_before_the_process_ends(database: Database) -> None:
    with database.write() as session:
        hung, neighbour = (jobs.enqueue(session, JobKind.PUSHES, {"pushes": []}, source="test") for _ in range(2))
    claimed = [jobs.claim_next(database, JobKind.PUSHES) for _ in range(2)]
    over, good = sorted((job for job in claimed if job is not None), key=lambda job: job.id)
    assert (over.id, good.id) == (hung, neighbour)
    ended = threading.Event()
    dog = TaskWatchdog(end=ended.set, grace_seconds=0)
    with jobs.keep_renewed(database, good), leases.keep_renewed(database, over.lease, limit_seconds=0) as keeping:
        assert keeping.lost.wait(60)
        assert dog.hung() == [f"scan_jobs {hung}"]
        assert dog.check()
    assert ended.is_set()
    with database.read() as session:
        rows = session.execute(select(ScanJob.id, ScanJob.failures, ScanJob.leased_until)).all()
    assert {row.id: (row.failures, row.leased_until is None) for row in rows} == {
        hung: (1, False),
        neighbour: (0, True),
    }


def test_a_task_without_a_lease_is_ended_at_its_own_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    dog = TaskWatchdog(end=ended.set)
    with dog.watching("r8scan.deliver"):
        assert not dog.check()
    monkeypatch.setitem(watchdog.TASK_SECONDS, "r8scan.deliver", -1.0)
    with dog.watching("r8scan.deliver"):
        assert dog.hung() == ["r8scan.deliver"]
        assert dog.check()
    assert ended.is_set()
    assert not dog.hung()


def test_work_that_notices_the_loss_within_the_grace_time_does_not_end_the_process(database: Database) -> None:
    with database.write() as session:
        jobs.enqueue(session, JobKind.PUSHES, {"pushes": []}, source="test")
    job = jobs.claim_next(database, JobKind.PUSHES)
    assert job is not None
    dog = TaskWatchdog(end=lambda: pytest.fail("the process was ended"))
    with leases.keep_renewed(database, job.lease, limit_seconds=0) as keeping:
        assert keeping.lost.wait(60)
        assert not dog.check()
    assert not dog.check()

"""The number of pushes a second that 1, 2 and 4 worker processes read.

Exit status 1: a target was missed.

Run: python -m tests.benchmarks.bench_scaling [--pushes N]
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg
from sqlalchemy import func, select

from scanner.child_processes import start_child
from scanner.records import schema
from scanner.records.database import Database
from scanner.records.models import ScanJob
from scanner.records.states import OPEN_JOB_STATES
from scanner.sources.timeline.event_jobs import enqueue_found
from scanner.sources.timeline.events import parse_event, read_events
from tests.benchmarks import firehose as prepared
from tests.benchmarks.bench_firehose import firehose
from tests.benchmarks.targets import Targets
from tests.processes import cpu_seconds
from tests.servers import postgresql_server, redis_server
from workers.sandbox.world import until

DELAY_SECONDS = 0.1
LEAST_OF_TWO = 1.7
MAX_CPU = 1.25
"""The limit for the CPU time per push with several processes, divided by that with one process."""


def measure(pushes: int, processes: int, server: str, redis: str, address: str, folder: Path) -> tuple[float, float]:
    """Let the worker processes read the pushes. Return the pushes per second, and the CPU seconds per 1,000 pushes.

    Args:
        pushes: The number of pushes to read.
        processes: The number of worker processes.
        server: The URL of a PostgreSQL server.
        redis: The path of Redis's socket.
        address: The URL of the simulated GitHub.
        folder: An existing folder, in which the state folder is created.
    """
    name = f"scaling_{processes}_{time.monotonic_ns()}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
    url = server.replace("/postgres?", f"/{name}?")
    database = Database(url)
    schema.upgrade(database)
    events = [parse_event({**push.event, "created_at": "2026-01-01T00:00:00Z"}) for push in prepared.prepare(pushes, 0)]
    with database.write() as session:
        enqueue_found(session, read_events([event for event in events if event is not None], address))
    (folder / name).mkdir(mode=0o700)
    env = _environment(url, redis, address, folder / name)
    workers = [_worker(env, number) for number in range(processes)]
    try:

        def are_up() -> bool:
            return all(_alive_file(env, number).exists() for number in range(processes))

        until(are_up, 60)
        before = sum(cpu_seconds(worker.pid) for worker in workers)
        wake = [sys.executable, "-m", "tests.benchmarks.bench_scaling", "--wake"]
        subprocess.run(wake, env=env, check=True, capture_output=True)
        until(lambda: _open_jobs(database) == 0, 600, pause=0.1)
        with database.read() as session:
            first, last = session.execute(select(func.min(ScanJob.finished_at), func.max(ScanJob.finished_at))).one()
        cpu = sum(cpu_seconds(worker.pid) for worker in workers) - before
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait(60)
        database.close()
    assert first is not None
    assert last is not None
    return pushes / (last - first).total_seconds(), 1000 * cpu / pushes


def _open_jobs(database: Database) -> int:
    with database.read() as session:
        return int(session.execute(select(func.count()).where(ScanJob.state.in_(OPEN_JOB_STATES))).scalar_one())


def _environment(url: str, redis: str, address: str, folder: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("R8SCAN_")}
    return {
        **inherited,
        "R8SCAN_DATABASE_URL": url,
        "R8SCAN_REDIS_URL": f"redis+socket://{redis}",
        "R8SCAN_GITHUB_API_URL": f"{address}/api",
        "R8SCAN_GITHUB_WEB_URL": address,
        "R8SCAN_STATE_DIR": str(folder),
        "R8SCAN_LOG_LEVEL": "error",
    }


def _alive_file(env: dict[str, str], number: int) -> Path:
    return Path(env["R8SCAN_STATE_DIR"]) / f"alive-{number}"


def _worker(env: dict[str, str], number: int) -> subprocess.Popen[bytes]:
    env = {**env, "R8SCAN_ALIVE_FILE": str(_alive_file(env, number))}
    options = ["-Q", "scanning", "-P", "prefork", "-c", "1", "-n", f"scan{number}@bench", "--without-gossip"]
    command = [sys.executable, "-m", "celery", "-A", "workers", "--quiet", "worker", *options, "--without-mingle"]
    return start_child(command, env=env, own_group=True)


def main() -> int:
    """Run the benchmark with 1, 2 and 4 worker processes. Return 1 if a target was missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pushes", type=int, default=3000)
    parser.add_argument("--quick", action="store_true", help="fewer pushes")
    parser.add_argument("--wake", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.wake:
        from workers.wake import wake

        wake("r8scan.scan", 8)
        return 0
    pushes = 1500 if options.quick else options.pushes
    folder = Path(tempfile.mkdtemp(prefix="r8scan-bench-"))
    try:
        with (
            postgresql_server() as server,
            redis_server() as redis,
            firehose(folder, pushes, 1.0, 0, DELAY_SECONDS) as address,
        ):
            figures: dict[int, list[tuple[float, float]]] = defaultdict(list)
            # Measure one process first and last, so that a slowly changing load of the machine affects all results
            # alike.
            for processes in (1, 2, 4, 1):
                rate, cpu = measure(pushes, processes, server, redis, address, folder)
                figures[processes].append((rate, cpu))
                print(f"{processes} processes: {rate:.0f} pushes a second; processor {cpu:.2f} s a 1,000", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return judge({processes: _mean(found) for processes, found in figures.items()})


def _mean(found: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return statistics.mean(rate for rate, _ in found), statistics.mean(cpu for _, cpu in found)


def judge(figures: Mapping[int, tuple[float, float]]) -> int:
    """Check how much faster several processes are than one. Return 1 if a target was missed.

    `figures` has the pushes per second and the CPU seconds per 1,000 pushes, by number of processes.
    """
    targets = Targets()
    rate, cpu = figures[1]
    targets.at_least("two processes by one", figures[2][0] / rate, LEAST_OF_TWO)
    for processes in (2, 4):
        targets.below(f"processor a push, {processes} processes by one", figures[processes][1] / cpu, MAX_CPU)
    return targets.status()


if __name__ == "__main__":
    sys.exit(main())

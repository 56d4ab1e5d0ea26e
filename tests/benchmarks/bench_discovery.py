"""How many of 70 pushes a second r8scan finds with the quotas of one credential, and how late.

Exit status 1: a target was missed.

Run: python -m tests.benchmarks.bench_discovery
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx
from sqlalchemy import select

from scanner.child_processes import start_child
from scanner.records import schema
from scanner.records.database import Database
from scanner.records.models import ScanJob
from scanner.records.source_models import SourceState
from scanner.records.states import JobState
from scanner.sources.canaries.ways import SOURCE as CANARY
from tests.benchmarks.bench_firehose import _disabled, _is_idle, register, service
from tests.benchmarks.discovery_github import FIRST_NEW_ID, new_repository_ids
from tests.benchmarks.targets import Targets
from tests.processes import memory_mb
from workers.sandbox.world import until

RATE, NEW_A_SECOND = 70.0, 230 / 60
SOURCES = "public_events,repository_search,new_repositories"
MIN_KNOWN, MIN_NEW_READ, MAX_P95_SECONDS = 0.95, 0.99, 120.0
MAX_GROWTH = 1.25


@dataclass
class Run:
    """The results of the benchmark. Delays are in seconds after a push."""

    pushes: int
    known: dict[int, float] = field(default_factory=dict)
    """The seconds from a push until it was queued, by repository."""
    by_source: Counter[str] = field(default_factory=Counter)
    new_read: int = 0
    """The number of new repositories from which a push was read."""
    leaks_known: int = 0
    found: list[float] = field(default_factory=list)
    used: dict[str, int] = field(default_factory=dict)
    """How much of each GitHub quota was used in `used_seconds` seconds, by the name of the quota."""
    used_seconds: float = 0.0
    refused: int = 0
    seconds: float = 0.0
    memory: list[float] = field(default_factory=list)
    cursors: dict[str, object] = field(default_factory=dict)
    stages: dict[str, list[float]] = field(default_factory=dict)
    """How many seconds each push or job spent in a stage, by the stage's name, such as "reading a page"."""


@contextmanager
def discovery_github(folder: Path, pushes: int, leaks: int, lag: float) -> Iterator[str]:
    """Run the simulated GitHub in a separate process, and yield its URL."""
    options = {"pushes": pushes, "rate": RATE, "leaks": leaks, "lag": lag, "new": NEW_A_SECOND, "out": folder}
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    child = start_child([sys.executable, "-m", "tests.benchmarks.discovery_github", *arguments])
    try:
        until(lambda: (folder / "address").exists() or child.poll() is not None, 300)
        yield (folder / "address").read_text()
    finally:
        child.kill()
        child.wait()


def measure(*, seconds: int, leaks: int, lag: float, processes: int) -> Run:
    """Run the service until it has read all pushes. Return the results.

    Args:
        seconds: The number of seconds in which pushes arrive.
        leaks: The number of pushes that contain a token.
        lag: The number of seconds until the search index shows a push.
        processes: The number of processes that scan.
    """
    folder = Path(tempfile.mkdtemp(prefix="r8scan-bench-"))
    pushes = int(RATE * seconds)
    try:
        with discovery_github(folder, pushes, leaks, lag) as address:
            url = f"sqlite:///{folder}/state/r8scan.db"
            database = Database(url)
            schema.upgrade(database)
            digests = register(database, (folder / "tokens").read_text().split())
            options = {"SOURCES": SOURCES, "GITHUB_TOKEN": "a-credential"}
            with service(folder, address, url, processes, **options) as child:
                until(lambda: len(_states(database)) == 3, 90)
                http = httpx.Client(base_url=address, trust_env=False)
                http.get("/start")
                run = Run(pushes)
                _watch(database, http, child.pid, run, seconds, seconds + lag + 150)
                _count(database, http, digests, run)
                return run
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _watch(database: Database, http: httpx.Client, pid: int, run: Run, flow: float, seconds: float) -> None:
    """Record the use of memory and quotas until all pushes are read.

    Args:
        http: An HTTP client for the simulated GitHub.
        pid: The service's process id.
        flow: The number of seconds in which pushes arrive.
        seconds: The number of seconds until the search index shows the last push.
    """
    began = time.time()
    used: list[tuple[float, dict[str, int]]] = []
    while time.time() - began < seconds or not _is_idle(database):
        run.memory.append(memory_mb(pid))
        elapsed = time.time() - began
        # Measure the used request quota only in the second half, because by then each source has adapted how often it
        # polls.
        if (not used and elapsed >= flow / 2) or (len(used) == 1 and elapsed >= flow):
            used.append((elapsed, http.get("/state").json()["used"]))
        if elapsed > seconds + 600:
            print("not everything was read within ten minutes more")
            break
        time.sleep(1)
    run.seconds = time.time() - began
    (start, before), (end, after) = used
    run.used_seconds = end - start
    run.used = {resource: count - before.get(resource, 0) for resource, count in after.items()}


def _count(database: Database, http: httpx.Client, digests: dict[str, str], run: Run) -> None:
    state = http.get("/state").json()
    run.refused = state["refused"]
    first: dict[int, tuple[float, str]] = {}
    published: dict[int, float] = {}
    with database.read() as session:
        rows = session.execute(
            select(
                *(ScanJob.source, ScanJob.created_at, ScanJob.target),
                *(ScanJob.priority, ScanJob.begun_at, ScanJob.finished_at, ScanJob.state),
            ).where(ScanJob.kind == "pushes")
        )
        stages: defaultdict[str, list[float]] = defaultdict(list)
        read: set[int] = set()
        for source, created_at, target, priority, begun_at, finished_at, job_state in rows:
            if begun_at and finished_at:
                stages[f"queue, priority {priority}"].append((begun_at - created_at).total_seconds())
                stages["reading a page"].append((finished_at - begun_at).total_seconds())
            for push in target["pushes"]:
                if push["published_at"] is None or source == CANARY:
                    # Ignore jobs that read the commits before a push, and jobs that read the service's own test tokens
                    # (canaries).
                    continue
                number, at = push["repository_id"], created_at.timestamp()
                read.update([number] if job_state in (JobState.DONE, JobState.PARTIAL) else [])
                published.setdefault(number, datetime.fromisoformat(push["published_at"]).timestamp())
                if number not in first or at < first[number][0]:
                    first[number] = at, source
    run.known = {number: at - published[number] for number, (at, _) in first.items()}
    for number, (_, source) in first.items():
        stages[f"from push to queue, {source}"].append(run.known[number])
    run.stages = dict(stages)
    run.by_source = Counter(source for _, source in first.values())
    run.new_read = sum(1 for number in read if number >= FIRST_NEW_ID)
    disabled = _disabled(database)
    visible = state["visible"]
    run.found = sorted(
        disabled[digest] - visible[token]
        for digest, token in digests.items()
        if digest in disabled and token in visible
    )
    run.leaks_known = state["served_leaks"]
    run.cursors = {one.source: one.cursor for one in _states(database)}


def _states(database: Database) -> list[SourceState]:
    with database.read() as session:
        statement = select(SourceState).where(SourceState.last_success_at.is_not(None))
        return list(session.execute(statement).scalars())


def report(run: Run, targets: Targets, leaks: int, new: int) -> None:
    known = len(run.known)
    print(f"{run.pushes} pushes in {run.seconds:.0f} s; known first by: {dict(run.by_source)}")
    delays = sorted(run.known.values())
    if len(delays) > 1:
        p95 = statistics.quantiles(delays, n=20)[-1]
        print(f"  push to known: p50 {statistics.median(delays):.0f} s  p95 {p95:.0f} s  longest {delays[-1]:.0f} s")
    for stage, seconds in sorted(run.stages.items()):
        ordered = sorted(seconds)
        shares = (ordered[min(int(len(ordered) * share), len(ordered) - 1)] for share in (0.5, 0.95))
        print(f"  {stage:<42}{len(ordered):>7} p50 {next(shares):>6.1f} s  p95 {next(shares):>6.1f} s")
    hours = run.used_seconds / 3600
    an_hour = {resource: count / hours for resource, count in sorted(run.used.items())}
    print("  an hour, at this rate: " + ", ".join(f"{count:,.0f} {resource}" for resource, count in an_hour.items()))
    plan = defaultdict(str, run.cursors.get("repository_search", {}))  # type: ignore[call-overload]  # a JSON object
    print(f"  search: settle {plan['settle']} s, width {plan['width']} s, rate {plan['rate']}/s, late {plan['late']}")
    targets.at_least("share of pushes known", known / run.pushes, MIN_KNOWN)
    targets.at_least("share of new repositories read", run.new_read / max(new, 1), MIN_NEW_READ)
    targets.exactly("leaks found in what was read", len(run.found), run.leaks_known)
    p95 = statistics.quantiles(run.found, n=20)[-1] if len(run.found) > 1 else float("inf")
    print(f"  {len(run.found)} of {leaks} planted leaks found")
    targets.below("push to disabled, p95", p95, MAX_P95_SECONDS, " s")
    targets.exactly("requests refused for a quota", run.refused, 0)
    targets.below("GraphQL points an hour", an_hour.get("graphql", 0), 5000)
    targets.below("REST requests an hour", an_hour.get("core", 0), 5000)
    third = max(len(run.memory) // 3, 1)
    growth = statistics.median(run.memory[-third:]) / max(statistics.median(run.memory[third : 2 * third]), 1)
    targets.below("memory at the end by memory in mid-run", growth, MAX_GROWTH)


def main() -> int:
    """Run the benchmark once. Return 1 if a target was missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one minute, an index that lags by 20 s")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    seconds, lag = (60, 20.0) if options.quick else (300, 60.0)
    targets = Targets()
    run = measure(seconds=seconds, leaks=seconds, lag=lag, processes=options.processes)
    report(run, targets, seconds, new_repository_ids(run.pushes, RATE, NEW_A_SECOND))
    return targets.status()


if __name__ == "__main__":
    sys.exit(main())

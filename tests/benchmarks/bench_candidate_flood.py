"""The time and memory for scanning one push with a million invented tokens.

Run: python -m tests.benchmarks.bench_candidate_flood [--tokens N]
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import string
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import func, select

import scanner.github.client
from scanner.detection import Detector
from scanner.detection.candidate_limits import MAX_DIGESTS
from scanner.detection.git.packs import PackLimits
from scanner.detection.prefilter import fallback_tokens
from scanner.isolation import shared_pool
from scanner.records import jobs, schema
from scanner.records.database import Database
from scanner.records.models import ScanJob, Sighting
from scanner.records.states import JobKind
from scanner.response.policy import Policy
from scanner.sources.pushes import scan as push_scan
from scanner.sources.pushes.push import Push
from tests.benchmarks.targets import Targets
from tests.servers import postgresql_server
from workers import memory
from workers.sandbox import github_server
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.workplace import Workplace

KINDS = (JobKind.PUSHES, JobKind.SLOW_PUSHES)
TOKENS_PER_FILE = 20_000
MAX_SECONDS = 60.0
MAX_GROWTH_MB = 50.0
PACK_BYTES = 64 * 1024 * 1024
"""The service's default limit for the size of a pack."""
SAMPLE_SECONDS = 0.05


def measure(url: str, tokens: int, folder: Path) -> int:
    """Push the invented tokens and scan them in another process. Return 1 if a target was missed.

    `url` is the database's URL.
    """
    database = Database(url)
    schema.upgrade(database)
    with github_server.running(folder / "github") as github:
        pushes = _ordinary_and_flooded(github, tokens, folder)
        command = [sys.executable, "-m", "tests.benchmarks.bench_candidate_flood", "--scan", url]
        addresses = [github.api_url, github.url, str(folder), json.dumps([one.to_json() for one in pushes])]
        child = subprocess.run([*command, *addresses], check=True, capture_output=True, text=True)
    figures = json.loads(child.stdout)
    with database.read() as session:
        sightings = session.execute(select(func.count()).select_from(Sighting)).scalar_one()
        counts = sum(map(Counter, session.execute(select(ScanJob.counts)).scalars()), Counter[str]())
    database.close()
    print(f"{database.url.get_backend_name()}, {tokens:,} tokens: {figures['cpu']:.1f} s of processor time; {counts}")
    targets = Targets()
    targets.below("until the push is scanned", figures["seconds"], MAX_SECONDS, " s")
    targets.below("memory that it took", figures["growth_mb"], MAX_GROWTH_MB, " MB")
    targets.at_least("sightings", sightings, 1)
    targets.below("sightings", sightings, MAX_DIGESTS + 1)
    unread = sum(count for name, count in counts.items() if name.startswith("unread_"))
    targets.at_least("recorded as not read", unread, 1 if tokens > MAX_DIGESTS else 0)
    return targets.status()


def _ordinary_and_flooded(github: SandboxGitHub, tokens: int, folder: Path) -> tuple[Push, Push]:
    """Return two pushes: one with an ordinary commit, and one with `tokens` invented tokens."""
    repository = github.create_repository("ana/app")
    work = Workplace(folder / "work", github.push_address("ana/app"))
    work.start()
    work.write("README", "x")
    work.commit("first")
    work.push()
    first = work.git("rev-parse", "HEAD").strip()
    work.write("README", "y")
    work.commit("second")
    work.push()
    before = work.git("rev-parse", "HEAD").strip()
    chosen = random.Random(1)
    letters = string.ascii_letters + string.digits
    for number in range(-(-tokens // TOKENS_PER_FILE)):
        count = min(TOKENS_PER_FILE, tokens - number * TOKENS_PER_FILE)
        work.write(f"f{number}.txt", "\n".join("r8_" + "".join(chosen.choices(letters, k=37)) for _ in range(count)))
    work.commit("flood")
    work.push()
    # Pack the repository before the measurement. Otherwise the measured time would include the work of the sandbox
    # GitHub.
    subprocess.run(["git", "-C", str(repository.path), "repack", "-adq"], check=True)
    head = work.git("rev-parse", "HEAD").strip()
    pairs = ((first, before), (before, head))
    ordinary, flood = (
        Push("ana/app", repository.id, *pair, "refs/heads/main", "branch", None, "push") for pair in pairs
    )
    return ordinary, flood


def scan(url: str, api_url: str, web_url: str, folder: Path, pushes: list[Any]) -> dict[str, Any]:
    """Scan an ordinary push, and then the push with many tokens.

    Return three numbers for the second push: `seconds`, `cpu` (seconds of CPU time) and `growth_mb`.
    """
    memory.limit_kept_memory()  # every process of the service calls this at its start
    # Wait longer than usual for an answer, because the sandbox GitHub must create a large pack.
    scanner.github.client.TIMEOUT = httpx.Timeout(100.0)
    database, detector = Database(url), Detector(reader=shared_pool())
    github = scanner.github.client.connect(api_url, web_url, None)
    limits = PackLimits(pack_bytes=PACK_BYTES)

    def scan_one(push: Any) -> None:
        with database.write() as session:
            jobs.enqueue(session, JobKind.PUSHES, {"pushes": [push]}, source="public_events")
        for kind in KINDS:
            # A push that takes long to read becomes a job of the kind SLOW_PUSHES, so scan these jobs too.
            push_scan.scan_next(
                database, github, detector, Policy(), limits=limits, threads=8, state_dir=folder, kind=kind
            )

    # Scan an ordinary push first, so that all modules are imported before the measurement.
    scan_one(pushes[0])
    fallback_tokens(b"r8_")
    this_process = psutil.Process()
    base = peak = this_process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(SAMPLE_SECONDS):
            peak = max(peak, this_process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    began, began_cpu = time.monotonic(), time.process_time()
    scan_one(pushes[1])
    seconds, cpu = time.monotonic() - began, time.process_time() - began_cpu
    done.set()
    watching.join()
    github.close()
    database.close()
    return {"seconds": seconds, "cpu": cpu, "growth_mb": (peak - base) / 2**20}


def main() -> int:
    """Run the benchmark on SQLite and on PostgreSQL. Return 1 if a target was missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help="a hundred thousand tokens")
    parser.add_argument("--scan", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.scan:
        url, api_url, web_url, own_folder, pushes = options.scan
        print(json.dumps(scan(url, api_url, web_url, Path(own_folder), json.loads(pushes))))
        return 0
    tokens = 100_000 if options.quick else options.tokens
    folder = Path(tempfile.mkdtemp(prefix="r8scan-bench-"))
    try:
        missed = measure(f"sqlite:///{folder}/state/r8scan.db", tokens, folder / "sqlite")
        with postgresql_server() as url:
            missed += measure(url, tokens, folder / "postgresql")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return min(missed, 1)


if __name__ == "__main__":
    sys.exit(main())

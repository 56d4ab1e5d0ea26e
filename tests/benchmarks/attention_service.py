"""Runs the service while GitHub answers only a few git requests a second, and counts the leaks that it finds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import select

from scanner.detection.digests import sha256_digest
from scanner.detection.patterns.token_formats import hint_of
from scanner.records import schema
from scanner.records.database import Database
from scanner.records.models import ScanJob
from scanner.records.source_models import SourceState
from scanner.records.states import JobKind
from scanner.settings.fields import GIT_RATE, MAX_GIT_RATE
from scanner.sources.canaries.ways import SOURCE as CANARY
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from tests.benchmarks.bench_firehose import _disabled, environment, github_process, service
from tests.benchmarks.push_traits import CUSTOMERS, PUSHES_PER_SECOND
from workers.sandbox.world import until

SOURCES = "public_events,repository_search,new_repositories"
RATES = {"GIT_RATE": f"{GIT_RATE:g}", "GIT_MAX_RATE": f"{MAX_GIT_RATE:g}"}
"""The rates of git requests that r8scan uses for github.com."""
SECONDS_AFTER_LAG = 60.0
"""The seconds from the time when the search index shows the last push until the end of the run."""


@dataclass
class ServiceRun:
    """The results of one run of the service."""

    pushes: int
    leaks: int
    found: int = 0
    known: Counter[str] = field(default_factory=Counter)
    """The number of pushes that the sources found, by the estimate of how likely a leak is."""
    leaks_known: Counter[str] = field(default_factory=Counter)
    """The number of pushes with a planted leak that the sources found, by the estimate of how likely a leak is."""
    bands: list[dict[str, Any]] = field(default_factory=list)
    """For each estimate, such as `very_likely`: what `r8scan status --json` shows about the pushes with it."""
    git: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


@contextmanager
def throttled_github(folder: Path, pushes: int, leaks: int, lag: float, git_per_second: int) -> Iterator[str]:
    """Run a simulated GitHub with limited git requests in a separate process, and yield its URL."""
    options = {"pushes": pushes, "rate": PUSHES_PER_SECOND, "leaks": leaks, "lag": lag, "git": git_per_second}
    with github_process("tests.benchmarks.attention_github", folder, options) as address:
        yield address


def register(database: Database, lines: list[str]) -> set[str]:
    """Register the planted tokens in the token store. Return their digests.

    `lines` are the lines of the file that `attention_github` writes.
    """
    rows = [_row(f"r8_{number:037d}", f"customer{number}") for number in range(CUSTOMERS)]
    planted = set()
    for number, line in enumerate(lines):
        token, _, account = line.partition(" ")
        rows.append(_row(token, account or f"holder{number}"))
        planted.add(rows[-1].digest)
    with database.write() as session:
        ImportRun.begin().write(session, rows)
    return planted


def _row(token: str, account: str) -> ImportedToken:
    raw = token.encode()
    return ImportedToken(sha256_digest(raw), hint_of(raw), "ci", account, (f"{account}@example.com",))


def measure(*, seconds: int, leaks: int, lag: float, git_per_second: int, processes: int) -> ServiceRun:
    """Run the service while pushes arrive. Return the results.

    Args:
        seconds: The number of seconds in which pushes arrive.
        leaks: The number of pushes that contain a token.
        lag: The number of seconds until the search index shows a push.
        git_per_second: The number of git requests that GitHub answers in a second.
        processes: The number of processes that scan.
    """
    folder = Path(tempfile.mkdtemp(prefix="r8scan-bench-"))
    run = ServiceRun(PUSHES_PER_SECOND * seconds, leaks)
    try:
        with throttled_github(folder, run.pushes, leaks, lag, git_per_second) as address:
            url = f"sqlite:///{folder}/state/r8scan.db"
            database = Database(url)
            schema.upgrade(database)
            planted = register(database, (folder / "tokens").read_text().splitlines())
            options = {"SOURCES": SOURCES, "GITHUB_TOKEN": "a-credential", **RATES}
            with (
                service(folder, address, url, processes, **options),
                httpx.Client(base_url=address, trust_env=False) as http,
            ):
                until(lambda: _have_polled(database) == 3, 90)
                http.get("/start")
                run.seconds = seconds + lag + SECONDS_AFTER_LAG
                time.sleep(run.seconds)
                run.git = http.get("/state").json()["git"]
                run.bands = status(environment(folder, address, url, **options))["bands"]
                _count(database, planted, set((folder / "leaks").read_text().splitlines()), run)
            database.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return run


def status(env: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "workers", "status", "--json"]
    printed = subprocess.run(command, env=env, capture_output=True, check=False, timeout=120).stdout
    shown: dict[str, Any] = json.loads(printed)
    return shown


def _have_polled(database: Database) -> int:
    with database.read() as session:
        statement = select(SourceState.source).where(SourceState.last_success_at.is_not(None))
        return len(list(session.execute(statement)))


def _count(database: Database, planted: set[str], leaking: set[str], run: ServiceRun) -> None:
    """Count the pushes, the leaks and the disabled tokens, and store the counts in `run`.

    `leaking` has the names of the repositories with a planted leak.
    """
    run.found = len(planted & _disabled(database).keys())
    bands: dict[str, str] = {}
    with database.read() as session:
        statement = select(ScanJob.source, ScanJob.target).where(ScanJob.kind == JobKind.PUSHES).order_by(ScanJob.id)
        for source, target in session.execute(statement):
            for push in target["pushes"]:
                if source != CANARY and push["published_at"] is not None:
                    bands.setdefault(push["repository"], push["likelihood"])
    run.known = Counter(bands.values())
    run.leaks_known = Counter(band for repository, band in bands.items() if repository in leaking)

"""The share of leaks that r8scan finds if GitHub answers 5 git requests a second but shows 70 pushes a second.

r8scan can then read only the pushes that it considers most likely to contain a leak. Exit status 1: a target was
missed.

Run: python -m tests.benchmarks.bench_attention [--quick] [--model-only]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from scanner.records import jobs, schema
from scanner.records.database import Database
from scanner.records.models import Account
from scanner.records.states import JobKind, JobState
from scanner.sources.batches.shedding import shed
from scanner.sources.pushes.discovered import DiscoveredPush, queue_discovered
from scanner.sources.pushes.priorities import PRIORITIES
from scanner.sources.pushes.push import Push
from tests.benchmarks import attention_service
from tests.benchmarks.push_traits import (
    CUSTOMER_SHARE,
    CUSTOMERS,
    LEAKING,
    ORDINARY,
    PUSHES_PER_SECOND,
    Shares,
    traits_of,
)
from tests.benchmarks.targets import Targets

GIT_PER_SECOND = 5
MIN_FOUND_SHARE = 60.0
QUEUE_MAX_PUSHES = 10_000


def pushed(number: int, chance: random.Random, shares: Shares) -> DiscoveredPush:
    """Return the push with this number, as GitHub's repository search shows it."""
    traits = traits_of(number, chance, shares)
    return DiscoveredPush(
        repository_id=number + 1,
        repository=f"{traits.owner}/project{number}",
        pushed_at=datetime.now(UTC),
        default_branch="main",
        tip=f"{number:040x}",
        is_new=traits.is_new,
        is_fork=traits.is_fork,
        size_kb=traits.size_kb,
        language=traits.language,
        mentions_vendor=traits.mentions_vendor,
    )


def run(database: Database, seconds: int, leaks: int, traits: Shares) -> tuple[Counter[str], Counter[str]]:
    """Simulate the reading of pushes. Return two counters: the pushes read, and the leaks in these pushes.

    The keys of both counters are estimates of how likely a leak is, such as `very_likely`.
    """
    chance = random.Random(7)
    total = seconds * PUSHES_PER_SECOND
    leaking = set(chance.sample(range(total), leaks))
    read, found = Counter[str](), Counter[str]()
    with database.write() as session:
        session.add_all(Account(name=f"customer{number}") for number in range(CUSTOMERS))
    owed = 0.0
    for second in range(seconds):
        numbers = range(second * PUSHES_PER_SECOND, (second + 1) * PUSHES_PER_SECOND)
        pushes = [pushed(number, chance, traits if number in leaking else ORDINARY) for number in numbers]
        with database.write() as session:
            queue_discovered(session, pushes, source="repository_search")
            shed(session, JobKind.PUSHES, most_items=QUEUE_MAX_PUSHES)
        owed += GIT_PER_SECOND
        while owed > 0 and (job := jobs.claim_next(database, JobKind.PUSHES)) is not None:
            for push in (Push.from_json(value) for value in job.target["pushes"]):
                owed -= 1
                read[push.likelihood] += 1
                found[push.likelihood] += int(push.head, 16) in leaking
            with database.write() as session:
                jobs.finish(session, job, JobState.DONE, counts={})
    return read, found


def simulate(seconds: int, leaks: int, traits: Shares) -> tuple[Counter[str], Counter[str]]:
    """Simulate the reading of pushes with a new database. Return the same counters as `run`."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'r8scan.db'}")
        schema.upgrade(database)
        try:
            return run(database, seconds, leaks, traits)
        finally:
            database.close()


def run_model(*, is_quick: bool, targets: Targets) -> None:
    """Run the simulation, and print how many pushes were read and how many leaks were found."""
    seconds, leaks = (60, 200) if is_quick else (300, 1000)
    print(f"the model: {seconds} s, {leaks} planted leaks", flush=True)
    read, found = simulate(seconds, leaks, LEAKING)
    print(f"  {'band':<14}{'read':>8}{'found':>8}{'found of 100 read':>20}")
    for band in PRIORITIES:
        share = 100 * found[band] / read[band] if read[band] else 0.0
        print(f"  {band:<14}{read[band]:>8}{found[band]:>8}{share:>20.2f}")
    _, without = simulate(seconds, leaks, replace(LEAKING, customer=CUSTOMER_SHARE))
    print(f"  found if owners' names say nothing: {100 * sum(without.values()) / leaks:.1f} % (no target)")
    print(f"  pushes read: {100 * sum(read.values()) / (seconds * PUSHES_PER_SECOND):.1f} %", flush=True)
    targets.at_least("planted leaks found by ranking alone", 100 * sum(found.values()) / leaks, MIN_FOUND_SHARE, " %")


def run_service(*, is_quick: bool, targets: Targets) -> None:
    """Run the service, and print how many pushes were read and how many leaks were found."""
    seconds, lag = (60, 20.0) if is_quick else (300, 60.0)
    run = attention_service.measure(seconds=seconds, leaks=seconds, lag=lag, git_per_second=GIT_PER_SECOND, processes=2)
    print(f"the service: {seconds} s of pushes, {run.leaks} planted leaks, ended after {run.seconds:.0f} s")
    print(f"  git requests: {run.git.get('answered', 0)} answered, {run.git.get('refused', 0)} refused")
    print(f"  {'band':<14}{'known':>8}{'leaks':>8}{'read':>8}{'found':>8}{'found of 100 read':>20}{'dropped':>9}")
    for row in run.bands:
        band, read, found = row["band"], row["read_24h"], row["found_24h"]
        share = 100 * found / read if read else 0.0
        counts = f"{run.known[band]:>8}{run.leaks_known[band]:>8}{read:>8}{found:>8}"
        print(f"  {band:<14}{counts}{share:>20.2f}{row['dropped_24h']:>9}", flush=True)
    name = "planted leaks found by the service, by ranking alone"
    targets.at_least(name, 100 * run.found / run.leaks, MIN_FOUND_SHARE, " %")


def main() -> int:
    """Run the simulation and the service. Return 1 if a target was missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one minute of pushes")
    parser.add_argument("--model-only", action="store_true", help="the simulation alone")
    options = parser.parse_args()
    targets = Targets()
    run_model(is_quick=options.quick, targets=targets)
    if not options.model_only:
        run_service(is_quick=options.quick, targets=targets)
    return targets.status()


if __name__ == "__main__":
    sys.exit(main())

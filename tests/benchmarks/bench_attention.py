"""The share of planted leaks that is found if git allows 5 requests a second for 70 pushes a second, so that the
ranking of the pushes decides.

The real queue, shedding and claims run on SQLite. Reading a push is simulated: it only takes the time of one request.
Leaks are planted by the distribution below, whose figures are assumptions and are not taken from the weights. A second
run, for information, plants leaks whose owners do not have the name of an account. Exit status 1: a target was missed.
Run: python -m tests.benchmarks.bench_attention [--quick]
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from scanner.records import jobs, schema
from scanner.records.database import Database
from scanner.records.models import Account
from scanner.records.states import JobKind, JobState
from scanner.sources.batches.shedding import shed
from scanner.sources.pushes.discovered import DiscoveredPush, queue_discovered
from scanner.sources.pushes.likelihood import PRIORITIES
from scanner.sources.pushes.push import Push
from tests.benchmarks.targets import Targets

PUSHES_PER_SECOND, GIT_PER_SECOND = 70, 5
NEW_PER_SECOND = 230 / 60
MIN_FOUND_SHARE = 60.0
QUEUE_MAX_PUSHES = 10_000
CUSTOMERS = 200
LANGUAGES = ("Python", "JavaScript", "TypeScript", "Java", "C++", "HTML", "Rust", "PHP", None)

# # Shares of all pushes. These are assumptions.
MACHINE_SHARE, FORK_SHARE, CUSTOMER_SHARE, VENDOR_SHARE = 0.25, 0.15, 0.005, 0.0005
# Shares of pushes that leak. A token has an account, and accounts are made by signing in with GitHub, so most owners
# have its name; first pushes are 45 of 85 leaks by push (docs/coverage/inputs.toml).
LEAK_NEW_SHARE, LEAK_CUSTOMER_SHARE, LEAK_VENDOR_SHARE, LEAK_MACHINE_SHARE = 0.53, 0.6, 0.25, 0.02


@dataclass(frozen=True)
class Shares:
    """The frequency of each trait in a group of pushes."""

    machine: float
    new: float
    customer: float
    vendor: float


ORDINARY = Shares(MACHINE_SHARE, NEW_PER_SECOND / PUSHES_PER_SECOND, CUSTOMER_SHARE, VENDOR_SHARE)
LEAKING = Shares(LEAK_MACHINE_SHARE, LEAK_NEW_SHARE, LEAK_CUSTOMER_SHARE, LEAK_VENDOR_SHARE)


def pushed(number: int, chance: random.Random, shares: Shares) -> DiscoveredPush:
    """Return one push as repository search shows it."""
    is_customer = chance.random() < shares.customer
    owner = f"customer{chance.randrange(CUSTOMERS)}" if is_customer else f"user{number}"
    owner = f"{owner}-bot" if chance.random() < shares.machine and not is_customer else owner
    return DiscoveredPush(
        repository_id=number + 1,
        repository=f"{owner}/project{number}",
        pushed_at=datetime.now(UTC),
        default_branch="main",
        tip=f"{number:040x}",
        is_new=chance.random() < shares.new,
        is_fork=chance.random() < FORK_SHARE,
        size_kb=int(chance.lognormvariate(6, 3)),
        language=chance.choice(LANGUAGES),
        mentions_vendor=chance.random() < shares.vendor,
    )


def run(database: Database, seconds: int, leaks: int, traits: Shares) -> tuple[Counter[str], Counter[str]]:
    """Simulate the reading. Return the numbers of reads and finds by band."""
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
    """Run the simulation on a new database. Return the numbers of reads and finds by band."""
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'r8scan.db'}")
        schema.upgrade(database)
        try:
            return run(database, seconds, leaks, traits)
        finally:
            database.close()


def main() -> int:
    """Run the simulation and print the table of finds by band."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    seconds, leaks = (60, 200) if options.quick else (300, 1000)
    read, found = simulate(seconds, leaks, LEAKING)
    print(f"  {'band':<14}{'read':>8}{'found':>8}{'found of 100 read':>20}")
    for band in PRIORITIES:
        share = 100 * found[band] / read[band] if read[band] else 0.0
        print(f"  {band:<14}{read[band]:>8}{found[band]:>8}{share:>20.2f}")
    _, without = simulate(seconds, leaks, replace(LEAKING, customer=CUSTOMER_SHARE))
    print(f"  found if owners' names say nothing: {100 * sum(without.values()) / leaks:.1f} % (no target)")
    targets = Targets()
    share_read = 100 * sum(read.values()) / (seconds * PUSHES_PER_SECOND)
    print(f"  pushes read: {share_read:.1f} %", flush=True)
    targets.at_least("planted leaks found by ranking alone", 100 * sum(found.values()) / leaks, MIN_FOUND_SHARE, " %")
    return targets.status()


if __name__ == "__main__":
    sys.exit(main())

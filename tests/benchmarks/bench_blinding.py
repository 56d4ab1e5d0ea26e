"""Attackers try to hide planted leaks with hostile pushes, events, comments, gists and alerts.

Exit status 1: a target was missed.

Run: python -m tests.benchmarks.bench_blinding [--quick]
"""

from __future__ import annotations

import argparse
import functools
import itertools
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from scanner.detection.digests import sha256_digest
from tests.benchmarks.attack_runs import left_running
from tests.benchmarks.firehose import Prepared, prepare
from tests.benchmarks.targets import Targets
from tests.hostile import github as hostile_github
from tests.hostile import service as hostile_service
from tests.hostile.corpus import inputs_for
from tests.hostile.registry import HostileInput
from tests.hostile.service import Service

PUSHES_A_SECOND = 35.0
PUSHES_A_LEAK = 25
MAX_P95_SECONDS = 5.0
MAX_WAIT_SECONDS = 300.0
"""The maximum time from the last event until all work is done."""


@dataclass
class Run:
    """The results of the benchmark. `delays` has the seconds until each found token was disabled."""

    planted: int
    delays: list[float] = field(default_factory=list)
    hostile: int = 0
    is_idle: bool = False
    has_ended: bool = False
    problems: list[str] = field(default_factory=list)
    missing_mails: int = 0
    repeated_mails: int = 0
    refused: int = 0
    left: int = 0

    @property
    def p95(self) -> float:
        if len(self.delays) < 2:
            return float("inf")
        return statistics.quantiles(sorted(self.delays), n=20)[-1]


def hostile_deeds(service: Service, count: int, run: Run) -> list[Callable[[], None]]:
    """Return `count` functions, each for one hostile action such as a push or a comment."""
    small = inputs_for("file")
    kinds: list[Iterator[Callable[[], None]]] = [
        _each(small, lambda _, content: service.github.show(hostile_github.push({b"hostile": content}))),
        _each(inputs_for("comment"), lambda _, content: service.github.show(_comment(content))),
        _each(inputs_for("event"), lambda _, content: service.github.show_raw(content)),
        _each(small[::-1], lambda _, content: service.github.show_gist({"hostile": content})),
        _each(inputs_for("pack"), lambda one, content: service.github.show(_pack(one, content))),
        _each(inputs_for("alert"), lambda _, content: _alert(service, content, run)),
    ]
    turns = itertools.cycle(kinds)
    return [next(next(turns)) for _ in range(count)]


def _each(inputs: list[HostileInput], deed: Callable[[HostileInput, bytes], None]) -> Iterator[Callable[[], None]]:
    """Yield functions without end. Each calls `deed` with a random hostile input and its content."""
    mixed = random.Random(1).sample(inputs, len(inputs))
    for one in itertools.cycle(mixed):
        yield functools.partial(deed, one, one.content())


def _comment(content: bytes) -> Prepared:
    return hostile_github.comment(content.decode("utf-8", "replace"))


def _pack(one: HostileInput, content: bytes) -> Prepared:
    # Give the last commit of each push a different id, because the service reads each commit only once.
    number = next(_pack_numbers)
    return hostile_github.push_of_pack(content, sha256_digest(f"{one.name} {number}".encode())[:40])


_pack_numbers = itertools.count()


def _alert(service: Service, content: bytes, run: Run) -> None:
    try:
        run.refused += service.alert(content).status_code >= 500
    except httpx.HTTPError:
        run.refused += 1


def measure(leaks: int, hostile: int) -> Run:
    """Run the service while leaks are pushed and attackers act. Return the results.

    Args:
        leaks: The number of pushes that contain a token.
        hostile: The number of hostile actions.
    """
    folder = Path(tempfile.mkdtemp(prefix="r8scan-blinding-"))
    pushes = prepare(leaks * PUSHES_A_LEAK, leaks)
    tokens = [push.token for push in pushes if push.token]
    run = Run(len(tokens))
    try:
        with hostile_service.running(folder, pushes, PUSHES_A_SECOND) as service:
            digests = {
                service.register(token, f"owner{number}@example.com"): token for number, token in enumerate(tokens)
            }
            _play(service, hostile, len(pushes) / PUSHES_A_SECOND, run)
            _await_rest(service, set(digests), run)
            disabled = service.disabled_at()
            visible = service.github.visible
            run.delays = [disabled[digest] - visible[token] for digest, token in digests.items() if digest in disabled]
            service.mailbox.wait_for(len(run.delays), 60)
            run.problems = service.status()
            service.process.terminate()
            run.has_ended = _has_ended(service)
            recipients = service.mailbox.recipients
            run.missing_mails = len(tokens) - len({one for one in recipients if one.startswith("owner")})
            run.repeated_mails = len(recipients) - len(set(recipients))
        run.left = len(left_running(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return run


def _play(service: Service, hostile: int, seconds: float, run: Run) -> None:
    """Show the pushes and do the hostile actions, spread evenly over `seconds` seconds."""
    deeds = hostile_deeds(service, hostile, run)
    service.github.started = start = time.time()
    for number, deed in enumerate(deeds):
        due = start + seconds * number / hostile
        time.sleep(max(due - time.time(), 0.0))
        deed()
        run.hostile += 1
    time.sleep(max(start + seconds - time.time(), 0.0))


def _await_rest(service: Service, digests: set[str], run: Run) -> None:
    deadline = time.monotonic() + MAX_WAIT_SECONDS
    while time.monotonic() < deadline:
        run.is_idle = service.is_idle()
        if run.is_idle and digests <= service.disabled_at().keys():
            return
        time.sleep(0.5)


def _has_ended(service: Service) -> bool:
    """Return whether the service ends with status 0 after SIGTERM."""
    try:
        return service.process.wait(60) == 0
    except subprocess.TimeoutExpired:
        return False


def report(run: Run, targets: Targets) -> None:
    print(f"{run.planted} leaks among {run.planted * PUSHES_A_LEAK} pushes, {run.hostile} hostile deeds", flush=True)
    if run.delays:
        print(f"  visible to disabled: p50 {statistics.median(run.delays):.2f} s  longest {max(run.delays):.2f} s")
    for problem in run.problems:
        print(f"  status: {problem}")
    targets.exactly("planted leaks found", len(run.delays), run.planted)
    targets.below("visible to disabled, p95", run.p95, MAX_P95_SECONDS, " s")
    targets.exactly("jobs left unfinished", float(not run.is_idle), 0)
    targets.exactly("processes that did not end when told to", float(not run.has_ended), 0)
    targets.exactly("processes left running", run.left, 0)
    targets.exactly("problems in status", len(run.problems), 0)
    targets.exactly("owners without a mail", run.missing_mails, 0)
    targets.exactly("owners with more than one mail", run.repeated_mails, 0)
    targets.exactly("alerts that were not answered", run.refused, 0)


def main() -> int:
    """Run the benchmark and print its results. Return 1 if a target was missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="20 leaks, 40 hostile deeds")
    options = parser.parse_args()
    targets = Targets()
    report(measure(*((20, 40) if options.quick else (100, 200))), targets)
    return targets.status()


if __name__ == "__main__":
    sys.exit(main())

"""Runs fuzz tests for minutes (`make fuzz`), each in a process with limits on CPU time and memory.

If a test fails, the program prints the error and the path of a file with the last input, and exits with status 1. With
`--mutations N`, it instead checks N damaged files of each format.

Run: python -m tests.fuzz [--minutes N | --mutations N] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck

from tests.fuzz.mutations import check_format, formats
from tests.fuzz.targets import Target, read, targets

MAX_EXAMPLE_CPU_SECONDS = 10
MAX_MEMORY = 1 << 30
"""The limit for the address space of a process that runs a fuzz test, in bytes."""
EXAMPLES_A_ROUND = 500


def fuzz(target: Target, seconds: float, current: Path) -> None:
    """Run one fuzz test on new inputs for `seconds` seconds.

    Each input is first written to the file `current`.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    deadline = time.monotonic() + seconds

    @hypothesis.settings(
        max_examples=EXAMPLES_A_ROUND, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @hypothesis.given(target.examples)
    def check(example: Any) -> None:
        begin(example, current)
        target.check(example)

    rounds = 0
    while time.monotonic() < deadline or not rounds:
        check()
        rounds += 1
    print(f"{rounds * EXAMPLES_A_ROUND} examples", flush=True)


def begin(example: Any, current: Path) -> None:
    """Write an input to the file `current`, and limit the CPU time of its test."""
    current.write_bytes(pickle.dumps(example))
    usage = resource.getrusage(resource.RUSAGE_SELF)
    most = int(usage.ru_utime + usage.ru_stime) + MAX_EXAMPLE_CPU_SECONDS
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.RLIM_INFINITY))


def mutate(name: str, number: int, current: Path) -> None:
    """Check `number` damaged files of the format `name` with limited memory."""
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    slowest = check_format(name, number, read, lambda damaged: begin(damaged, current))
    print(f"{number} mutations, the slowest took {slowest:.2f} s", flush=True)


def main() -> int:
    """Run all fuzz tests, or those named on the command line. Return 1 if one failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--mutations", type=int, default=0, metavar="N")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--here", metavar="NAME", help=argparse.SUPPRESS)
    parser.add_argument("--current", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    names = formats() if options.mutations else [target.name for target in targets()]
    chosen = [name for name in names if not options.only or name in options.only]
    if options.here and options.mutations:
        mutate(options.here, options.mutations, options.current)
        return 0
    if options.here:
        target = next(one for one in targets() if one.name == options.here)
        fuzz(target, options.minutes * 60, options.current)
        return 0
    amount = ["--mutations", str(options.mutations)]
    if not options.mutations:
        amount = ["--minutes", str(options.minutes / len(chosen))]
    failed = [name for name in chosen if not _runs_well(name, amount)]
    print(f"{len(chosen)} targets, {len(failed)} failed{': ' + ', '.join(failed) if failed else ''}")
    return 1 if failed else 0


def _runs_well(name: str, amount: Sequence[str]) -> bool:
    folder = Path(tempfile.mkdtemp(prefix="r8scan-fuzz-"))
    current = folder / "example.pickle"
    command = [sys.executable, "-m", "tests.fuzz", "--here", name, "--current", str(current), *amount]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode == 0:
        print(f"{name}: {done.stdout.strip()}", flush=True)
        current.unlink(missing_ok=True)
        folder.rmdir()
        return True
    how = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit status {done.returncode}"
    print(f"{name}: FAILED ({how}); the last example is in {current}\n{done.stderr[-4000:]}", flush=True)
    return False


if __name__ == "__main__":
    sys.exit(main())

"""Tests of the benchmarks with hostile inputs: exceeded limits are named, and CPU time is measured for each process."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks.attack_runs import Row
from tests.benchmarks.bench_blinding import Run, report
from tests.benchmarks.table_attacks import judged, line
from tests.benchmarks.targets import Targets
from tests.hostile.measured import Measurer
from tests.hostile.processes import Watch

GOOD = Row("a", "zip", "an attack", "push", 1_000_000, 9.0, 0.4, "scanner@r8scan", 350.0, "entries 1", True, True, 1.5)
BURN = """
import sys, time
while time.process_time() < 0.3:
    sum(range(10_000))
print("done", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, ()),
        ({"reader_cpu": 10.5}, ("CPU of a reader",)),
        ({"elsewhere_cpu": 0.6}, ("CPU of scanner@r8scan",)),
        ({"peak_mb": 401.0}, ("memory",)),
        ({"is_neighbour_found": False}, ("neighbour missed",)),
        ({"is_neighbour_found": False, "has_neighbour": False}, ()),
        ({"neighbour_seconds": 5.5}, ("neighbour late",)),
        ({"neighbour_seconds": 5.5, "way": "gist"}, ()),
        ({"failure": "exit status -9"}, ("exit status -9",)),
    ],
)
def test_each_broken_limit_is_named(changes: dict[str, object], broken: tuple[str, ...]) -> None:
    assert judged(replace(GOOD, **changes)).broken == broken  # type: ignore[arg-type]  # values of different types


def test_a_row_shows_what_was_recorded_and_when_the_other_leak_was_disabled() -> None:
    wanted = "| zip: an attack | push | 1 MB | 9.0 s | 0.40 s | 350 MB | entries 1 | disabled after 1.5 s |"
    assert line(judged(GOOD)) == wanted


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, []),
        ({"delays": [1.0, 1.0]}, ["planted leaks found"]),
        ({"delays": [1.0, 9.0, 9.0]}, ["visible to disabled, p95"]),
        ({"is_idle": False}, ["jobs left unfinished"]),
        ({"has_ended": False}, ["processes that did not end when told to"]),
        ({"left": 1}, ["processes left running"]),
        ({"problems": ["not polled"]}, ["problems in status"]),
        ({"missing_mails": 1}, ["owners without a mail"]),
        ({"repeated_mails": 1}, ["owners with more than one mail"]),
        ({"refused": 1}, ["alerts that were not answered"]),
    ],
)
def test_the_blinding_run_keeps_every_promise_or_names_it(changes: dict[str, object], broken: list[str]) -> None:
    run = Run(planted=3, delays=[1.0, 1.5, 2.0], hostile=6, is_idle=True, has_ended=True)
    targets = Targets()
    report(replace(run, **changes), targets)  # type: ignore[arg-type]  # values of different types
    assert targets.broken == broken


def test_the_cpu_of_readers_is_counted_separately() -> None:
    with ExitStack() as stack:
        reader, other = (
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", BURN, word], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
                )
            )
            for word in ("scanner.isolation", "something.else")
        )
        with Watch(reader.pid, other.pid) as watch:
            for child in (reader, other):
                assert child.stdout is not None
                assert child.stdout.readline() == "done\n"
        for child in (reader, other):
            child.kill()
    assert watch.costs.by_pid[reader.pid].is_reader
    assert watch.costs.most_of_a_reader() == watch.costs.by_pid[reader.pid].cpu > 0
    assert watch.costs.most_elsewhere().cpu == watch.costs.by_pid[other.pid].cpu > 0
    assert watch.costs.peak_mb() > 1


def test_work_above_its_cpu_limit_is_ended_and_reported_as_an_error(tmp_path: Path) -> None:
    path = tmp_path / "input"
    with Measurer() as measurer:
        path.write_bytes(b"H4sI" * (1 << 18))
        assert measurer.run("read", path, cpu_seconds=0).ended in ("SIGXCPU", "SIGKILL")
        path.write_bytes(b"{")
        assert measurer.run("event", path).ended == "JSONDecodeError"
        assert measurer.run("bounce", path).is_within_limits

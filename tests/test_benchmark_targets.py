"""Tests that a benchmark prints the targets that it missed, and then fails."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.benchmarks import bench_http_flood, bench_mails, bench_scaling, table_attacks
from tests.benchmarks.bench_firehose import Run, report
from tests.benchmarks.targets import Targets


def run(**changes: object) -> Run:
    values: dict[str, object] = {
        "leaks": 3,
        "found": 3,
        "delays": [0.5, 0.7, 0.9],
        "pushes": 1000,
        "seconds": 5.0,
        "cpu": 10.0,
        "memory": [50, 100, 100, 101, 100, 99],
        "gaps": 0,
        "dropped": 0,
        "served_leaks": 3,
        "unread": 0,
    }
    return Run(**(values | changes))  # type: ignore[arg-type]  # values of different types


@pytest.mark.parametrize(
    ("changes", "broken"),
    [
        ({}, []),
        ({"found": 2}, ["leaks found in what was read"]),
        ({"dropped": 1}, ["pages dropped"]),
        ({"unread": 1}, ["pages not read to their end"]),
    ],
)
def test_every_leak_has_to_be_found_and_nothing_dropped(changes: dict[str, object], broken: list[str]) -> None:
    targets = Targets()
    report("a run", run(**changes), targets)
    assert (targets.broken, targets.status()) == (broken, int(bool(broken)))


def test_the_rate_the_percentile_and_the_growth_are_computed_from_one_run() -> None:
    assert (run().rate, run(delays=[]).p95) == (200.0, float("inf"))
    assert run().p95 >= 0.9
    assert run().growth == pytest.approx(1.0, abs=0.02)
    assert run(memory=[100, 100, 100, 150, 200, 200]).growth > 1.25


@pytest.mark.parametrize(
    ("figures", "status"),
    [
        ({1: (100.0, 8.0), 2: (180.0, 8.5), 4: (200.0, 9.0)}, 0),
        ({1: (100.0, 8.0), 2: (160.0, 8.5), 4: (200.0, 9.0)}, 1),
        ({1: (100.0, 8.0), 2: (180.0, 8.5), 4: (200.0, 11.0)}, 1),
    ],
)
def test_more_processes_are_compared_with_one(figures: dict[int, tuple[float, float]], status: int) -> None:
    assert bench_scaling.judge(figures) == status


@pytest.mark.parametrize(
    ("copies", "states", "broken"),
    [
        ({"a": 1, "b": 1}, {"sent": 2}, []),
        ({"a": 2, "b": 1}, {"sent": 2}, ["owners told more than once"]),
        ({"a": 1}, {"sent": 1, "pending": 1}, ["owners told", "rows sent", "rows in another state"]),
    ],
)
def test_every_owner_has_to_get_one_mail(copies: dict[str, int], states: dict[str, int], broken: list[str]) -> None:
    targets = Targets()
    bench_mails.judge(targets, 2, copies, 2, states)
    assert targets.broken == broken


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, 0),
        ({"seconds": [0.1, 2.0]}, 1),
        ({"failures": Counter({"503": 1})}, 1),
        ({"memory": [100.0] * 7 + [201.0]}, 1),
        ({"memory": [80.0, 80.0, 80.0, 80.0, 120.0, 120.0, 120.0, 120.0]}, 1),
    ],
)
def test_every_signed_alert_has_to_be_answered_in_time_and_memory_stays_flat(
    changes: dict[str, object], status: int
) -> None:
    values: dict[str, object] = {"seconds": [0.1, 0.2], "memory": [100.0] * 8}
    measured = bench_http_flood.Run(**(values | changes))  # type: ignore[arg-type]  # values of different types
    assert bench_http_flood.judge(measured) == status


def test_each_figure_is_printed_beside_its_target(capsys: pytest.CaptureFixture[str]) -> None:
    targets = Targets()
    targets.below("p95", 6.0, 5.0, " s")
    assert capsys.readouterr().out == "  p95: 6 s (target: below 5 s)  NOT KEPT\n"


def test_a_partial_attack_table_replaces_only_its_rows() -> None:
    page = f"before\n{table_attacks.BEGIN}\n\n{table_attacks.HEAD}\n"
    page += f"| a: 1 | scan | 1 B |\n| a: 1 | push | 1 B |\n\n{table_attacks.END}\nafter\n"
    rows = ["| a: 1 | push | 2 B |", "| b: 1 | mail | 3 B |"]
    partly = table_attacks.merged(page, rows, is_whole=False)
    assert [line for line in partly.splitlines() if line.endswith(" B |")] == ["| a: 1 | scan | 1 B |", *rows]
    whole = table_attacks.merged(partly, rows, is_whole=True)
    assert [line for line in whole.splitlines() if line.endswith(" B |")] == rows
    assert table_attacks.merged(whole, [], is_whole=False) == whole
    assert whole.startswith("before\n")
    assert whole.endswith("\nafter\n")

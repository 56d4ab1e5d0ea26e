"""Tests for the function that runs the checks of `r8scan doctor`, also if they fail or take too long."""

from __future__ import annotations

import threading
from typing import NoReturn

import pytest

from workers.health.checks.check import Check, Off, State, Wrong, run


def _raise(err: Exception) -> NoReturn:
    raise err


def test_each_outcome_is_one_line_and_in_the_given_order() -> None:
    checks = [
        Check("a", lambda: "two\nlines"),
        Check("b", lambda: _raise(Wrong("it is broken", "mend it"))),
        Check("c", lambda: _raise(Off("no setting asks for it"))),
    ]
    assert [(one.check, one.state, one.sentence, one.todo) for one in run(checks)] == [
        ("a", State.OK, "two lines", ""),
        ("b", State.FAILED, "it is broken", "mend it"),
        ("c", State.OFF, "no setting asks for it", ""),
    ]


def test_a_check_whose_need_failed_is_not_run_and_names_it() -> None:
    asked: list[str] = []

    def worker() -> str:
        asked.append("worker")
        return "ok"

    checks = [
        Check("worker", worker, ("redis",)),
        Check("redis", lambda: _raise(Wrong("it is away", "start it"))),
    ]
    skipped, _ = run(checks)
    assert (skipped.state, skipped.sentence) == (State.SKIPPED, "not checked, because the check of redis failed")
    assert asked == []


def test_checks_that_hang_fail_together_at_one_time_limit_and_the_others_are_shown() -> None:
    never = threading.Event()
    try:
        checks = [Check(f"hangs {n}", lambda: str(never.wait())) for n in range(3)] + [Check("works", lambda: "fine")]
        found = list(run(checks, seconds=0.1))
    finally:
        never.set()
    assert [one.state for one in found] == [State.FAILED] * 3 + [State.OK]
    assert found[0].sentence == "it did not answer in time"


@pytest.mark.parametrize("words", ["redis://user:hunter2@host", "Bearer hunter2"])
def test_the_text_of_an_unexpected_error_is_not_shown(words: str) -> None:
    (found,) = run([Check("a", lambda: _raise(RuntimeError(words)))])
    assert found.state is State.FAILED
    assert "hunter2" not in found.sentence + found.todo
    assert "RuntimeError" in found.sentence

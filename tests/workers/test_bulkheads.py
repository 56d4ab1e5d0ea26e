"""Tests for the limit on the number of threads for each kind of task."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from workers import bulkheads
from workers.bulkheads import RESPONDER_THREADS, SLOTS, slot


def test_a_task_without_a_free_slot_does_nothing() -> None:
    with ExitStack() as stack:
        assert all(stack.enter_context(slot("deliver")) for _ in range(SLOTS["deliver"]))
        with slot("deliver") as is_free:
            assert not is_free
        with slot("look_up") as is_free:
            assert is_free, "another kind of task has its own limit"
    with slot("deliver") as is_free:
        assert is_free


def test_a_slot_is_free_again_after_a_failure() -> None:
    taken: list[bool] = []

    def fail() -> None:
        with slot("tidy") as is_free:
            taken.append(is_free)
            raise ValueError("spoilt")

    for _ in range(SLOTS["tidy"] + 1):
        with pytest.raises(ValueError, match="spoilt"):
            fail()
    assert all(taken)


def test_sweeps_and_reports_always_have_a_thread() -> None:
    assert sum(bulkheads.SLOTS.values()) < RESPONDER_THREADS

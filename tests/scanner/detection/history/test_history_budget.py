"""Tests for the limit on work with git deltas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.detection import Detector, sha256_digest
from scanner.detection.history import history_budget
from scanner.detection.history.history_budget import HistoryBudget
from scanner.detection.history.pack_history import messages, readers
from scanner.detection.history.scan import scan_history
from tests.scanner.detection.history.pack_history.written import blob, deltas_of, empty_repository, write_pack

Token = Callable[[], str]
SIZE, DELTAS = 1 << 20, 60


@pytest.fixture
def bomb(tmp_path: Path, fresh_token: Token, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, str]:
    """Return the path of a small repository whose deltas exceed the limit, and the digest of a token in it."""
    monkeypatch.setattr(history_budget, "MIN_BUDGET", 20 << 20)
    monkeypatch.setattr(history_budget, "BUDGET_PER_BYTE", 1)
    token = fresh_token()
    repository = empty_repository(tmp_path / "r.git")
    write_pack(repository, "aa", [*deltas_of(SIZE, DELTAS), blob(token.encode())])
    return repository, sha256_digest(token.encode())


@pytest.mark.parametrize("first_size", [0, 1 << 40])
def test_objects_over_the_budget_are_named_and_those_stored_whole_are_read(
    bomb: tuple[Path, str], first_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MIN_PACK_BYTES", first_size)
    repository, digest = bomb
    history = scan_history(repository, Detector())
    over = history.unread["inflated_over_limit"]
    assert DELTAS - 22 <= over < DELTAS
    assert history.unread == {"inflated_over_limit": over}
    assert [part.reason for part in history.parts] == ["inflated_over_limit"] * over
    assert history.objects + over == DELTAS + 2
    assert [candidate.digest for candidate in history.candidates] == [digest]


def test_git_reads_no_more_than_the_budget_of_a_process_that_died(
    bomb: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise messages.BadMessage("the worker has ended")

    monkeypatch.setattr(readers, "MIN_PACK_BYTES", 0)
    monkeypatch.setattr(readers._Reading, "_read_unit", dies)
    repository, digest = bomb
    history = scan_history(repository, Detector())
    assert DELTAS - 22 <= history.unread["inflated_over_limit"] < DELTAS
    assert history.objects + history.unread["inflated_over_limit"] == DELTAS + 2
    assert [candidate.digest for candidate in history.candidates] == [digest]


@given(st.lists(st.integers(0, 1 << 50), max_size=20), st.integers(0, 1 << 40), st.lists(st.integers(0, 1 << 50)))
def test_units_never_get_more_than_the_budget_and_each_gets_its_fair_share(
    weights: list[int], packed: int, left: list[int]
) -> None:
    total = history_budget.MIN_BUDGET + history_budget.BUDGET_PER_BYTE * packed
    budget = HistoryBudget(packed)
    budget.reserve(weights)
    assert budget.left >= 0
    spent = 0
    for unit, weight in enumerate(weights):
        granted = budget.grant(unit)
        assert granted >= min(weight, total // len(weights))
        unused = min(left[unit], granted) if unit < len(left) else 0
        spent += granted - unused
        budget.settle(unit, unused)
    assert spent + budget.left == total


def test_a_unit_whose_estimate_was_too_low_gets_what_is_not_reserved() -> None:
    budget = HistoryBudget(0)
    budget.reserve([1000, 5])
    assert budget.grant(1) > history_budget.MIN_BUDGET // 3
    assert budget.grant(0) >= 1000


def test_work_outside_of_units_is_taken_from_the_rest() -> None:
    budget = HistoryBudget(0)
    budget.take(5)
    assert budget.left == history_budget.MIN_BUDGET - 5
    budget.take(1 << 60)
    assert budget.left == 0

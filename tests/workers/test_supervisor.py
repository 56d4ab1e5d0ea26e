"""Tests that the supervisor restarts a process that has ended, with growing delays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scanner.settings import load_settings
from workers import supervisor
from workers.supervisor import Service, Supervisor

NAME = "beat"


@pytest.fixture
def revive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], bool]]:
    """Yield a function that calls the supervisor's `_revive` after the end of its child process.

    It returns whether the child process was started again.
    """
    # In this test, the child only prints its version and ends.
    monkeypatch.setattr(supervisor, "services", lambda *_: [Service(NAME, ("--version",))])
    parent = Supervisor(load_settings())
    parent._start_all_services()

    def once() -> bool:
        child = parent._children[NAME]
        child.wait(120)
        parent._revive()
        return parent._children[NAME] is not child

    yield once
    parent._children[NAME].wait(120)


def test_a_process_that_ends_at_once_is_started_again_at_once_and_then_later(revive: Callable[[], bool]) -> None:
    assert revive()
    assert not revive(), "after the second end in a row, the restart waits"


def test_a_process_that_was_stable_is_started_again_at_once_each_time(
    revive: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "STABLE_SECONDS", -1.0)
    assert [revive() for _ in range(3)] == [True] * 3


def test_a_part_of_the_service_creates_its_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this folder, the supervisor would take the processes for hanging and kill them."""
    state = tmp_path / "new" / "state"
    settings = load_settings(state_dir=state, redis_url="redis://127.0.0.1:1/0")
    parent = Supervisor(settings, only=("scanner",))
    monkeypatch.setattr(supervisor, "prepare", lambda _: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    monkeypatch.setattr(parent, "_start_all", parent.stop)
    parent.run()
    assert state.stat().st_mode & 0o777 == 0o700

"""Tests for git processes that read a hostile repository and must end at a deadline."""

from __future__ import annotations

import os
import threading

import psutil
import pytest

from scanner.detection import Detector
from scanner.detection.history import history_reader
from scanner.detection.history import scan as history
from scanner.detection.history.git_processes import Deadline, killed_at, started
from scanner.detection.history.scan import scan_history
from tests.scanner.detection.repositories import Token, scanned
from workers.sandbox.workplace import Workplace


def descendants() -> list[psutil.Process]:
    return [child for child in psutil.Process().children(recursive=True) if "git" in child.name()]


def test_a_stopped_scan_leaves_no_process_and_counts_the_unread_rest(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        work.write(f"f{number}", os.urandom(200_000))
    work.commit("x")
    monkeypatch.setattr(history_reader, "BLOCK", 1 << 16)
    stop = threading.Event()

    class Stopping(Detector):
        @staticmethod
        def suspects(batch: bytes) -> list[int]:
            stop.set()
            return []

    found = scan_history(work.path / ".git", Stopping(), readers=2, stop=stop)
    assert found.unread["stopped"] > 0
    assert descendants() == []


def test_a_silent_child_is_killed_at_the_deadline(work: Workplace) -> None:
    work.commit("x")
    deadline = Deadline(seconds=0)
    with started(work.path / ".git", ["cat-file", "--batch"]) as child, killed_at(deadline, child):
        assert child.stdout is not None
        assert child.stdout.read() == b""  # the end of the output shows that git was killed
    assert descendants() == []


def test_a_history_that_exceeds_its_time_is_counted(work: Workplace) -> None:
    work.commit("x")
    assert scan_history(work.path / ".git", Detector(), seconds=0).unread == {"history_seconds": 1}
    assert descendants() == []


def test_a_git_process_that_is_killed_from_outside_loses_one_object(
    work: Workplace, fresh_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [fresh_token() for _ in range(3)]
    for number, token in enumerate(tokens):
        work.write(f"f{number}", token)
    work.commit("x")
    killed: list[int] = []
    real = history_reader._Parser.step

    def step(self: history_reader._Parser) -> bool:
        if not killed:
            for child in descendants():
                killed.append(child.pid)
                child.kill()
            return False
        return real(self)

    monkeypatch.setattr(history_reader._Parser, "step", step)
    found = scan_history(work.path / ".git", Detector(), readers=1)
    assert found.unread["object_damaged"] == 1
    assert len([part for part in found.parts if part.reason == "object_damaged"]) == 1
    assert descendants() == []


def test_an_unread_object_is_named_with_its_path(work: Workplace) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 5\n"
    work.write("d/model.bin", pointer)
    commit = work.commit("x")
    oid = work.git("rev-parse", "HEAD:d/model.bin").strip()
    (part,) = scanned(work.path / ".git").parts
    assert part == history.UnreadPart("lfs_pointer", 1, oid, "file", "d/model.bin", commit)

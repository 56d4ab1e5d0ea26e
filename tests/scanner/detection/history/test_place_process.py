"""Tests for the confined process that searches for the paths and commits of objects."""

from __future__ import annotations

import json
import os
from pathlib import Path

import psutil
import pytest

from scanner.detection.history import place_process
from scanner.detection.history.git_processes import Deadline
from scanner.detection.history.git_repositories import Repository
from scanner.detection.history.object_places import ObjectPlace
from scanner.detection.history.place_process import locate
from workers.sandbox.git_backend import git
from workers.sandbox.workplace import Workplace

WANTED = "ab" * 20
COMMIT = "cd" * 20


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path, tips=["ef" * 20])


def use_git(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a shell script named `git` first on the PATH."""
    program = folder / "bin" / "git"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_a_process_finds_the_places_of_objects_in_a_repository(tmp_path: Path) -> None:
    work = Workplace(tmp_path / "work", "")
    work.start()
    name = os.fsdecode(b"caf\xe9")
    work.write(f"d/{name}", "leak")
    work.commit("first")
    oid, head = (git("rev-parse", spec, cwd=work.path).decode().strip() for spec in (f"HEAD:d/{name}", "HEAD"))
    places = locate(Repository(work.path / ".git", tips=[head]), {oid, WANTED}, Deadline())
    assert places.found == {oid: ObjectPlace(f"d/{name}", head)}
    assert places.is_complete


def test_git_that_the_process_starts_cannot_write(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_git(tmp_path, monkeypatch, f"echo x > {tmp_path}/written; exit 1")
    assert not locate(repository, {WANTED}, Deadline()).found
    assert not (tmp_path / "written").exists()


def test_a_search_that_hangs_ends_at_the_deadline_with_all_its_processes(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = psutil.Process().children(recursive=True)
    use_git(tmp_path, monkeypatch, "exec sleep 1000")
    places = locate(repository, {WANTED}, Deadline(seconds=1.0))
    assert (places.found, places.is_complete) == ({}, False)
    assert not set(psutil.Process().children(recursive=True)) - set(before)


@pytest.mark.parametrize(
    "forged",
    [
        "1",
        "null",
        "[" * 100_000,
        json.dumps(["12" * 20, "a", COMMIT]),
        json.dumps([WANTED, "a", "https://example.com"]),
        json.dumps([WANTED, "a" * 10_000, COMMIT]),
        json.dumps([WANTED, ["a"], COMMIT]),
        "x" * 1_000_000,
        "",
    ],
)
def test_a_forged_answer_names_no_place(repository: Repository, monkeypatch: pytest.MonkeyPatch, forged: str) -> None:
    monkeypatch.setattr(place_process, "_PROGRAM", f"print({forged[:50_000]!r}); print('true')")
    places = locate(repository, {WANTED}, Deadline())
    assert (places.found, places.is_complete) == ({}, False)

"""Tests for finding the paths and commits of objects."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from scanner.detection import Detector, sha256_digest
from scanner.detection.history import object_places
from scanner.detection.history import scan as history
from scanner.detection.history.object_places import _Objects
from scanner.detection.history.scan import HistoryScan, scan_history
from workers.sandbox.git_backend import git

Token = Callable[[], str]
PERSON = {f"GIT_{role}_{field}": "a@b" for role in ("AUTHOR", "COMMITTER") for field in ("NAME", "EMAIL")}


@pytest.fixture(autouse=True)
def _searches_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the test's own process search for the paths of objects."""
    monkeypatch.setattr(history, "locate", object_places.locate)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    git("init", "-q", "--bare", "--template=", tmp_path / "bare.git")
    return tmp_path / "bare.git"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that collects the ids of all git objects that r8scan reads."""
    ids: list[str] = []
    real = _Objects.read

    def read(self: _Objects, oids: Sequence[str]) -> Iterator[bytes | None]:
        ids.extend(oids)
        return real(self, oids)

    monkeypatch.setattr(_Objects, "read", read)
    return ids


def blob(bare: Path, content: str) -> str:
    return git("hash-object", "-w", "--stdin", cwd=bare, content=content.encode()).decode().strip()


def tree(bare: Path, *entries: str) -> str:
    listed = "".join(f"{entry}\0" for entry in entries).encode("utf-8", "surrogateescape")
    return git("mktree", "-z", cwd=bare, content=listed).decode().strip()


def commit(bare: Path, root: str, *parents: str, day: int = 1) -> str:
    date = f"2026-01-{day:02} 00:00:00 +0000"
    people = {**PERSON, "GIT_AUTHOR_DATE": date, "GIT_COMMITTER_DATE": date}
    options = [option for parent in parents for option in ("-p", parent)]
    made = git("commit-tree", root, "-m", "x", *options, cwd=bare, env=people).decode().strip()
    git("update-ref", f"refs/heads/b{made}", made, cwd=bare)
    return made


def scanned(bare: Path) -> HistoryScan:
    return scan_history(bare, Detector())


def test_a_blob_with_a_hundred_million_paths_is_found_by_reading_nine_trees(
    bare: Path, fresh_token: Token, asked: list[str]
) -> None:
    leak = blob(bare, fresh_token())
    root = tree(bare, *(f"100644 blob {leak}\tf{number}" for number in range(10)))
    for _ in range(8):
        root = tree(bare, *(f"040000 tree {root}\td{number}" for number in range(10)))
    made = commit(bare, root)
    (found,) = scanned(bare).candidates
    assert (found.place.path, found.place.commit) == ("/".join(["d0"] * 8 + ["f0"]), made)
    assert len(asked) == 9


def test_a_tree_of_many_commits_and_refs_is_read_once(bare: Path, fresh_token: Token, asked: list[str]) -> None:
    leak = blob(bare, fresh_token())
    inner = tree(bare, f"100644 blob {leak}\tleak")
    root = tree(bare, f"040000 tree {inner}\td")
    loose = blob(bare, fresh_token())  # no tree contains it, so r8scan searches the whole history for it
    first = commit(bare, root)
    for day in range(2, 20):
        commit(bare, root, first, day=day)
    history = scanned(bare)
    places = {candidate.place.git_object: candidate.place for candidate in history.candidates}
    assert (places[leak].path, places[leak].commit, places[loose].path) == ("d/leak", first, None)
    assert (asked.count(root), asked.count(inner)) == (1, 1)
    assert "places_not_found" not in history.unread


def test_folders_deeper_than_the_limit_are_counted(
    bare: Path, fresh_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_places, "MAX_DEPTH", 20)
    token = fresh_token()
    root = tree(bare, f"100644 blob {blob(bare, token)}\tleak")
    for _ in range(30):
        root = tree(bare, f"040000 tree {root}\td")
    commit(bare, root)
    history = scanned(bare)
    assert [candidate.digest for candidate in history.candidates] == [sha256_digest(token.encode())]
    assert history.unread == {"places_not_found": 1}


@pytest.mark.parametrize("limit", ["MAX_TREES", "MAX_TREE_BYTES"])
def test_a_reached_limit_is_counted_and_earlier_places_are_kept(
    bare: Path, fresh_token: Token, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(object_places, limit, 2 if limit == "MAX_TREES" else 80)
    parent = None
    for day in range(1, 6):
        root = tree(bare, f"100644 blob {blob(bare, fresh_token())}\tf{day}")
        parent = commit(bare, root, *([parent] if parent else []), day=day)
    history = scanned(bare)
    assert len(history.candidates) == 5
    paths = [candidate.place.path for candidate in history.candidates if candidate.place.path]
    assert sorted(paths) == ["f1", "f2"]
    assert history.unread == {"places_not_found": 3}


def test_a_missing_parent_changes_only_the_order(bare: Path, fresh_token: Token) -> None:
    first = commit(bare, tree(bare, f"100644 blob {blob(bare, 'x')}\tx"))
    root = tree(bare, f"100644 blob {blob(bare, fresh_token())}\tleak")
    second = commit(bare, root, first, day=2)
    (bare / "objects" / first[:2] / first[2:]).unlink()
    (found,) = scanned(bare).candidates
    assert (found.place.path, found.place.commit) == ("leak", second)


def test_a_name_that_is_not_utf8_is_kept(bare: Path, fresh_token: Token) -> None:
    name = os.fsdecode(b"caf\xe9")
    commit(bare, tree(bare, f"100644 blob {blob(bare, fresh_token())}\t{name}"))
    (found,) = scanned(bare).candidates
    assert found.place.path == name


PARSING = """
import resource
from scanner.detection.history.object_places import _Walk
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
whole = b"100644 leak\\0" + bytes(range(20))
walk = _Walk([bytes(range(20)).hex()], 20, lambda *_: None)
print(walk._entries_of(whole + b"00000 " * 400_000), walk.places.is_complete)
print(walk._entries_of(b"00000 x\\0" * 400_000)[:0])
"""


def test_a_damaged_tree_costs_linear_time_and_keeps_the_entries_before_the_damage() -> None:
    # Quadratic work would take half an hour, and so exceed the process's limit of 20 CPU seconds.
    run = subprocess.run([sys.executable, "-c", PARSING], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [f"[(b'leak', {bytes(range(20))!r}, False)] False", "[]"]

"""Tests for reading a repository's branches and tags within limits."""

from __future__ import annotations

import json
import os
from collections import Counter

import psutil
import pytest

from scanner.detection import sha256_digest
from scanner.detection.history import repository_refs
from scanner.detection.history.repository_refs import Refs, read_refs, refs_of
from tests.scanner.detection.repositories import Token, scanned
from workers.sandbox.workplace import Workplace


def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a confined process read the branches and tags of every repository."""
    monkeypatch.setattr(repository_refs, "FEW_REFS", 0)


@pytest.mark.parametrize("limit", ["MAX_REFS", "MAX_LOOSE_REFS"])
def test_more_refs_than_the_limit_are_counted(work: Workplace, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(repository_refs, limit, 5)
    work.commit("x")
    for number in range(10):
        work.git("branch", f"b{number}")
    assert scanned(work.path / ".git").unread == {"refs_over_limit": 1}


def test_of_many_packed_refs_the_first_commits_are_kept_and_every_name_is_searched(
    work: Workplace, monkeypatch: pytest.MonkeyPatch, fresh_token: Token
) -> None:
    monkeypatch.setattr(repository_refs, "MAX_TIPS", 2)
    token = fresh_token()
    names = [*(f"refs/tags/t{number}" for number in range(5)), f"refs/tags/{token}"]
    packed = "".join(f"{number:040x} {name}\n" for number, name in enumerate(names))
    (work.path / ".git" / "packed-refs").write_text(packed)
    refs = read_refs(work.path / ".git")
    assert refs == Refs([f"{number:040x}" for number in range(2)], [names[-1].encode()])


def test_of_many_suspicious_names_those_with_plain_tokens_are_kept(
    work: Workplace, monkeypatch: pytest.MonkeyPatch, fresh_token: Token
) -> None:
    monkeypatch.setattr(repository_refs, "MAX_NAMES", 2)
    token = fresh_token()
    encoded = [f"refs/tags/{token.encode().hex()}{number}" for number in range(5)]
    packed = "".join(f"{'a' * 40} {name}\n" for name in [*encoded, f"refs/tags/{token}"])
    (work.path / ".git" / "packed-refs").write_text(packed)
    refs = read_refs(work.path / ".git")
    assert refs.names == [f"refs/tags/{token}".encode(), encoded[0].encode()]
    assert refs.unread == {"refs_over_limit": 1}


def test_a_process_reads_many_refs_with_the_same_result(
    work: Workplace, monkeypatch: pytest.MonkeyPatch, fresh_token: Token
) -> None:
    token = fresh_token()
    work.commit("x")
    work.git("branch", token)
    work.git("branch", "loose")
    (work.path / ".git" / "refs" / os.fsdecode(b"caf\xe9")).write_text("a" * 40)
    here = refs_of(work.path / ".git")
    in_process(monkeypatch)
    assert refs_of(work.path / ".git") == here
    assert [found.digest for found in scanned(work.path / ".git").candidates] == [sha256_digest(token.encode())]


def test_the_process_ends_at_its_deadline(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    in_process(monkeypatch)
    monkeypatch.setattr(repository_refs, "READ_SECONDS", 0)
    monkeypatch.setattr(repository_refs, "_PROGRAM", "import time; time.sleep(100)")
    work.commit("x")
    before = set(psutil.Process().children())
    assert refs_of(work.path / ".git") == Refs(unread=Counter({"refs_unreadable": 1}))
    assert set(psutil.Process().children()) <= before


@pytest.mark.parametrize(
    "forged",
    [
        "not json",
        "[" * 100_000,
        json.dumps([]),
        json.dumps({"tips": "x\n", "names": [], "unread": {}}),
        json.dumps({"tips": "", "names": [5], "unread": {}}),
        json.dumps({"tips": "", "names": ["x"] * 5_001, "unread": {}}),
        json.dumps({"tips": "", "names": [], "unread": 5}),
    ],
)
def test_an_answer_of_another_form_is_refused(work: Workplace, monkeypatch: pytest.MonkeyPatch, forged: str) -> None:
    in_process(monkeypatch)
    monkeypatch.setattr(repository_refs, "_PROGRAM", f"print({forged!r})")
    work.commit("x")
    assert scanned(work.path / ".git").unread == {"refs_unreadable": 1}

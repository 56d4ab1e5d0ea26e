"""Tests for the scan of a whole repository."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scanner.detection import Candidate, Detector, sha256_digest
from scanner.detection.history import history_reader
from scanner.detection.history.git_processes import GitError
from scanner.detection.history.scan import HistoryScan, scan_history
from workers.sandbox.git_backend import git
from workers.sandbox.workplace import Workplace

Token = Callable[[], str]


@pytest.fixture
def work(tmp_path: Path) -> Workplace:
    workplace = Workplace(tmp_path / "work", "nowhere")
    workplace.start()
    return workplace


def scanned(work: Workplace) -> HistoryScan:
    return scan_history(work.path / ".git", Detector())


def one(history: HistoryScan, token: str) -> Candidate:
    found = [c for c in history.candidates if c.digest == sha256_digest(token.encode())]
    assert found, "not found"
    assert token not in repr(history)
    return found[0]


def test_a_finding_has_its_path_its_line_and_the_oldest_commit_that_contains_it(
    work: Workplace, fresh_token: Token
) -> None:
    token = fresh_token()
    work.write("a/b.py", f"one\ntwo = '{token}'\n")
    first = work.commit("first")
    work.git("mv", "a/b.py", "moved.py")
    work.commit("moved")
    work.write("moved.py", "gone\n")
    work.commit("gone")
    found = one(scanned(work), token)
    assert (found.place.kind, found.place.path, found.place.commit, found.line) == ("file", "a/b.py", first, 2)


def test_several_hits_are_all_placed_in_one_pass(work: Workplace, fresh_token: Token) -> None:
    tokens = [fresh_token() for _ in range(5)]
    commits = []
    for number, token in enumerate(tokens):
        work.write(f"d{number}/f.txt", token)
        commits.append(work.commit(f"commit {number}"))
    history = scanned(work)
    for number, token in enumerate(tokens):
        place = one(history, token).place
        assert (place.path, place.commit) == (f"d{number}/f.txt", commits[number])


def test_messages_authors_tags_notes_refs_and_names_are_read(work: Workplace, fresh_token: Token) -> None:
    names = ("message", "author", "tag", "note", "branch", "path", "link")
    tokens = {name: fresh_token() for name in names}
    workplace = Workplace(work.path, work.remote, author=f"{tokens['author']} <a@example.com>")
    (work.path / tokens["path"]).write_text("empty")
    (work.path / "link").symlink_to(f"/tmp/{tokens['link']}")
    workplace.commit(f"use {tokens['message']}")
    work.git("tag", "-a", "v1", "-m", tokens["tag"])
    work.git("notes", "add", "-m", tokens["note"])
    work.git("branch", tokens["branch"])
    history = scanned(work)
    kinds = {name: one(history, token).place.kind for name, token in tokens.items()}
    assert kinds["message"] == kinds["author"] == "commit"
    assert (kinds["tag"], kinds["branch"], kinds["path"]) == ("tag", "ref_name", "file_name")
    assert one(history, tokens["link"]).place.path == "link"


def test_content_added_by_a_merge_is_read_and_placed(work: Workplace, fresh_token: Token) -> None:
    token = fresh_token()
    work.commit("first")
    work.git("checkout", "-q", "-b", "side")
    work.write("side", "s")
    work.commit("side")
    work.git("checkout", "-q", "main")
    work.write("main", "m")
    work.commit("main")
    work.git("merge", "-q", "--no-commit", "--no-ff", "side")
    work.write("evil", token)
    merge = work.commit("merge")
    place = one(scanned(work), token).place
    assert (place.path, place.commit) == ("evil", merge)


def test_attributes_that_hide_a_file_from_diffs_hide_nothing(work: Workplace, fresh_token: Token) -> None:
    token = fresh_token()
    work.write(".gitattributes", "*.txt -diff binary\n")
    work.write("a.txt", token)
    commit = work.commit("hidden")
    assert one(scanned(work), token).place.commit == commit


def test_unreachable_objects_are_read_with_their_object_id(work: Workplace, fresh_token: Token) -> None:
    stashed, dropped, loose = fresh_token(), fresh_token(), fresh_token()
    work.write("a", "a")
    work.commit("first")
    work.write("a", stashed)
    work.git("stash")
    work.write("b", dropped)
    gone = work.commit("dropped")
    work.git("reset", "-q", "--hard", "HEAD~1")
    oid = git("hash-object", "-w", "--stdin", cwd=work.path, content=loose.encode()).decode().strip()
    history = scanned(work)
    assert one(history, stashed).place.path == "a"
    place = one(history, dropped).place
    assert (place.path, place.commit) == ("b", gone)
    assert one(history, loose).place.git_object == oid


def test_packed_and_loose_objects_are_read_and_placed_alike(work: Workplace, fresh_token: Token) -> None:
    packed, loose = fresh_token(), fresh_token()
    for number in range(30):
        work.write("grows.txt", "line\n" * number + (packed if number == 7 else ""))
        work.commit(str(number))
    work.git("gc", "-q")
    work.write("b", loose)
    work.commit("loose")
    history = scanned(work)
    assert one(history, packed).place.path == "grows.txt"
    assert one(history, loose).place.path == "b"
    assert history.unread == {}


@pytest.mark.parametrize("shift", range(0, 80, 7))
def test_an_object_across_two_blocks_is_read(
    work: Workplace, fresh_token: Token, monkeypatch: pytest.MonkeyPatch, shift: int
) -> None:
    monkeypatch.setattr(history_reader, "BLOCK", 4096)
    tokens = [fresh_token() for _ in range(12)]
    for number, token in enumerate(tokens):
        work.write(f"f{number}", "x" * (300 * number + shift) + f"\n{token}\n" + "y" * 500)
    work.commit("many")
    history = scanned(work)
    assert {c.digest for c in history.candidates} == {sha256_digest(t.encode()) for t in tokens}


def test_blobs_larger_than_a_piece_are_read_to_their_end(
    work: Workplace, fresh_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scanner.detection import pieces

    for module in (history_reader, pieces):
        monkeypatch.setattr(module, "PIECE", 1 << 20)
    monkeypatch.setattr(history_reader, "BLOCK", 1 << 18)
    early, late = fresh_token(), fresh_token()
    line = "some words in a line\n"
    count = (5 << 20) // len(line)
    work.write("big.txt", f"{early}\n" + line * count + f"{late}\n" + "one line " * (1 << 18))
    work.commit("big")
    history = scanned(work)
    assert one(history, early).line == 1
    assert one(history, late).line == count + 2


def test_a_container_in_the_history_is_opened(work: Workplace, fresh_token: Token) -> None:
    import io
    import zipfile

    token, buffer = fresh_token(), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.txt", f"x = {token}\n" * 20)
    work.write("app.apk", buffer.getvalue())
    work.commit("app")
    found = one(scanned(work), token)
    assert found.place.path == "app.apk"
    assert found.container.endswith("inner.txt")


def test_damaged_and_missing_objects_are_counted_and_the_rest_is_read(work: Workplace, fresh_token: Token) -> None:
    tokens = [fresh_token() for _ in range(6)]
    for number, token in enumerate(tokens):
        work.write(f"f{number}", f"{number} {token}")
    work.commit("all")
    damaged = git("rev-parse", "HEAD:f2", cwd=work.path).decode().strip()
    path = work.path / ".git" / "objects" / damaged[:2] / damaged[2:]
    path.chmod(0o600)
    path.write_bytes(b"x\x9c not zlib at all")
    history = scanned(work)
    digests = {c.digest for c in history.candidates}
    assert digests == {sha256_digest(t.encode()) for n, t in enumerate(tokens) if n != 2}
    assert history.unread["object_damaged"] + history.unread["object_missing"] >= 1


def test_git_lfs_pointers_are_counted(work: Workplace) -> None:
    work.write("model.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 5\n")
    work.commit("pointer")
    assert scanned(work).unread == {"lfs_pointer": 1}


def test_a_shallow_clone_is_reported_as_shallow(work: Workplace, tmp_path: Path) -> None:
    work.commit("one")
    work.commit("two")
    git("-c", "protocol.file.allow=always", "clone", "-q", "--depth=1", f"file://{work.path}", tmp_path / "shallow")
    assert scan_history(tmp_path / "shallow" / ".git", Detector()).unread["shallow_clone"] == 1


def test_repositories_with_longer_hashes_are_read(tmp_path: Path, fresh_token: Token) -> None:
    token = fresh_token()
    git("init", "-q", "--object-format=sha256", "--template=", tmp_path / "work")
    workplace = Workplace(tmp_path / "work", "nowhere")
    workplace.write("a", token)
    commit = workplace.commit("first")
    assert len(commit) == 64
    assert one(scanned(workplace), token).place.commit == commit


def test_an_empty_repository_has_no_findings_and_any_other_folder_is_an_error(work: Workplace, tmp_path: Path) -> None:
    assert scanned(work).candidates == []
    with pytest.raises(GitError):
        scan_history(tmp_path, Detector())


def test_a_hostile_repository_runs_no_program(work: Workplace, fresh_token: Token, tmp_path: Path) -> None:
    token, trap = fresh_token(), tmp_path / "sprung"
    work.write(".gitattributes", "* diff=trap filter=trap\n")
    work.write("a", token)
    work.commit("trap")
    work.git("replace", "HEAD:a", "HEAD:.gitattributes")
    script = f"touch {trap}"
    settings = (
        "core.fsmonitor",
        "diff.trap.textconv",
        "diff.external",
        "filter.trap.smudge",
        "core.pager",
        "core.sshCommand",
    )
    for name in settings:
        work.git("config", name, script)
    hooks = work.path / ".git" / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "reference-transaction", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\n{script}\n")
        (hooks / name).chmod(0o755)
    assert one(scanned(work), token).place.path == "a"
    assert not trap.exists()


def test_stopping_a_scan_leaves_no_process(work: Workplace) -> None:
    import threading

    work.write("a", os.urandom(1 << 20))
    work.commit("a")
    stop = threading.Event()
    stop.set()
    history = scan_history(work.path / ".git", Detector(), stop=stop)
    assert history.unread["stopped"] > 0
    children = subprocess.run(
        ["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True, check=False
    )
    assert "cat-file" not in children.stdout

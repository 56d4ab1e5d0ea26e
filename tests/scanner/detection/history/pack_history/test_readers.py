"""Tests for reading large git packs in separate processes."""

from __future__ import annotations

import io
import os
import signal
import socket
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from scanner.detection import Detector, sha256_digest
from scanner.detection.history.git_processes import Deadline
from scanner.detection.history.git_repositories import opened
from scanner.detection.history.history_budget import HistoryBudget
from scanner.detection.history.pack_history import readers
from scanner.detection.history.pack_history.readers import needs_pack_reader, read_packs
from scanner.detection.history.scan import HistoryScan, scan_history
from tests.scanner.detection.history.pack_history.generated import history_of, objects_by_git, one_pack, patched
from workers.sandbox.git_backend import git

Token = Callable[[], str]


@pytest.fixture(autouse=True)
def _reads_small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MIN_PACK_BYTES", 0)


def digests(history: HistoryScan) -> list[str]:
    return sorted(candidate.digest for candidate in history.candidates)


def children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True)) - BEFORE


BEFORE: set[psutil.Process] = set()


@pytest.fixture(autouse=True)
def processes_before() -> None:
    """Record the child processes that run before the test."""
    BEFORE.clear()
    BEFORE.update(psutil.Process().children(recursive=True))


def test_packed_loose_and_borrowed_objects_are_read_once_and_placed(tmp_path: Path, fresh_token: Token) -> None:
    packed, loose, borrowed = fresh_token(), fresh_token(), fresh_token()
    other = history_of(tmp_path / "other.git", commits=30, secret=borrowed)
    repository = history_of(tmp_path / "r.git", secret=f"{packed}\n")
    (repository / "objects" / "info").mkdir(exist_ok=True)
    (repository / "objects" / "info" / "alternates").write_text(f"{other}/objects\n")
    git("hash-object", "-w", "--stdin", cwd=repository, content=loose.encode())
    everything = objects_by_git(repository)
    history = scan_history(repository, Detector())
    assert history.objects == len(everything)
    assert not history.unread
    assert digests(history) == sorted(sha256_digest(token.encode()) for token in (packed, loose, borrowed))
    placed = {one.digest: one.place for one in history.candidates}[sha256_digest(packed.encode())]
    assert (placed.path or "").startswith("d/f")
    assert placed.commit in everything
    assert not children()


def test_tokens_in_containers_names_tags_and_messages_are_found_as_by_git(
    tmp_path: Path, fresh_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("zip", "late", "name", "message", "tag", "wide")
    tokens = {name: fresh_token() for name in names}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.txt", f"x = {tokens['zip']}\n" * 20)
    files = {
        "app.apk": buffer.getvalue(),
        "late.txt": b"word and word\n" * 40_000 + tokens["late"].encode(),
        tokens["name"]: b"empty",
        "wide.txt": f"\ufeffa = {tokens['wide']}".encode("utf-16-le"),
        "model.bin": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 5\n",
        # This pointer file of Git LFS contains the prefix of a token, but no token.
        "r8_.bin": b"version https://git-lfs.github.com/spec/v1\next-0-r8_ sha256:" + b"b" * 64 + b"\nsize 5\n",
    }
    stream = f"commit refs/heads/main\ncommitter A <a@b> 1 +0000\ndata 39\n{tokens['message'][:39]}\n".encode()
    stream = stream.replace(b"data 39\n" + tokens["message"].encode()[:39], b"data 40\n" + tokens["message"].encode())
    for name, content in files.items():
        stream += b"M 644 inline %s\ndata %d\n%s\n" % (name.encode(), len(content), content)
    stream += b"tag v1\nfrom refs/heads/main\ntagger A <a@b> 1 +0000\ndata 40\n%s\n" % tokens["tag"].encode()
    repository = tmp_path / "r.git"
    git("init", "--quiet", "--bare", "--template=", repository)
    git("fast-import", "--quiet", cwd=repository, content=stream)
    ours = scan_history(repository, Detector())
    monkeypatch.setattr(readers, "MIN_PACK_BYTES", 1 << 40)
    by_git = scan_history(repository, Detector())
    assert {sha256_digest(token.encode()) for token in tokens.values()} == set(digests(ours))
    assert sorted(map(repr, ours.candidates)) == sorted(map(repr, by_git.candidates))
    assert (ours.unread, ours.parts) == (by_git.unread, by_git.parts)
    assert ours.unread == {"lfs_pointer": 2}
    assert (ours.objects, ours.bytes) == (by_git.objects, by_git.bytes)


def test_damaged_objects_are_read_by_git_and_counted_if_git_fails_too(tmp_path: Path, fresh_token: Token) -> None:
    token = fresh_token()
    repository = history_of(tmp_path / "r.git", secret=token)
    everything = objects_by_git(repository)
    pack = one_pack(repository)
    patched(pack, pack.stat().st_size - 60, b"not zlib")
    history = scan_history(repository, Detector())
    assert history.unread["object_damaged"] + history.unread["object_missing"] >= 1
    assert history.objects + sum(history.unread.values()) >= len(everything)
    assert digests(history) == [sha256_digest(token.encode())]


def test_packs_in_unsupported_formats_are_left_to_git(tmp_path: Path, fresh_token: Token) -> None:
    token = fresh_token()
    repository = history_of(tmp_path / "r.git", secret=token)
    everything = objects_by_git(repository)
    pack = one_pack(repository)
    pack.with_suffix(".idx").unlink()
    git("index-pack", "--index-version=1", str(pack), cwd=repository)
    history = scan_history(repository, Detector())
    assert digests(history) == [sha256_digest(token.encode())]
    assert history.objects == len(everything)


def test_a_pack_that_is_cut_off_during_the_reading_ends_only_its_workers(
    tmp_path: Path, fresh_token: Token, caplog: pytest.LogCaptureFixture
) -> None:
    repository = history_of(tmp_path / "r.git", commits=300, secret=fresh_token())
    pack = one_pack(repository)
    size = pack.stat().st_size
    assert size > 4 * 4096
    total = len(objects_by_git(repository))
    pack.chmod(0o600)
    cut = threading.Event()

    class Cutting(readers._Server):
        def fork(self) -> socket.socket:
            if not cut.is_set():
                os.truncate(pack, 4096)
                cut.set()
            return super().fork()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "_Server", Cutting)
        history = scan_history(repository, Detector())
    assert cut.is_set()
    assert "git reads its objects" in caplog.text
    assert history.objects + history.unread["object_damaged"] + history.unread["object_missing"] == total
    assert history.unread["object_damaged"] + history.unread["object_missing"] > 0
    assert not children()


def test_a_server_that_dies_leaves_everything_to_git(tmp_path: Path, fresh_token: Token) -> None:
    token = fresh_token()
    repository = history_of(tmp_path / "r.git", secret=token)
    total = len(objects_by_git(repository))

    class Dying(readers._Server):
        def fork(self) -> socket.socket:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            return super().fork()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "_Server", Dying)
        history = scan_history(repository, Detector())
    assert digests(history) == [sha256_digest(token.encode())]
    assert (history.objects, history.unread) == (total, {})


def test_the_deadline_ends_every_process_and_counts_what_is_left(tmp_path: Path, fresh_token: Token) -> None:
    repository = history_of(tmp_path / "r.git", commits=10, secret=fresh_token())
    stop = threading.Event()

    class Stopping(Detector):
        def scan_bytes(self, *arguments: object, **named: object) -> None:
            stop.set()

    with opened(repository) as shown:
        assert needs_pack_reader(shown.stores)
        read = read_packs(
            shown.stores,
            Stopping(),
            HistoryBudget(0),
            readers=1,
            on_progress=lambda *_: None,
            deadline=Deadline(stop=stop),
        )
    assert read is not None
    assert read.shard.unread["stopped"] + read.shard.objects == read.total
    assert not children()
    assert scan_history(repository, Detector(), stop=stop).unread == {"stopped": 1}


def test_an_error_of_the_detector_is_raised(tmp_path: Path, fresh_token: Token) -> None:
    repository = history_of(tmp_path / "r.git", commits=10, secret=fresh_token())

    class Failing(Detector):
        def scan_bytes(self, *arguments: object, **named: object) -> None:
            raise RuntimeError("no reader can be started")

    with pytest.raises(RuntimeError, match="no reader"):
        scan_history(repository, Failing())
    assert not children()

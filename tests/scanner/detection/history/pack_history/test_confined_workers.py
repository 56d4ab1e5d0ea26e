"""Tests that the processes that read git packs are confined: they can only read files or send results."""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from scanner.detection import Detector, sha256_digest
from scanner.detection.history.pack_history import readers
from scanner.detection.history.scan import scan_history
from tests.scanner.detection.history.pack_history.generated import history_of, one_pack
from workers.sandbox.git_backend import git

PROGRAM = """
import json, os, socket, sys

folder, place = sys.argv[1:]
ATTEMPTS = {
    "read a file": lambda: open(folder + "/HEAD"),
    "write a file": lambda: open(place, "w"),
    "open a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "open a Unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "start a process": os.fork,
    "become a program": lambda: os.execv("/bin/true", ["true"]),
    "signal a process": lambda: os.kill(os.getppid(), 0),
    "change the mode of a file": lambda: os.chmod(folder + "/HEAD", 0o600),
}


def refused(names):
    found = []
    for name in names:
        try:
            ATTEMPTS[name]()
        except OSError:
            found.append(name)
    return found


from scanner.detection.history.pack_history import messages, server
from scanner.detection.patterns.token_formats import active_formats, written_formats

ours, theirs = socket.socketpair()
if not os.fork():
    ours.close()
    server._read_unit = lambda connection, *_: connection.sendall(json.dumps(refused(ATTEMPTS)).encode() + b"\\n")
    serve = server._serve

    def serve_after_attempts(control, history, workers):
        names = ["write a file", "open a socket", "open a Unix socket"]
        control.sendall(json.dumps(refused(names)).encode() + b"\\n")
        serve(control, history, workers)

    server._serve = serve_after_attempts
    server.main(theirs.fileno(), written_formats(active_formats()), folder + "/packs.json")
    os._exit(0)
theirs.close()
messages.receive_plan(ours, lambda: None)
print(ours.makefile("rb", buffering=0).readline().decode(), end="")
connection, end = socket.socketpair()
with end:
    socket.send_fds(ours, [messages.COMMAND.pack(messages.FORK, 0)], [end.fileno()])
connection.sendall(messages.UNIT.pack(0, 1 << 40))
print(connection.makefile("rb", buffering=0).readline().decode(), end="", flush=True)
"""


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Return the operations that the system refused to the planning process, and those refused to a worker."""
    folder = tmp_path_factory.mktemp("confined")
    repository = history_of(folder / "r.git", commits=3)
    (repository / "packs.json").write_text(json.dumps([str(one_pack(repository))]))
    command = [sys.executable, "-c", PROGRAM, str(repository), str(folder / "written")]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    assert not (folder / "written").exists()
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_the_planning_process_cannot_write_or_open_a_socket(refused: list[list[str]]) -> None:
    assert refused[0] == ["write a file", "open a socket", "open a Unix socket"]


def test_a_worker_can_only_answer(refused: list[list[str]]) -> None:
    assert refused[1] == [
        "read a file",
        "write a file",
        "open a socket",
        "open a Unix socket",
        "start a process",
        "become a program",
        "signal a process",
        "change the mode of a file",
    ]


def test_confined_workers_find_leaks_in_every_container_that_a_pack_may_contain(
    tmp_path: Path, fresh_token: Callable[[], str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(readers, "MIN_PACK_BYTES", 0)
    repository, tokens = history_of(tmp_path / "r.git", commits=3), [fresh_token() for _ in range(7)]
    raw = [token.encode() for token in tokens]
    contents = [
        b"\0\1\2" * 40 + zlib.compress(raw[0] * 60),
        b"\0\1\2" * 40 + lzma.compress(raw[1] * 60),
        b"\0\1\2" * 40 + bz2.compress(raw[2] * 60),
        b"\0\1\2" * 40 + zstandard.ZstdCompressor().compress(raw[3] * 60),
        tokens[4].encode("utf-16"),
        tokens[5].encode("utf-32-be"),
        base64.b64encode(raw[6]),
    ]
    for content in contents:
        git("hash-object", "-w", "--stdin", cwd=repository, content=content)
    git("repack", "-adkq", cwd=repository)
    history = scan_history(repository, Detector())
    assert {sha256_digest(token) for token in raw} == {found.digest for found in history.candidates}
    assert "has died" not in caplog.text

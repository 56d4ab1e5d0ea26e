"""Tests of the limits on what confined processes may do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import core_dumps_allowed

PROGRAM = """
import os, signal, socket, sys
from scanner.confinement import confine

answer = os.dup(1)
print(*confine(256 << 20), flush=True)
attempts = {
    "read a file": lambda: open("/etc/hostname"),
    "write a file": lambda: open("/tmp/r8scan-must-not-exist", "w"),
    "list a folder": lambda: os.listdir("/"),
    "open a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "open a Unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "start a process": os.fork,
    "become a program": lambda: os.execv("/bin/true", ["true"]),
    "signal its parent": lambda: os.kill(os.getppid(), 0),
    "take much memory": lambda: bytes(300 << 20),
    "take some memory": lambda: bytes(128 << 20),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except (OSError, MemoryError) as err:
        print(name, "refused", flush=True)
    else:
        print(name, "done", flush=True)
"""


@pytest.fixture(scope="module")
def lines() -> list[str]:
    run = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    return run.stdout.splitlines()


def test_every_measure_that_this_kernel_offers_is_in_force(lines: list[str]) -> None:
    assert {"rlimits", "no_new_privs", "landlock", "seccomp"} <= set(lines[0].split())


@pytest.mark.parametrize(
    "attempt",
    [
        "read a file",
        "write a file",
        "list a folder",
        "open a socket",
        "open a Unix socket",
        "start a process",
        "become a program",
        "signal its parent",
        "take much memory",
    ],
)
def test_system_calls_that_reading_does_not_need_are_refused(lines: list[str], attempt: str) -> None:
    assert f"{attempt} refused" in lines


def test_memory_below_the_limit_can_be_used(lines: list[str]) -> None:
    assert "take some memory done" in lines


READING_PROGRAM = """
import os, pathlib, resource, signal, socket, subprocess, sys
from scanner.confinement import confine_to_reading

here = pathlib.Path(sys.argv[1])
print(*confine_to_reading(256 << 20), flush=True)
print("core", *resource.getrlimit(resource.RLIMIT_CORE), flush=True)
attempts = {
    "read a file": lambda: (here / "there").read_bytes(),
    "list a folder": lambda: os.listdir(here),
    "start a program": lambda: subprocess.run(["true"], check=True, stdout=subprocess.DEVNULL),
    "write a file": lambda: (here / "new").write_text("x"),
    "change a file": lambda: (here / "there").write_text("x"),
    "remove a file": lambda: (here / "there").unlink(),
    "make a folder": lambda: (here / "folder").mkdir(),
    "open a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
    "open a Unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "write by a program": lambda: subprocess.run(["touch", here / "new"], check=True, stderr=subprocess.DEVNULL),
    "take much memory": lambda: bytearray(300 << 20),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except (OSError, MemoryError, subprocess.CalledProcessError):
        print(name, "refused", flush=True)
    else:
        print(name, "done", flush=True)
"""


def test_a_process_that_is_confined_to_reading_reads_and_starts_programs_but_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("kept")
    command = [sys.executable, "-c", READING_PROGRAM, str(tmp_path)]
    with core_dumps_allowed():
        run = subprocess.run(command, check=True, capture_output=True, text=True)
    measures, core, *outcomes = run.stdout.splitlines()
    assert core == "core 0 0"
    assert {"rlimits", "no_new_privs", "landlock", "seccomp"} == set(measures.split())
    assert [line for line in outcomes if line.endswith("done")] == [
        "read a file done",
        "list a folder done",
        "start a program done",
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "kept"

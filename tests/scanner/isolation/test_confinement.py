"""A confined process can compute and answer, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, socket, sys
from scanner.isolation.confinement import confine

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


def test_memory_below_the_bound_can_be_used(lines: list[str]) -> None:
    assert "take some memory done" in lines

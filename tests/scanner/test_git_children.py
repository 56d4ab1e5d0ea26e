"""Tests that git processes have limits and use only r8scan's configuration."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from scanner.git_children import READING, ProcessLimits, environment, git_child
from tests.processes import children

SHOW = "import resource, sys; print(*(resource.getrlimit(getattr(resource, name))[0] for name in sys.argv[1:]))"


def test_a_child_and_its_own_children_have_the_limits() -> None:
    names = ["RLIMIT_DATA", "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_CORE"]
    script = 'exec "$@"'
    command = ["sh", "-c", f"({script})", "sh", sys.executable, "-c", SHOW, *names]
    with git_child(command, env=environment(), limits=READING, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.read().split() == [b"%d" % n for n in (READING.data_bytes, READING.cpu_seconds, 0, 0)]


def test_memory_beyond_the_limit_ends_the_child_and_mapped_files_do_not_count(tmp_path: Path) -> None:
    limits = ProcessLimits(data_bytes=64 << 20, cpu_seconds=60, file_bytes=0)
    (tmp_path / "large").write_bytes(b"")
    os.truncate(tmp_path / "large", 256 << 20)
    mapped = "import mmap; f = open('large', 'rb'); mmap.mmap(f.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)"
    for code, succeeds in (("bytearray(256 << 20)", False), (mapped, True)):
        command = [sys.executable, "-c", f"import os; os.chdir({str(tmp_path)!r}); {code}"]
        with git_child(command, env=environment(), limits=limits) as child:
            assert (child.wait() == 0) is succeeds


@pytest.mark.parametrize("ends_first", [True, False])
def test_helpers_are_killed_even_if_the_child_ended_first(ends_first: bool) -> None:
    script = "sleep 1000 & echo $!; " + ("exit 0" if ends_first else "wait")
    with git_child(["sh", "-c", script], env=environment(), limits=READING, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        helper = psutil.Process(int(child.stdout.readline()))
        if ends_first:
            child.wait()
    psutil.wait_procs([helper], timeout=60)
    assert not helper.is_running() or helper.status() == psutil.STATUS_ZOMBIE
    assert child.pid not in [process.pid for process in children(os.getpid())]


def test_no_hard_limit_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CPU)
    code = (
        "import resource, subprocess\n"
        "from scanner.git_children import READING, environment, git_child\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (100, 100))\n"
        "with git_child(['true'], env=environment(), limits=READING) as child:\n"
        "    raise SystemExit(child.wait())\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert resource.getrlimit(resource.RLIMIT_CPU) == (soft, hard)

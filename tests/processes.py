"""Measures the memory and CPU time of a process and its descendants."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


def children(pid: int) -> list[psutil.Process]:
    """Return the living children of a process. If the process has ended, the list is empty."""
    try:
        return list(psutil.Process(pid).children())
    except psutil.NoSuchProcess:
        return []


def family(pid: int) -> list[psutil.Process]:
    """Return the process and its living descendants. If the process has ended, the list is empty."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@contextmanager
def core_dumps_allowed() -> Iterator[None]:
    """Allow processes that start in the `with` block to write core dumps, if the hard limit permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def that_may_dump_core(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the running processes that may write a core dump when they crash."""
    found = []
    for process in processes:
        try:
            limits = Path(f"/proc/{process.pid}/limits").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # the process has ended
        line = next((line for line in limits.splitlines() if line.startswith("Max core file size")), "")
        # A zombie (a process that has ended, but whose exit status was not collected) has no limits.
        if line and line.split()[4:6] != ["0", "0"]:
            found.append(process)
    return found


def total(pid: int, of: Callable[[psutil.Process], float]) -> float:
    """Call `of` for a process and each of its descendants, and return the sum."""
    found = 0.0
    for process in family(pid):
        try:
            found += of(process)
        except psutil.NoSuchProcess:
            continue
    return found


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of the process and its living descendants, in seconds."""
    return total(pid, lambda process: sum(process.cpu_times()[:2]))


def memory_mb(pid: int) -> float:
    """Return the memory of the process and its living descendants, in MiB.

    Shared memory counts only once.
    """
    return total(pid, lambda process: process.memory_full_info().pss / 2**20)

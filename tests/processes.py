"""Measures the memory and CPU time of a process and its descendants. Any of these processes may end meanwhile."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


def children(pid: int) -> list[psutil.Process]:
    """Return the living children of a process. Return an empty list if the process has ended."""
    try:
        return list(psutil.Process(pid).children())
    except psutil.NoSuchProcess:
        return []


def family(pid: int) -> list[psutil.Process]:
    """Return the process and its living descendants. Return an empty list if the process has ended."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@contextmanager
def core_dumps_allowed() -> Iterator[None]:
    """Allow the processes that are started in the `with` block to write core dumps, as far as the hard limit
    permits.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def that_may_dump_core(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that still run and may write a core dump (a copy of their memory) when they crash."""
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
    """Call `of` for a process and each of its descendants, and return the sum. A process that has ended adds
    nothing.
    """
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

    Memory that several processes share is divided among them.
    """
    return total(pid, lambda process: process.memory_full_info().pss / 2**20)

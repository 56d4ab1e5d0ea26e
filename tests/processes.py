"""A process and its descendants, which may end while they are examined."""

from __future__ import annotations

from collections.abc import Callable

import psutil


def children(pid: int) -> list[psutil.Process]:
    """Return the living children of a process, or none if it has ended."""
    try:
        return list(psutil.Process(pid).children())
    except psutil.NoSuchProcess:
        return []


def family(pid: int) -> list[psutil.Process]:
    """Return the process and its living descendants, or none if it has ended."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def total(pid: int, of: Callable[[psutil.Process], float]) -> float:
    """Return the sum of a quantity over the processes. A process that ends meanwhile adds nothing."""
    found = 0.0
    for process in family(pid):
        try:
            found += of(process)
        except psutil.NoSuchProcess:
            continue
    return found


def cpu_seconds(pid: int) -> float:
    """Return the processor time of the process and its living descendants, in seconds."""
    return total(pid, lambda process: sum(process.cpu_times()[:2]))


def memory_mb(pid: int) -> float:
    """Return the proportional memory of all processes, in MiB. Shared memory is divided among its users."""
    return total(pid, lambda process: process.memory_full_info().pss / 2**20)

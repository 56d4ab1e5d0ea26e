"""A process and all below it, which may end while they are being looked at."""

from __future__ import annotations

from collections.abc import Callable

import psutil


def children(pid: int) -> list[psutil.Process]:
    """The living children of a process; nothing where it has ended."""
    try:
        return list(psutil.Process(pid).children())
    except psutil.NoSuchProcess:
        return []


def family(pid: int) -> list[psutil.Process]:
    """The process and its living descendants; nothing where it has ended."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def total(pid: int, of: Callable[[psutil.Process], float]) -> float:
    """The sum of a quantity over the family; who ends meanwhile adds nothing."""
    found = 0.0
    for process in family(pid):
        try:
            found += of(process)
        except psutil.NoSuchProcess:
            continue
    return found


def cpu_seconds(pid: int) -> float:
    """Processor time of the process and its living descendants."""
    return total(pid, lambda process: sum(process.cpu_times()[:2]))


def memory_mb(pid: int) -> float:
    """Proportional memory of all of them, MiB: what several share is divided among them."""
    return total(pid, lambda process: process.memory_full_info().pss / 2**20)

"""Measures the memory and CPU time of a process and its descendants. It does not matter if one of them ends
meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable

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


def total(pid: int, of: Callable[[psutil.Process], float]) -> float:
    """Return the sum of `of` over a process and its descendants. A process that has ended adds nothing."""
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
    """Return the memory of the process and its living descendants, in MiB. Shared memory is divided among them."""
    return total(pid, lambda process: process.memory_full_info().pss / 2**20)

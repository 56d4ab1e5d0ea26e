"""Measures the CPU time and memory of each process of a running service, on Linux only."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

READER_SIGNS = (b"scanner.isolation", b"pack_history.server", b"place_process", b"repository_refs")
"""Texts in the command lines of confined processes. git processes count as confined, too."""
TICKS = os.sysconf("SC_CLK_TCK")
EVERY_SECONDS = 0.1
_CLEAR_PEAK = "5"


@dataclass(slots=True)
class Cost:
    """The CPU seconds of one process since the measurement began, and its peak memory in MiB."""

    name: str
    is_reader: bool
    before: float
    cpu: float = 0.0
    memory_mb: float = 0.0


@dataclass(slots=True)
class Costs:
    """The costs of the watched processes, by process id."""

    by_pid: dict[int, Cost] = field(default_factory=dict)

    def most_of_a_reader(self) -> float:
        """Return the highest CPU time, in seconds, of a process that only reads content."""
        return max((cost.cpu for cost in self.by_pid.values() if cost.is_reader), default=0.0)

    def most_elsewhere(self) -> Cost:
        """Return the cost of the process that used the most CPU time, without those that only read content."""
        others = [cost for cost in self.by_pid.values() if not cost.is_reader]
        return max(others, key=lambda cost: cost.cpu, default=Cost("none", False, 0.0))

    def peak_mb(self) -> float:
        """Return the highest peak memory of a process, in MiB."""
        return max((cost.memory_mb for cost in self.by_pid.values()), default=0.0)


class Watch:
    """Measures the costs of processes and their descendants until the `with` block ends."""

    def __init__(self, *roots: int) -> None:
        self._roots = roots
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self.costs = Costs()

    def __enter__(self) -> Watch:
        for pid in self._family():
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text(_CLEAR_PEAK)
        self._sample(is_first=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sample()

    def _run(self) -> None:
        while not self._stop.wait(EVERY_SECONDS):
            self._sample()

    def _family(self) -> list[int]:
        found: list[int] = []
        waiting = list(self._roots)
        while waiting:
            pid = waiting.pop()
            found.append(pid)
            with suppress(OSError):
                for task in os.listdir(f"/proc/{pid}/task"):
                    waiting += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
        return found

    def _sample(self, *, is_first: bool = False) -> None:
        for pid in self._family():
            with suppress(OSError, ValueError, IndexError):
                command = Path(f"/proc/{pid}/cmdline").read_bytes()
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                is_reader = any(sign in command for sign in READER_SIGNS) or _name(command) == "git"
                cpu = sum(map(int, fields[11:13])) / TICKS
                if pid not in self.costs.by_pid:
                    self.costs.by_pid[pid] = Cost(_name(command), is_reader, cpu if is_first else 0.0)
                cost = self.costs.by_pid[pid]
                # A process is a confined reader if one measurement shows this. Other measurements may not show it: a
                # new fork still has the command line of its parent, and an ended process has none.
                cost.is_reader = cost.is_reader or is_reader
                cost.cpu = max(cost.cpu, cpu - cost.before)
                cost.memory_mb = max(cost.memory_mb, _peak_kb(pid) / 1024)


def _peak_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _name(command: bytes) -> str:
    """Return a short name for a process, for example a Celery worker's name.

    `command` is the command line of the process.
    """
    words = command.split(b"\0")
    worker = next((word for word in words if word.endswith(b"@r8scan")), b"")
    return (worker or words[0].rpartition(b"/")[2] or b"gone").decode("ascii", "replace")


def alive(pids: Callable[[], list[int]]) -> list[int]:
    """Call `pids`, and return the ids of the processes that still run. Zombies do not count."""
    found = []
    for pid in pids():
        with suppress(OSError, IndexError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(pid)
    return found

"""The scan of a repository's packs: starts the processes that read them, and scans the objects that they send.

It returns the ids of the objects that those processes cannot read, so that git can read them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import scanner
from scanner.child_processes import start_child
from scanner.detection.detector import Detector
from scanner.detection.git_processes import Deadline
from scanner.detection.history_results import HistoryShard
from scanner.detection.pack_codec import OBJECT_TYPES
from scanner.detection.pack_history import messages
from scanner.detection.pack_history.messages import BadMessage, Plan
from scanner.detection.token_formats import active_formats, written_formats

MIN_PACK_BYTES = 8 << 20
"""Git reads smaller packs as fast, because the processes of this reader take 0.3 seconds to start."""
MAX_DEATHS = 16
"""Workers that may die before git reads the units that are left."""
LOOK_SECONDS = 0.2
END_SECONDS = 1.0
"""Seconds that the server and its workers have to end by themselves."""

_ROOT = str(Path(scanner.__file__).parent.parent)
_PROGRAM = (
    "import json, sys; sys.path.insert(0, sys.argv[2]);"
    "from scanner.detection.pack_history.server import main;"
    "main(int(sys.argv[1]), sys.argv[3], json.loads(sys.argv[4]))"
)

_log = logging.getLogger(__name__)


class _Ended(Exception):
    """The deadline has passed, or another thread has failed."""


@dataclass(slots=True)
class PacksRead:
    """The result of reading packs.

    Attributes:
        shard: The findings in the objects, and counts.
        rest: Ids of the objects that git has to read.
        total: The number of objects in the repository.
    """

    shard: HistoryShard = field(default_factory=HistoryShard)
    rest: list[str] = field(default_factory=list)
    total: int = 0


def has_large_packs(git_dir: Path) -> bool:
    """Return whether the packs are so large that reading them here is faster than with git."""
    sizes = 0
    for folder in _folders(git_dir):
        try:
            with os.scandir(folder / "pack") as entries:
                sizes += sum(entry.stat().st_size for entry in entries if entry.name.endswith(".pack"))
        except OSError:
            continue
    return sizes >= MIN_PACK_BYTES


def _folders(git_dir: Path) -> list[Path]:
    return [git_dir / "objects", *sorted(git_dir.glob("alternate-*"))]


def read_packs(
    git_dir: Path,
    detector: Detector,
    *,
    readers: int,
    on_progress: Callable[[int, int], None],
    deadline: Deadline,
) -> PacksRead | None:
    """Read and scan every object in the packs of a repository, each once. Return None if git has to read all of them.

    Args:
        git_dir: A git directory as `git_repositories.opened` lays it out.
        detector: Scans the objects that need a closer look.
        readers: The number of worker processes.
        on_progress: Called with the objects that were read and their total.
        deadline: When reading ends. The remaining objects are then counted as unread, with the deadline's reason.
    """
    if deadline.is_over:
        return PacksRead(HistoryShard(unread=Counter({deadline.reason: 1})))
    with _server(_folders(git_dir)) as server:
        try:
            plan = server.plan(deadline)
        except BadMessage:
            return None
        except _Ended:
            return PacksRead(HistoryShard(unread=Counter({deadline.reason: 1})))
        if not plan.is_usable:
            return None
        reading = _Reading(server, plan, detector, deadline)
        threads = [
            threading.Thread(target=reading.work, name="pack-reader", daemon=True)
            for _ in range(min(readers, plan.units))
        ]
        for thread in threads:
            thread.start()
        total = plan.objects + len(plan.rest) // plan.hash_bytes
        for thread in threads:
            while thread.is_alive():
                thread.join(LOOK_SECONDS)
                on_progress(reading.seen, total)
        if reading.failures:
            raise reading.failures[0]
        return reading.result(total)


class _Server:
    """A client of the server process, by its control socket. Safe to share between threads."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process, self._control = process, control
        self._lock = threading.Lock()

    def plan(self, deadline: Deadline) -> Plan:
        """Return the server's plan.

        Raises:
            BadMessage: the server has ended.
            _Ended: the deadline has passed.
        """
        return messages.receive_plan(self._control, lambda: _go_on(deadline))

    def fork(self) -> socket.socket:
        """Return the connection to a new worker. Raises OSError."""
        ours, theirs = socket.socketpair()
        ours.settimeout(LOOK_SECONDS)
        try:
            with theirs, self._lock:
                socket.send_fds(self._control, [messages.COMMAND.pack(messages.FORK, 0)], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        return ours

    def ids_of(self, unit: int, deadline: Deadline) -> bytes:
        """Return the joined ids of a unit's objects. Raises OSError, BadMessage or _Ended."""
        with self._lock:
            self._control.sendall(messages.COMMAND.pack(messages.IDS, unit))
            return messages.receive_plan(self._control, lambda: _go_on(deadline)).rest


@contextmanager
def _server(folders: list[Path]) -> Iterator[_Server]:
    """Run the server process while the block runs. Its end also ends its workers."""
    ours, theirs = socket.socketpair()
    ours.settimeout(LOOK_SECONDS)
    arguments = [_ROOT, written_formats(active_formats()), json.dumps([str(folder) for folder in folders])]
    with ours:
        with theirs:
            process = start_child(
                [sys.executable, "-I", "-c", _PROGRAM, str(theirs.fileno()), *arguments],
                env={"PATH": os.defpath, "LC_ALL": "C.UTF-8", "OPENBLAS_NUM_THREADS": "1"},
                own_group=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        try:
            yield _Server(process, ours)
        finally:
            ours.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(END_SECONDS)
            with contextlib.suppress(ProcessLookupError):  # the server and its workers have ended
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _go_on(deadline: Deadline) -> None:
    if deadline.is_over:
        raise _Ended


class _Reading:
    """The state that the threads share: which units are left, and what was found."""

    def __init__(self, server: _Server, plan: Plan, detector: Detector, deadline: Deadline) -> None:
        self._server, self._plan, self._detector, self._deadline = server, plan, detector, deadline
        self._units = iter(range(plan.units))
        self._lock = threading.Lock()
        self._found = PacksRead()
        self._for_git = bytearray(plan.rest)
        self._deaths = 0
        self._is_lost = False
        self.seen = 0
        self.failures: list[BaseException] = []

    def result(self, total: int) -> PacksRead | None:
        """Return the results of all threads, or None if the server has died and git has to read everything."""
        if self._is_lost:
            return None
        size = self._plan.hash_bytes
        found = self._found
        found.total = total
        found.rest = [self._for_git[at : at + size].hex() for at in range(0, len(self._for_git), size)]
        left = total - found.shard.objects - len(found.rest)
        if self._deadline.is_over and left > 0:
            found.shard.unread[self._deadline.reason] += left
        return found

    def work(self) -> None:
        """Read units with one worker after another until none is left. The body of a thread."""
        try:
            while not self._deadline.is_over and self._work_until_death():
                continue
        except _Ended:
            return
        except (BadMessage, OSError):
            self._is_lost = True
        except BaseException as err:  # noqa: BLE001 - raised again by the thread that waits
            self.failures.append(err)
            self._deadline.cancel()

    def _work_until_death(self) -> bool:
        """Read units with one worker. Return False if no unit is left, and True if the worker has died."""
        with self._server.fork() as connection:
            while (unit := self._next()) is not None:
                shard, for_git = HistoryShard(), bytearray()
                try:
                    connection.sendall(messages.UNIT.pack(unit))
                    self._read_unit(connection, shard, for_git)
                except _Ended:
                    self._merge(shard, for_git)
                    raise
                except (BadMessage, OSError):
                    self._leave_to_git(unit)
                    return True
                self._merge(shard, for_git)
        return False

    def _next(self) -> int | None:
        with self._lock:
            return next(self._units, None)

    def _read_unit(self, connection: socket.socket, shard: HistoryShard, for_git: bytearray) -> None:
        """Receive a worker's messages about one unit. Scan the suspect contents. Raises BadMessage or _Ended."""
        size = self._plan.hash_bytes
        while True:
            frame = messages.receive_frame(connection, size, lambda: _go_on(self._deadline))
            oid, name = frame.oid.hex(), OBJECT_TYPES.get(frame.kind, "blob")
            if frame.operation == messages.SUSPECT:
                result = self._detector.scan_bytes(frame.payload)
                if result is not None:
                    shard.take(oid, name, result)
                _go_on(self._deadline)
            elif frame.operation == messages.POINTER:
                shard.note(oid, name, "lfs_pointer")
            elif frame.operation == messages.GIT:
                for_git += frame.payload
            elif frame.operation == messages.COUNTS:
                objects, count = frame.counts
                shard.objects += objects
                shard.bytes += count
                self._advance(objects)
            else:
                return

    def _advance(self, objects: int) -> None:
        with self._lock:
            self.seen += objects

    def _merge(self, shard: HistoryShard, for_git: bytearray) -> None:
        with self._lock:
            self._found.shard.add(shard)
            self._for_git += for_git

    def _leave_to_git(self, unit: int) -> None:
        """Give a unit to git because its worker has died. After too many deaths, give git all other units too.

        Raises:
            OSError, BadMessage: the server has died too.
        """
        with self._lock:
            self._deaths += 1
            is_over = self._deaths >= MAX_DEATHS
        _log.warning("a process that read packs has died; git reads its objects", extra={"unit": unit})
        next_unit: int | None = unit
        while next_unit is not None:
            self._merge(HistoryShard(), bytearray(self._server.ids_of(next_unit, self._deadline)))
            next_unit = self._next() if is_over else None

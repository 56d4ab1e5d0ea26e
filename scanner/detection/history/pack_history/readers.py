"""Reads the packs of a git repository in several worker processes, and scans their objects."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import scanner
from scanner.child_processes import start_child
from scanner.detection.detector import Detector
from scanner.detection.git.pack_codec import OBJECT_TYPES
from scanner.detection.history.git_processes import Deadline
from scanner.detection.history.history_budget import HistoryBudget
from scanner.detection.history.history_results import HistoryShard
from scanner.detection.history.object_stores import Store, has_plain_index
from scanner.detection.history.pack_history import messages
from scanner.detection.history.pack_history.messages import BadMessage, Plan
from scanner.detection.patterns.token_formats import active_formats, written_formats

MIN_PACK_BYTES = 8 << 20
"""If the packs of a repository are together smaller than this, git reads them, because it is just as fast."""
MAX_GIT_PACKS = 8
"""If a small repository has at most this many packs, git reads them."""
MAX_DEATHS = 16
"""After this many workers have died, git reads all remaining groups of objects."""
LOOK_SECONDS = 0.2
END_SECONDS = 1.0
"""The helper process and its workers have this many seconds to exit before they are killed."""

_ROOT = str(Path(scanner.__file__).parent.parent)
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[2]);"
    "from scanner.detection.history.pack_history.server import main;"
    "main(int(sys.argv[1]), sys.argv[3], sys.argv[4])"
)

_log = logging.getLogger(__name__)


class _Ended(Exception):
    """The deadline has passed, or another thread has failed."""


@dataclass(slots=True)
class PacksRead:
    """The result of reading the packs of a repository.

    Attributes:
        rest: For each pack number, the concatenated ids of the objects that git has to read. Empty bytes mean all
            objects.
        total: The number of objects in the packs that were read.
    """

    shard: HistoryShard = field(default_factory=HistoryShard)
    rest: dict[int, bytes] = field(default_factory=dict)
    total: int = 0


def needs_pack_reader(packs: Sequence[Store]) -> bool:
    """Return whether to read the packs without git, because they are large, many or unusual."""
    return bool(packs) and (
        sum(pack.size for pack in packs) >= MIN_PACK_BYTES
        or len(packs) > MAX_GIT_PACKS
        or not all(map(has_plain_index, packs))
    )


def read_packs(
    packs: Sequence[Store],
    detector: Detector,
    budget: HistoryBudget,
    *,
    readers: int,
    on_progress: Callable[[int, int], None],
    deadline: Deadline,
) -> PacksRead | None:
    """Read and scan every object of the packs. Return None if git has to read all of them.

    Args:
        packs: Packs whose object ids have the same length.
        budget: The limit on the work for deltas in the whole repository.
        on_progress: Called with the number of objects read so far, and the number of all.
    """
    if deadline.is_over:
        return PacksRead(HistoryShard(unread=Counter({deadline.reason: 1})))
    with _server(packs) as server:
        detector.reader.prepare()
        try:
            plan = server.plan(deadline)
        except BadMessage:
            return None
        except _Ended:
            return PacksRead(HistoryShard(unread=Counter({deadline.reason: 1})))
        if not plan.is_usable:
            return None
        reading = _Reading(server, plan, detector, budget, deadline)
        threads = [
            threading.Thread(target=reading.work, name="pack-reader", daemon=True)
            for _ in range(min(readers, len(plan.weights)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(LOOK_SECONDS)
                on_progress(reading.seen, plan.objects)
        if reading.failures:
            raise reading.failures[0]
        return reading.result()


class _Server:
    """The connection to the helper process that starts workers. Threads may share it."""

    def __init__(self, process: subprocess.Popen[bytes], control: socket.socket) -> None:
        self._process, self._control = process, control
        self._lock = threading.Lock()

    def plan(self, deadline: Deadline) -> Plan:
        """Return which groups of objects the workers have to read."""
        return messages.receive_plan(self._control, lambda: _go_on(deadline))

    def fork(self) -> socket.socket:
        """Start a worker process, and return the connection to it."""
        ours, theirs = socket.socketpair()
        ours.settimeout(LOOK_SECONDS)
        try:
            with theirs, self._lock:
                socket.send_fds(self._control, [messages.COMMAND.pack(messages.FORK, 0)], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        return ours

    def objects_of(self, unit: int, deadline: Deadline) -> Plan:
        """Return a plan by which git reads the objects of a group whose worker has died."""
        with self._lock:
            self._control.sendall(messages.COMMAND.pack(messages.IDS, unit))
            return messages.receive_plan(self._control, lambda: _go_on(deadline))


@contextmanager
def _server(packs: Sequence[Store]) -> Iterator[_Server]:
    """Start the helper process. It ends with the `with` block."""
    ours, theirs = socket.socketpair()
    ours.settimeout(LOOK_SECONDS)
    with ours, tempfile.NamedTemporaryFile("w", prefix="r8scan-packs-") as listed:
        json.dump([str(pack.path) for pack in packs], listed)
        listed.flush()
        with theirs:
            arguments = [str(theirs.fileno()), _ROOT, written_formats(active_formats()), listed.name]
            process = start_child(
                [sys.executable, "-I", "-c", _PROGRAM, *arguments],
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
            with contextlib.suppress(ProcessLookupError):  # the helper process and its workers have ended
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _go_on(deadline: Deadline) -> None:
    if deadline.is_over:
        raise _Ended


class _UnitRead(NamedTuple):
    """The results of reading one group of objects. `left` is the unused budget, or None if the reading ended early."""

    shard: HistoryShard
    for_git: bytearray
    left: int | None


class _Reading:
    """The unread groups of objects, and the results until now. Threads share them."""

    def __init__(
        self, server: _Server, plan: Plan, detector: Detector, budget: HistoryBudget, deadline: Deadline
    ) -> None:
        self._server, self._plan, self._detector = server, plan, detector
        self._budget, self._deadline = budget, deadline
        budget.reserve(plan.weights)
        self._units = iter(range(len(plan.weights)))
        self._lock = threading.Lock()
        self._shard = HistoryShard()
        self._shard.unread.update(pack_index_damaged=plan.damaged_packs, object_damaged=plan.damaged_objects)
        self._for_git = bytearray(plan.rest)
        self._deaths = 0
        self._is_lost = False
        self.seen = 0
        self.failures: list[BaseException] = []

    def result(self) -> PacksRead | None:
        """Return the results of all threads, or None if git has to read everything."""
        if self._is_lost:
            return None
        rest: dict[int, bytearray] = {}
        given = 0
        for pack, oid in messages.records(self._for_git, self._plan.hash_bytes):
            is_whole = not any(oid)
            given += not is_whole
            rest.setdefault(pack, bytearray()).extend(b"" if is_whole else oid)
        total = self._plan.objects + len(self._plan.rest) // messages.record_bytes(self._plan.hash_bytes)
        left = total - self._shard.objects - given - self._shard.unread["inflated_over_limit"]
        if self._deadline.is_over and left > 0:
            self._shard.unread[self._deadline.reason] += left
        return PacksRead(self._shard, {pack: bytes(oids) for pack, oids in rest.items()}, total)

    def work(self) -> None:
        """Let worker processes read groups of objects until no group is left."""
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
        """Let a worker read groups of objects. Return whether it died."""
        with self._server.fork() as connection:
            while (unit := self._next()) is not None:
                try:
                    connection.sendall(messages.UNIT.pack(unit, self._budget.grant(unit)))
                    read = self._read_unit(connection)
                except (BadMessage, OSError):
                    self._budget.fail(unit)
                    self._leave_to_git(unit)
                    return True
                self._merge(read.shard, read.for_git)
                if read.left is None:
                    raise _Ended
                self._budget.settle(unit, read.left)
        return False

    def _next(self) -> int | None:
        with self._lock:
            return next(self._units, None)

    def _read_unit(self, connection: socket.socket) -> _UnitRead:
        """Receive a worker's messages about one group, and scan the objects in them."""
        shard, for_git = HistoryShard(), bytearray()
        try:
            while True:
                frame = messages.receive_frame(connection, self._plan.hash_bytes, lambda: _go_on(self._deadline))
                oid, name = frame.oid.hex(), OBJECT_TYPES.get(frame.kind, "blob")
                if frame.operation == messages.SUSPECT:
                    result = self._detector.scan_bytes(frame.payload)
                    if result is not None:
                        shard.take_content(oid, name, frame.payload, result)
                    _go_on(self._deadline)
                elif frame.operation in messages.NOTES:
                    shard.note(oid, name, messages.NOTES[frame.operation])
                elif frame.operation == messages.GIT:
                    for_git += frame.payload
                elif frame.operation == messages.COUNTS:
                    objects, count = frame.counts
                    shard.objects += objects
                    shard.bytes += count
                    self._advance(objects)
                else:
                    left, gaps = frame.counts
                    shard.unread["pack_index_damaged"] += min(gaps, 1)
                    return _UnitRead(shard, for_git, left)
        except _Ended:
            return _UnitRead(shard, for_git, None)

    def _advance(self, objects: int) -> None:
        with self._lock:
            self.seen += objects

    def _merge(self, shard: HistoryShard, for_git: bytearray) -> None:
        with self._lock:
            self._shard.add(shard)
            self._for_git += for_git

    def _leave_to_git(self, unit: int) -> None:
        """Let git read the group of objects whose worker has died."""
        with self._lock:
            self._deaths += 1
            is_over = self._deaths >= MAX_DEATHS
        _log.warning("a process that read packs has died; git reads its objects", extra={"unit": unit})
        next_unit: int | None = unit
        while next_unit is not None:
            objects = self._server.objects_of(next_unit, self._deadline)
            shard = HistoryShard(unread=Counter(object_damaged=objects.damaged_objects))
            self._merge(shard, bytearray(objects.rest))
            next_unit = self._next() if is_over else None

"""The process that plans the reading of a repository's packs, and forks the workers that read them.

A process that was started afresh has no threads and little memory, so it can fork. It opens the packs and nothing else.
If a pack is cut off while it is mapped, the kernel kills the worker that reads the missing part, and no other process.
"""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import socket
from pathlib import Path

import numpy as np

from scanner.child_processes import die_with_parent
from scanner.confinement import HISTORY_CPU_SECONDS, confine, confine_to_reading
from scanner.detection.loading import load_decoders
from scanner.detection.pack_history import messages
from scanner.detection.pack_history.families import HistoryPlan, Unit, plan_history
from scanner.detection.pack_history.index import PackFile, UnusualPack, open_packs, sortable
from scanner.detection.pack_history.messages import DONE, GIT, POINTER, SUSPECT, UNIT, Frame, Plan
from scanner.detection.pack_history.reading import FamilyReader
from scanner.detection.pack_history.search import Search
from scanner.detection.token_formats import parse_formats, use_formats

MEMORY_BYTES = 400 << 20
"""Limit of the server's memory and of each worker's. Mapped packs need no memory of their own and are not counted."""
COUNT_EVERY = 4096
"""A worker reports its progress after each of this many objects."""

_FANOUT = re.compile(r"[0-9a-f]{2}")
_LOOSE = re.compile(r"[0-9a-f]{38}(?:[0-9a-f]{24})?")


def main(descriptor: int, formats: str, folders: list[str]) -> None:
    """Serve the control socket until its other end is closed.

    Args:
        descriptor: The control socket.
        formats: The token formats to look for, as `parse_formats` reads them.
        folders: Object folders: the repository's own and its alternates.
    """
    use_formats(parse_formats(formats))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    confine_to_reading(MEMORY_BYTES)
    control = socket.socket(fileno=descriptor)
    with contextlib.suppress(OSError):
        try:
            history, plan = _planned([Path(folder) for folder in folders])
        except (UnusualPack, OSError, MemoryError):
            messages.send_plan(control, Plan(False, 20, 0, 0, b""))
            return
        load_decoders()
        gc.collect()
        gc.freeze()
        messages.send_plan(control, plan)
        del plan
        workers: list[int] = []
        _serve(control, history, workers)
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)


def _planned(folders: list[Path]) -> tuple[HistoryPlan, Plan]:
    opened = list(open_packs([folder / "pack" for folder in folders]))
    sizes = {file.hash_bytes for file, _ in opened}
    if len(sizes) != 1:
        raise UnusualPack("no pack, or packs with ids of several lengths")
    (hash_bytes,) = sizes
    history = plan_history(opened)
    rest = b"".join(pack.oids(pack.rest) for pack in history.packs)
    rest += _loose([file for file, _ in opened], folders, hash_bytes)
    return history, Plan(True, hash_bytes, len(history.units), history.objects, rest)


def _loose(files: list[PackFile], folders: list[Path], hash_bytes: int) -> bytes:
    """Return the joined ids of the loose objects that are in no pack."""
    found: set[bytes] = set()
    for folder in folders:
        for fanout in (name for name in os.listdir(folder) if _FANOUT.fullmatch(name)):
            names = (name for name in os.listdir(folder / fanout) if _LOOSE.fullmatch(name))
            found.update(bytes.fromhex(fanout + name) for name in names if len(name) == 2 * hash_bytes - 2)
    if not found:
        return b""
    wanted = np.frombuffer(b"".join(sorted(found)), np.uint8).reshape(-1, hash_bytes)
    is_packed = np.zeros(len(wanted), np.bool_)
    for file in files:
        if len(file.ids):
            known, own = sortable(file.ids), sortable(wanted)
            is_packed |= known[np.minimum(np.searchsorted(known, own), len(known) - 1)] == own
    return wanted[~is_packed].tobytes()


def _serve(control: socket.socket, history: HistoryPlan, workers: list[int]) -> None:
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, messages.COMMAND.size, 1)
        if len(message) < messages.COMMAND.size:
            return
        command, number = messages.COMMAND.unpack(message)
        if command == messages.FORK and descriptors:
            workers.append(_fork(control, socket.socket(fileno=descriptors[0]), history))
        elif command == messages.IDS and number < len(history.units):
            ids = _ids_of(history.units[number])
            messages.send_plan(control, Plan(True, history.packs[0].file.hash_bytes, 1, 0, ids))


def _ids_of(unit: Unit) -> bytes:
    """Return the joined ids of all objects of a unit."""
    plan = unit.plan
    stack: list[int] = unit.roots.tolist()
    ids = bytearray()
    while stack:
        number = stack.pop()
        if plan.repeats is None or not plan.repeats[number]:
            ids += plan.oid(number)
        stack += plan.children[plan.starts[number] : plan.starts[number + 1]].tolist()
    return bytes(ids)


def _fork(control: socket.socket, connection: socket.socket, history: HistoryPlan) -> int:
    """Start a worker, and return its process id."""
    server = os.getpid()
    if process := os.fork():
        connection.close()
        return process
    status = 1
    try:
        die_with_parent(server)
        control.close()
        confine(MEMORY_BYTES, HISTORY_CPU_SECONDS)
        with contextlib.suppress(OSError):
            _work(connection, history)
            status = 0
    finally:
        os._exit(status)


def _work(connection: socket.socket, history: HistoryPlan) -> None:
    """Read the units that are asked for, until the other end is closed."""
    gc.disable()  # the objects of a unit form no reference cycles, and looking for cycles takes a tenth of the time
    while len(raw := messages.receive(connection, UNIT.size, lambda: None)) == UNIT.size:
        (number,) = UNIT.unpack(raw)
        if number >= len(history.units):
            return
        _read_unit(connection, history.units[number])
        gc.collect()
        messages.send_frame(connection, Frame(DONE))


def _read_unit(connection: socket.socket, unit: Unit) -> None:
    plan = unit.plan
    repeats = None if plan.repeats is None else plan.repeats.data
    for_git = bytearray()
    objects = size = 0

    def send(operation: bytes, number: int, kind: int, content: bytes = b"") -> None:
        messages.send_frame(connection, Frame(operation, kind, plan.oid(number), content))

    search = Search(
        lambda number, kind, content: send(SUSPECT, number, kind, content), lambda number: send(POINTER, number, 3)
    )
    for number, kind, content in FamilyReader(unit).objects():
        if repeats is not None and repeats[number]:
            continue
        if content is None:
            for_git += plan.oid(number)
            continue
        search.take(number, kind, content)
        if search.objects - objects >= COUNT_EVERY:
            messages.send_frame(connection, messages.counts_frame(search.objects - objects, search.bytes - size))
            objects, size = search.objects, search.bytes
    search.flush()
    messages.send_frame(connection, messages.counts_frame(search.objects - objects, search.bytes - size))
    if for_git:
        messages.send_frame(connection, Frame(GIT, payload=bytes(for_git)))

"""A helper process that plans how to read a repository's packs, and forks the worker processes that read them."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import socket
from array import array
from collections.abc import Iterable
from pathlib import Path

from scanner.child_processes import die_with_parent
from scanner.confinement import HISTORY_CPU_SECONDS, confine, confine_to_reading
from scanner.detection.history.pack_history import messages
from scanner.detection.history.pack_history.families import HistoryPlan, PackPlan, Unit, plan_history
from scanner.detection.history.pack_history.index import FIRST, Entries, PackFile, UnusualPack, open_pack
from scanner.detection.history.pack_history.messages import (
    DAMAGED,
    GIT,
    OVER,
    POINTER,
    SUSPECT,
    UNIT,
    WHOLE_PACK,
    Frame,
    Plan,
)
from scanner.detection.history.pack_history.reading import FamilyReader
from scanner.detection.history.pack_history.search import BLOB, Search
from scanner.detection.loading import load_decoders
from scanner.detection.patterns.token_formats import parse_formats, use_formats

MEMORY_BYTES = 400 << 20
"""The memory limit of the helper process and of each worker, without the packs."""
COUNT_EVERY = 4096
"""A worker reports its progress after each of this many objects."""


def main(descriptor: int, formats: str, listed: str) -> None:
    """Plan how to read the packs, then start workers as requested until the socket is closed.

    Args:
        descriptor: The file descriptor of the socket.
        formats: The token formats, as in `R8SCAN_TOKEN_FORMATS`.
        listed: The path of a JSON file with the paths of the packs.
    """
    use_formats(parse_formats(formats))
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    confine_to_reading(MEMORY_BYTES)
    control = socket.socket(fileno=descriptor)
    with contextlib.suppress(OSError):
        try:
            history, plan = _planned([Path(pack) for pack in json.loads(Path(listed).read_bytes())])
        except MemoryError:
            messages.send_plan(control, Plan(False))
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


def _planned(packs: list[Path]) -> tuple[HistoryPlan, Plan]:
    opened: list[tuple[PackFile, Entries]] = []
    numbers: list[int] = []
    unusual: list[int] = []
    for number, pack in enumerate(packs):
        try:
            file, entries = open_pack(pack, pack.with_suffix(".idx"))
        except (UnusualPack, OSError):
            unusual.append(number)
            continue
        opened.append((file, entries))
        numbers.append(number)
    hash_bytes = opened[0][0].hash_bytes if opened else 20
    rest = bytearray().join(messages.record(number, WHOLE_PACK[:hash_bytes]) for number in unusual)
    history = plan_history(opened)
    damaged = 0
    for one, number in zip(history.packs, numbers, strict=True):
        one.number = number
        if one.file.has_sorted_ids:
            rest += _records(one, one.rest)
        else:
            damaged += len(one.rest)
    is_usable = all(file.hash_bytes == hash_bytes for file, _ in opened)
    weights = tuple(unit.weight for unit in history.units)
    gaps = sum(int(entries.offsets[0]) != FIRST for _, entries in opened)
    return history, Plan(is_usable, hash_bytes, weights, history.objects, bytes(rest), gaps, damaged)


def _records(plan: PackPlan, numbers: Iterable[int]) -> bytes:
    """Encode references to the objects of these pack entries, which git has to read."""
    return b"".join(messages.record(plan.number, plan.oid(number)) for number in numbers)


def _serve(control: socket.socket, history: HistoryPlan, workers: list[int]) -> None:
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, messages.COMMAND.size, 1)
        if len(message) < messages.COMMAND.size:
            return
        command, number = messages.COMMAND.unpack(message)
        if command == messages.FORK and descriptors:
            workers.append(_fork(control, socket.socket(fileno=descriptors[0]), history))
        elif command == messages.IDS and number < len(history.units):
            plan, entries = history.units[number].plan, _entries_of(history.units[number])
            if plan.file.has_sorted_ids:
                answer = Plan(True, plan.file.hash_bytes, rest=_records(plan, entries))
            else:
                answer = Plan(True, plan.file.hash_bytes, damaged_objects=len(entries))
            messages.send_plan(control, answer)


def _entries_of(unit: Unit) -> array[int]:
    """Return the entry numbers of all objects in a group."""
    plan = unit.plan
    stack: list[int] = unit.roots.tolist()
    numbers = array("I")
    while stack:
        number = stack.pop()
        numbers.append(number)
        stack += plan.children[plan.starts[number] : plan.starts[number + 1]].tolist()
    return numbers


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
    """Read the requested groups of objects until the connection is closed."""
    # Disable the search for reference cycles. It would take a tenth of the time, and there are no cycles.
    gc.disable()
    while len(raw := messages.receive(connection, UNIT.size, lambda: None)) == UNIT.size:
        number, budget = UNIT.unpack(raw)
        if number >= len(history.units):
            return
        _read_unit(connection, history.units[number], budget)
        gc.collect()


def _read_unit(connection: socket.socket, unit: Unit, budget: int) -> None:
    plan = unit.plan
    objects = size = 0

    def send(operation: bytes, number: int, kind: int, content: bytes = b"") -> None:
        messages.send_frame(connection, Frame(operation, kind, plan.oid(number), content))

    search = Search(
        lambda number, kind, content: send(SUSPECT, number, kind, content), lambda number: send(POINTER, number, BLOB)
    )
    reader = FamilyReader(unit, budget)
    for number, kind, content in reader.objects():
        search.take(number, kind, content)
        if search.objects - objects >= COUNT_EVERY:
            messages.send_frame(connection, messages.counts_frame(search.objects - objects, search.bytes - size))
            objects, size = search.objects, search.bytes
    search.flush()
    messages.send_frame(connection, messages.counts_frame(search.objects - objects, search.bytes - size))
    for number, kind in reader.over_budget:
        send(OVER, number, kind)
    if plan.file.has_sorted_ids:
        records = _records(plan, (number for number, _ in reader.for_git))
        messages.send_frame(connection, Frame(GIT, payload=records))
    else:
        # Git looks up objects by their ids, which are not unique in this pack. So it cannot read these objects either.
        for number, kind in reader.for_git:
            send(DAMAGED, number, kind)
    messages.send_frame(connection, messages.done_frame(reader.left, reader.gaps))

"""Messages between the process that scans a repository and the child processes that read its packs."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from scanner.detection.git.pack_codec import OBJECT_TYPES

MAX_IDS_BYTES = 1 << 30
MAX_CONTENT_BYTES = 32 << 20

FORK, IDS = b"f", b"i"
"""Commands to the helper process: start a worker (FORK), or return the ids of the objects in a group (IDS)."""
COMMAND = struct.Struct("<cI")
PLAN = struct.Struct("<?BQQQQQ")
UNIT = struct.Struct("<IQ")
"""A request to read a group of objects: the group's number, and the limit in bytes on the work for its deltas."""
_WEIGHT = struct.Struct("<Q")
_FRAME = struct.Struct("<cB32sQ")
_COUNTS = struct.Struct("<QQ")
_PACK = struct.Struct("<I")

# An object may contain a token (SUSPECT), or was not read (POINTER, DAMAGED, OVER). Git has to read objects (GIT). The
# worker has made progress (COUNTS), or has finished a group of objects (DONE).
SUSPECT, POINTER, DAMAGED, OVER, GIT, COUNTS, DONE = b"s", b"p", b"x", b"o", b"g", b"c", b"d"

NOTES = {POINTER: "lfs_pointer", DAMAGED: "object_damaged", OVER: "inflated_over_limit"}
"""The reason that is recorded for each kind of message about an object that was not read."""

WHOLE_PACK = bytes(32)
"""This value in place of an object id means all objects of the pack."""

_MOST = {SUSPECT: MAX_CONTENT_BYTES, GIT: MAX_IDS_BYTES, COUNTS: _COUNTS.size, DONE: _COUNTS.size} | dict.fromkeys(
    NOTES, 0
)
"""The maximum size of the payload of each kind of message."""


class BadMessage(Exception):
    """A message is invalid. Its sender may be controlled by a hostile pack."""


class Plan(NamedTuple):
    """A message of the helper process: what the workers will read, and what git has to read.

    Attributes:
        is_usable: Whether the packs can be read without git.
        weights: The estimated work in bytes on each group of objects.
        rest: The encoded references to the objects that git has to read.
        damaged_packs: The number of packs with extra bytes before their first object.
        damaged_objects: The number of objects that neither the workers nor git can read.
    """

    is_usable: bool
    hash_bytes: int = 20
    weights: tuple[int, ...] = ()
    objects: int = 0
    rest: bytes = b""
    damaged_packs: int = 0
    damaged_objects: int = 0


class Frame(NamedTuple):
    """A message of a worker process, which reads groups of git objects.

    Attributes:
        payload: For SUSPECT, the object's content. For GIT, references to objects. For COUNTS and DONE, two numbers.
    """

    operation: bytes
    kind: int = 0
    oid: bytes = b""
    payload: bytes = b""

    @property
    def counts(self) -> tuple[int, int]:
        """The two numbers of a COUNTS message (objects, bytes) or of a DONE message (unspent bytes, damaged places)."""
        one, other = _COUNTS.unpack(self.payload)
        return one, other


def record(pack: int, oid: bytes) -> bytes:
    """Return an encoded reference to an object of a pack. WHOLE_PACK as the id means all objects of the pack."""
    return _PACK.pack(pack) + oid


def records(payload: bytes | bytearray, hash_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Decode references to objects, and yield the pack number and the object id of each."""
    for at in range(0, len(payload), record_bytes(hash_bytes)):
        (pack,) = _PACK.unpack_from(payload, at)
        yield pack, bytes(payload[at + _PACK.size : at + record_bytes(hash_bytes)])


def record_bytes(hash_bytes: int) -> int:
    """Return the size in bytes of an encoded reference to an object."""
    return _PACK.size + hash_bytes


def counts_frame(objects: int, size: int) -> Frame:
    """Return a message that says how many objects a worker has read, and their total size in bytes."""
    return Frame(COUNTS, payload=_COUNTS.pack(objects, size))


def done_frame(left: int, gaps: int) -> Frame:
    """Return a message that says that a worker has finished a group of objects, with the unspent bytes of work."""
    return Frame(DONE, payload=_COUNTS.pack(max(left, 0), gaps))


def send_plan(connection: socket.socket, plan: Plan) -> None:
    """Send the plan for reading the packs to the scanning process.

    Raises:
        OSError: the other end of the socket is closed.
    """
    numbers = (plan.objects, len(plan.weights), len(plan.rest), plan.damaged_packs, plan.damaged_objects)
    connection.sendall(PLAN.pack(plan.is_usable, plan.hash_bytes, *numbers))
    connection.sendall(b"".join(map(_WEIGHT.pack, plan.weights)) + plan.rest)


def receive_plan(connection: socket.socket, wait: Callable[[], None]) -> Plan:
    """Receive the plan for reading the packs. While waiting, call `wait`, which may raise an exception.

    Raises:
        BadMessage: the process has ended, or its message is invalid.
    """
    raw = receive(connection, PLAN.size, wait)
    try:
        is_usable, hash_bytes, objects, units, size, damaged_packs, damaged_objects = PLAN.unpack(raw)
    except struct.error as err:
        raise BadMessage("the server has ended") from err
    if hash_bytes not in (20, 32) or max(units * _WEIGHT.size, size) > MAX_IDS_BYTES:
        raise BadMessage("no plan")
    if size % record_bytes(hash_bytes):
        raise BadMessage("no plan")
    body = receive(connection, units * _WEIGHT.size + size, wait)
    if len(body) != units * _WEIGHT.size + size:
        raise BadMessage("the server has ended")
    weights = tuple(weight for (weight,) in _WEIGHT.iter_unpack(body[: units * _WEIGHT.size]))
    rest = body[units * _WEIGHT.size :]
    return Plan(is_usable, hash_bytes, weights, objects, rest, damaged_packs, damaged_objects)


def send_frame(connection: socket.socket, frame: Frame) -> None:
    """Send a message from a worker to the scanning process.

    Raises:
        OSError: the other end of the socket is closed.
    """
    head = _FRAME.pack(frame.operation, frame.kind, frame.oid, len(frame.payload))
    if len(frame.payload) < 1 << 16:
        connection.sendall(head + frame.payload)
    else:
        connection.sendall(head)
        connection.sendall(frame.payload)


def receive_frame(connection: socket.socket, hash_bytes: int, wait: Callable[[], None]) -> Frame:
    """Receive a message of a worker. While waiting, call `wait`, which may raise an exception.

    Raises:
        BadMessage: the worker has ended, or its message is invalid.
    """
    raw = receive(connection, _FRAME.size, wait)
    if len(raw) < _FRAME.size:
        raise BadMessage("the worker has ended")
    operation, kind, oid, size = _FRAME.unpack(raw)
    most = _MOST.get(operation)
    if most is None or size > most:
        raise BadMessage("no message")
    if (operation == SUSPECT or operation in NOTES) and kind not in OBJECT_TYPES:
        raise BadMessage("no object")
    if (operation == GIT and size % record_bytes(hash_bytes)) or (operation in (COUNTS, DONE) and size != most):
        raise BadMessage("no message")
    payload = receive(connection, size, wait)
    if len(payload) != size:
        raise BadMessage("the worker has ended")
    return Frame(operation, kind, oid[:hash_bytes], payload)


def receive(connection: socket.socket, size: int, wait: Callable[[], None]) -> bytes:
    """Receive `size` bytes, or fewer if the socket is closed. While waiting, call `wait`, which may raise an
    exception.
    """
    buffer = bytearray(min(size, 1 << 20))
    filled = 0
    while filled < size:
        if filled == len(buffer):
            # Allocate memory only as the bytes arrive, because the declared size may be false.
            buffer.extend(bytes(min(size - filled, max(filled, 1 << 20))))
        try:
            count = connection.recv_into(memoryview(buffer)[filled:])
        except TimeoutError:
            wait()
            continue
        except ConnectionError:
            break
        if not count:
            break
        filled += count
    return bytes(memoryview(buffer)[:filled])


def close(connection: socket.socket) -> None:
    """Close a socket, even if its other end is already closed."""
    with contextlib.suppress(OSError):
        connection.close()

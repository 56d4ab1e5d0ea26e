"""The protocol between the process that scans a history and the processes that read its packs.

The scanning process does not trust the others, because a hostile pack may have taken one over. The size of each message
is limited, and each field is checked.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable
from typing import NamedTuple

from scanner.detection.pack_codec import OBJECT_TYPES

MAX_IDS_BYTES = 1 << 30
MAX_CONTENT_BYTES = 32 << 20

FORK, IDS = b"f", b"i"
"""Commands to the server. FORK carries the worker's end of a socket. IDS asks for the ids of a unit's objects."""
COMMAND = struct.Struct("<cI")
PLAN = struct.Struct("<?BIQQ")
UNIT = struct.Struct("<I")
_FRAME = struct.Struct("<cB32sQ")
_COUNTS = struct.Struct("<QQ")

SUSPECT, POINTER, GIT, COUNTS, DONE = b"s", b"p", b"g", b"c", b"d"


class BadMessage(Exception):
    """A message is invalid. Its sender has failed, or a hostile pack has taken it over."""


class Plan(NamedTuple):
    """The server's plan: the units that its workers will read, and the ids of the objects that git has to read.

    Attributes:
        is_usable: Whether this reader can read the packs at all.
        hash_bytes: The size of an object id. units: The number of units. objects: The number of objects in the units.
            rest: The joined ids of the objects that git has to read.
    """

    is_usable: bool
    hash_bytes: int
    units: int
    objects: int
    rest: bytes


class Frame(NamedTuple):
    """A message of a worker.

    SUSPECT has the kind, id and content of an object. POINTER has the kind and id of a Git LFS pointer. GIT has the
    joined ids of objects that git has to read. COUNTS has the numbers of objects and bytes that were read since the
    last COUNTS. DONE ends a unit.
    """

    operation: bytes
    kind: int = 0
    oid: bytes = b""
    payload: bytes = b""

    @property
    def counts(self) -> tuple[int, int]:
        """Return the numbers of objects and bytes in a COUNTS message."""
        objects, size = _COUNTS.unpack(self.payload)
        return objects, size


def counts_frame(objects: int, size: int) -> Frame:
    """Return a COUNTS message."""
    return Frame(COUNTS, payload=_COUNTS.pack(objects, size))


def send_plan(connection: socket.socket, plan: Plan) -> None:
    """Send the plan. Raises OSError."""
    connection.sendall(PLAN.pack(plan.is_usable, plan.hash_bytes, plan.units, plan.objects, len(plan.rest)))
    connection.sendall(plan.rest)


def receive_plan(connection: socket.socket, wait: Callable[[], None]) -> Plan:
    """Receive the plan: the number of units to read, and the ids of the objects that git has to read.

    Raises:
        BadMessage: the server process has ended, or sent something else.
    """
    raw = receive(connection, PLAN.size, wait)
    try:
        is_usable, hash_bytes, units, objects, size = PLAN.unpack(raw)
    except struct.error as err:
        raise BadMessage("the server has ended") from err
    if hash_bytes not in (20, 32) or size > MAX_IDS_BYTES or size % hash_bytes:
        raise BadMessage("no plan")
    rest = receive(connection, size, wait)
    if len(rest) != size:
        raise BadMessage("the server has ended")
    return Plan(is_usable, hash_bytes, units, objects, rest)


def send_frame(connection: socket.socket, frame: Frame) -> None:
    """Send a message of a worker. Raises OSError."""
    head = _FRAME.pack(frame.operation, frame.kind, frame.oid, len(frame.payload))
    if len(frame.payload) < 1 << 16:
        connection.sendall(head + frame.payload)
    else:
        connection.sendall(head)
        connection.sendall(frame.payload)


def receive_frame(connection: socket.socket, hash_bytes: int, wait: Callable[[], None]) -> Frame:
    """Receive a message of a worker.

    Args:
        connection: The socket.
        hash_bytes: The size of an id.
        wait: Called repeatedly until something can be received. It may raise an exception to give up.

    Raises:
        BadMessage: the worker has ended, or sent something else.
    """
    raw = receive(connection, _FRAME.size, wait)
    if len(raw) < _FRAME.size:
        raise BadMessage("the worker has ended")
    operation, kind, oid, size = _FRAME.unpack(raw)
    most = {SUSPECT: MAX_CONTENT_BYTES, GIT: MAX_IDS_BYTES, COUNTS: _COUNTS.size}.get(operation, 0)
    if operation not in (SUSPECT, POINTER, GIT, COUNTS, DONE) or size > most:
        raise BadMessage("no message")
    if operation in (SUSPECT, POINTER) and kind not in OBJECT_TYPES:
        raise BadMessage("no object")
    if (operation == GIT and size % hash_bytes) or (operation == COUNTS and size != most):
        raise BadMessage("no message")
    payload = receive(connection, size, wait)
    if len(payload) != size:
        raise BadMessage("the worker has ended")
    return Frame(operation, kind, oid[:hash_bytes], payload)


def receive(connection: socket.socket, size: int, wait: Callable[[], None]) -> bytes:
    """Return `size` bytes, fewer if the other end was closed.

    Args:
        connection: The socket. If it has a time-out, `wait` is called after each time-out.
        size: The number of bytes.
        wait: See `receive_frame`.
    """
    buffer = bytearray(min(size, 1 << 20))
    filled = 0
    while filled < size:
        if filled == len(buffer):
            # Allocate memory as the bytes arrive, not by the declared size.
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
    """Close a socket whose other end may already be closed."""
    with contextlib.suppress(OSError):
        connection.close()

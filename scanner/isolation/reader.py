"""A confined process that opens hostile documents and git packs, and sends back the tokens found."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Mapping

from scanner.confinement import confine
from scanner.detection.deep_reading import DeepReading, InProcessReader
from scanner.detection.limits import Limits
from scanner.isolation import messages, pack_messages

MEMORY_BYTES = 320 << 20
"""Address space of a confined process in bytes, in addition to what it has inherited from the fork server."""
RETIRE_AFTER_CPU_SECONDS = 30.0
RETIRE_AFTER_DOCUMENT_SECONDS = 1.0
"""After a document that costs more processor time than this, the confined process is replaced."""
RETIRE_ABOVE_BYTES = 200 << 20
"""A confined process whose peak memory exceeds this is replaced."""


def serve(connection: socket.socket, limits: Limits) -> None:
    """Confine this process, then answer requests until the socket is closed or a limit is reached."""
    confine(MEMORY_BYTES)
    while kind := messages.receive(connection, 1):
        goes_on = _scan_pack(connection, limits) if kind == pack_messages.PACK else _read_one(connection, limits)
        if not goes_on:
            return


def _read_one(connection: socket.socket, limits: Limits) -> bool:
    """Read a document and send the tokens found. Return False if this process must end."""
    request = messages.receive_request(connection)
    if request is None:
        return False
    reading = _read(request, limits)
    del request
    retires = _has_to_retire(reading.seconds, reading.unread)
    messages.send_answer(connection, reading, retires=retires)
    return not retires


def _scan_pack(connection: socket.socket, limits: Limits) -> bool:
    """Scan a git pack and send the tokens found. Return False if this process must end."""
    asked = pack_messages.receive_pack(connection)
    if asked is None:
        return False
    begun = time.process_time()
    inner = InProcessReader(limits, time.process_time)
    scan = inner.scan_pack(asked.content, asked.request, lambda item: pack_messages.send_deferred(connection, item))
    del asked
    seconds = time.process_time() - begun
    retires = _has_to_retire(seconds, scan.unread)
    pack_messages.send_scan(connection, scan, seconds, retires=retires)
    return not retires


def _read(request: messages.Request, limits: Limits) -> DeepReading:
    begun = time.process_time()
    reader = InProcessReader(limits, time.process_time)
    try:
        reading = reader.read(
            request.content, request.name, seconds=request.seconds, expanded_bytes=request.expanded_bytes
        )
    except MemoryError:
        return DeepReading((), {"memory": 1}, 0, time.process_time() - begun)
    return reading


def _has_to_retire(seconds: float, unread: Mapping[str, int]) -> bool:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return (
        seconds > RETIRE_AFTER_DOCUMENT_SECONDS
        or usage.ru_utime + usage.ru_stime > RETIRE_AFTER_CPU_SECONDS
        or usage.ru_maxrss * 1024 > RETIRE_ABOVE_BYTES
        or "memory" in unread
    )


def run(connection: socket.socket, limits: Limits) -> int:
    """Answer requests, and return the exit status of the process. Never raise an exception."""
    with contextlib.suppress(OSError, MemoryError):
        serve(connection, limits)
    return 0

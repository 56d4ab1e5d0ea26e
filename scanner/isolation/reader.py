"""A reader: a confined process that opens what it is sent and answers with what it found. The fork server starts it."""

from __future__ import annotations

import contextlib
import resource
import socket
import time

from scanner.detection.deep_reading import DeepReading, InProcessReader
from scanner.detection.limits import Limits
from scanner.isolation import messages
from scanner.isolation.confinement import confine

MEMORY_BYTES = 320 << 20
"""Address space beyond what the fork server has loaded: with it, a process stays below 400 MB."""
RETIRE_AFTER_CPU_SECONDS = 30.0
RETIRE_AFTER_DOCUMENT_SECONDS = 1.0
"""A content that costs more is hostile or damaged more often than not: the next one gets a fresh process."""
RETIRE_ABOVE_BYTES = 200 << 20
"""Peak memory. A fresh reader costs a few milliseconds, a large one keeps what it once took."""


def serve(connection: socket.socket, limits: Limits) -> None:
    """Confine this process, then read what comes until the other end closes or this reader retires."""
    confine(MEMORY_BYTES)
    while (request := messages.receive_request(connection)) is not None:
        content, name, seconds = request
        del request
        reading = _read(content, name, seconds, limits)
        del content
        retires = _has_to_retire(reading)
        messages.send_answer(connection, reading, retires=retires)
        if retires:
            return


def _read(content: bytes, name: str, seconds: float, limits: Limits) -> DeepReading:
    begun = time.process_time()
    reader = InProcessReader(limits, time.process_time)
    try:
        reading = reader.read(content, name, seconds=seconds)
    except MemoryError:
        return DeepReading((), {"memory": 1}, 0, time.process_time() - begun)
    return reading


def _has_to_retire(reading: DeepReading) -> bool:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return (
        reading.seconds > RETIRE_AFTER_DOCUMENT_SECONDS
        or usage.ru_utime + usage.ru_stime > RETIRE_AFTER_CPU_SECONDS
        or usage.ru_maxrss * 1024 > RETIRE_ABOVE_BYTES
        or "memory" in reading.unread
    )


def run(connection: socket.socket, limits: Limits) -> int:
    """Serve, and return the exit status. Never raises: there is nobody to tell."""
    with contextlib.suppress(OSError):
        serve(connection, limits)
    return 0

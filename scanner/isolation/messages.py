"""The messages between the service and a confined process that opens documents.

A hostile document may take over the process, so each answer is checked.
"""

from __future__ import annotations

import json
import socket
import struct
from collections import Counter
from typing import Any, NamedTuple

from scanner.detection.deep_reading import DeepReading
from scanner.detection.findings import Finding
from scanner.detection.patterns.token_formats import is_token

MAX_CONTENT_BYTES = 256 << 20
MAX_NAME_BYTES = 4096
MAX_ANSWER_BYTES = 32 << 20
MAX_WORDS = 64
"""A finding has at most this many encodings, and is inside at most this many containers, such as archives."""
MAX_WORD_LENGTH = 8192
MAX_REASONS = 1000

DOCUMENT = b"d"
"""The first byte of a request to read a document."""
_REQUEST = struct.Struct("<QHdQ")
_SIZE = struct.Struct("<I")


class Request(NamedTuple):
    """A request to find the tokens in a document.

    Attributes:
        name: The beginning of the path of each finding, for example "a.zip" in "a.zip!/b.txt".
        seconds: The limit on processor seconds.
        expanded_bytes: The limit on bytes that are decompressed and decoded.
    """

    content: bytes
    name: str
    seconds: float
    expanded_bytes: int


class BadAnswer(Exception):
    """The answer of a confined process is invalid."""


def send_request(connection: socket.socket, content: bytes, name: str, seconds: float, expanded_bytes: int) -> None:
    """Send a document to a confined process, which will find the tokens in it.

    Args:
        name: The beginning of the path of each finding, for example "a.zip" in "a.zip!/b.txt".
        seconds: The limit on processor seconds.
        expanded_bytes: The limit on bytes that are decompressed and decoded.

    Raises:
        OSError: The process has ended.
        ValueError: The content is too large.
    """
    if len(content) > MAX_CONTENT_BYTES:
        raise ValueError("the content is too large for a reader")
    raw = name.encode("utf-8", "surrogatepass")[:MAX_NAME_BYTES]
    connection.sendall(DOCUMENT + _REQUEST.pack(len(content), len(raw), seconds, expanded_bytes) + raw)
    connection.sendall(content)


def receive_request(connection: socket.socket) -> Request | None:
    """Receive a request to read a document. The caller has already received the first byte of the request.

    Return None if the service process has closed the socket.
    """
    head = receive(connection, _REQUEST.size)
    if len(head) < _REQUEST.size:
        return None
    size, name_size, seconds, expanded_bytes = _REQUEST.unpack(head)
    name = receive(connection, name_size).decode("utf-8", "replace")
    content = receive(connection, size)
    return Request(content, name, seconds, expanded_bytes) if len(content) == size else None


def send_answer(connection: socket.socket, reading: DeepReading, *, retires: bool) -> None:
    """Send the result of reading a document to the service process.

    Args:
        retires: Whether the confined process will end after this answer.
    """
    value = {
        "findings": [finding_to_json(found) for found in reading.findings],
        "unread": dict(reading.unread),
        "expanded": reading.expanded,
        "seconds": reading.seconds,
        "retires": retires,
    }
    raw = json.dumps(value).encode("ascii")
    connection.sendall(_SIZE.pack(len(raw)) + raw)


def receive_answer(connection: socket.socket) -> tuple[DeepReading, bool]:
    """Receive the result of reading a document.

    Returns:
        The result, and whether the confined process ends after this answer.

    Raises:
        BadAnswer: The answer is cut off, too large, or malformed.
        OSError: The connection broke, or its time-out passed.
    """
    head = receive(connection, _SIZE.size)
    if len(head) < _SIZE.size:
        raise BadAnswer("the reader ended")
    (size,) = _SIZE.unpack(head)
    if size > MAX_ANSWER_BYTES:
        raise BadAnswer("the reader's answer is too large")
    raw = receive(connection, size)
    try:
        return _parsed(json.loads(raw))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as err:
        raise BadAnswer("the reader's answer is not of the agreed form") from err


def receive(connection: socket.socket, size: int) -> bytes:
    """Receive `size` bytes, or fewer if the other end of the socket was closed."""
    if not size:
        return b""
    data = connection.recv(size, socket.MSG_WAITALL)
    if len(data) == size or not data:
        return data
    parts = [data]
    missing = size - len(data)
    while missing and (part := connection.recv(missing, socket.MSG_WAITALL)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _parsed(value: Any) -> tuple[DeepReading, bool]:
    reading = DeepReading(
        findings=tuple(finding_from_json(item) for item in value["findings"]),
        unread=reasons_from_json(value["unread"]),
        expanded=int(value["expanded"]),
        seconds=float(value["seconds"]),
    )
    return reading, bool(value["retires"])


def reasons_from_json(value: Any) -> Counter[str]:
    """Return how many parts of the content were not read, by reason, from a confined process's message.

    Raises:
        ValueError, TypeError, AttributeError: The message is malformed.
    """
    unread = Counter[str]()
    for reason, count in list(value.items())[:MAX_REASONS]:
        unread[reason[:200]] += int(count)
    return unread


def finding_to_json(found: Finding) -> list[Any]:
    """Return a finding as a JSON list."""
    return [found.token.decode("ascii"), found.line, found.column, list(found.encoding), list(found.members)]


def finding_from_json(value: Any) -> Finding:
    """Return the finding from the JSON list that `finding_to_json` returned.

    Raises:
        ValueError, TypeError: The value is not a finding.
    """
    token, line, column, encoding, members = value
    if not is_token(token):
        raise ValueError("no token")
    return Finding(
        token=token.encode("ascii"),
        start=0,
        end=1,
        encoding=_words(encoding),
        members=_words(members),
        line=int(line),
        column=int(column),
    )


def _words(values: list[str]) -> tuple[str, ...]:
    if not values:
        return ()
    if len(values) > MAX_WORDS or not all(isinstance(value, str) for value in values):
        raise ValueError("no words")
    return tuple(value[:MAX_WORD_LENGTH] for value in values)

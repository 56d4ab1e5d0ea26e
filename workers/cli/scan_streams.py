"""Scans a stream of any length. A long stream is scanned in pieces."""

from __future__ import annotations

import os
from collections import Counter
from typing import NamedTuple, Protocol

from scanner.detection import Candidate, Detector
from scanner.detection.documents import is_lfs_pointer
from scanner.detection.pieces import PIECE, scan_pieces

FIRST_READ, MAX_READ = 1 << 16, PIECE
"""The number of bytes to request in the first read, and the maximum for later reads.

The first read is small, because Python allocates the requested memory and most contents are small.
"""


class Readable(Protocol):
    """A binary stream. `read` may return fewer bytes than requested."""

    def read(self, size: int, /) -> bytes | None: ...


class StreamRead(NamedTuple):
    """The result of scanning one stream. The possible tokens have no path or position yet."""

    candidates: list[Candidate]
    unread: Counter[str]
    bytes: int


def scan_stream(detector: Detector, stream: Readable, path: str, size: int = 0) -> StreamRead:
    """Scan the stream to its end and return the result.

    Args:
        path: The path of the content. The file name helps to recognize the type of the file.
        size: The content's size in bytes, or 0 if it is unknown.
    """
    step = min(max(FIRST_READ, size + 1), MAX_READ)

    def read(length: int) -> bytes:
        nonlocal step
        parts: list[bytes] = []
        while length and (part := stream.read(min(length, step))):
            parts.append(part)
            length -= len(part)
            step = min(2 * step, MAX_READ)
        return b"".join(parts)

    start = read(PIECE)
    if len(start) < PIECE:
        pointer = Counter({"lfs_pointer": 1}) if is_lfs_pointer(start) else Counter[str]()
        result = detector.scan_bytes(start, os.path.basename(path))
        if result is None:
            return StreamRead([], pointer, len(start))
        return StreamRead(list(result.candidates), pointer + Counter(result.unread), len(start))
    pieces = scan_pieces(detector, start, read)
    return StreamRead(pieces.candidates, pieces.unread, pieces.bytes)

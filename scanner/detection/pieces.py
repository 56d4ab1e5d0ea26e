"""Scan of content that does not fit in memory, in overlapping pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from scanner.detection.containers.embedded import is_binary
from scanner.detection.containers.recognition import container_kind
from scanner.detection.detector import Detector
from scanner.detection.documents import Candidate
from scanner.detection.wide import wide_codec

PIECE = 32 << 20
OVERLAP = 64 << 10
MAX_WHOLE_BYTES = 128 << 20
"""The maximum number of bytes of binary content that is read as a whole. Larger content is searched as text."""

_HEAD = 64 << 10


@dataclass(slots=True)
class Pieces:
    """The result of scanning content in pieces. The candidates have no `place` (where they were published)."""

    candidates: list[Candidate] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    bytes: int = 0


def scan_pieces(detector: Detector, start: bytes, read: Callable[[int], bytes]) -> Pieces:
    """Scan content in pieces, and return the possible tokens with their lines in the whole content.

    Args:
        read: Returns at most the given number of further bytes, or none at the end.
    """
    pieces = Pieces()
    head = start[:_HEAD]
    is_container = container_kind(head) is not None or wide_codec(head) is not None
    # Do not read a sparse file as a whole: it begins with zeros, and no archive does.
    if is_container or (is_binary(head) and start != bytes(len(start))):
        start = b"".join((start, read(MAX_WHOLE_BYTES - len(start))))
        if len(start) < MAX_WHOLE_BYTES:
            pieces.bytes = len(start)
            _scan(detector, start, 0, pieces, {})
            return pieces
    elif not start.startswith(b"\0"):
        start = b"".join((start, read(PIECE)))
    found: dict[tuple[str, int], Candidate] = {}
    rest, lines = b"", 0
    parts = _parts(start, read)
    del start
    for part in parts:
        pieces.bytes += len(part)
        # Join the end of the last part with the next part, except if that end has only zeros.
        piece = rest + part if rest.strip(b"\0") else part
        _scan(detector, piece, lines, pieces, found)
        rest = piece[-OVERLAP:]
        lines += piece.count(b"\n", 0, len(piece) - len(rest))
    pieces.candidates = list(found.values())
    # Compressed data may be cut off at the end of a piece, so its error does not mean that the file is damaged.
    is_damaged = pieces.unread.pop("damaged", 0) > 0
    if is_container or is_damaged:
        pieces.unread["container_over_limit"] = 1
    return pieces


def _parts(start: bytes, read: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield the content in parts of about PIECE bytes."""
    for begin in range(0, len(start), 2 * PIECE):
        yield start[begin : begin + 2 * PIECE]
    del start
    while part := read(PIECE):
        yield part


def _scan(
    detector: Detector, piece: bytes, lines: int, pieces: Pieces, found: dict[tuple[str, int], Candidate]
) -> None:
    result = detector.scan_bytes(piece)
    if result is None:
        return
    pieces.unread.update(result.unread)
    for candidate in result.candidates:
        moved = replace(candidate, line=candidate.line + lines) if lines and not candidate.container else candidate
        found.setdefault((candidate.digest, moved.line), moved)
    pieces.candidates = list(found.values())

"""Recognition of documents in UTF-16 and UTF-32, and their conversion to UTF-8 piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from scanner.detection.findings import Finding, wrapped

_PIECE = 1 << 20
_OVERLAP = 16 << 10
_HEAD = 128
_MARKS = (
    (b"\xff\xfe\0\0", "utf-32-le"),
    (b"\0\0\xfe\xff", "utf-32-be"),
    (b"\xff\xfe", "utf-16-le"),
    (b"\xfe\xff", "utf-16-be"),
)
_SHORT_MARKS = (b"\xff\xfe", b"\xfe\xff")


class WidePiece(NamedTuple):
    """A piece of a UTF-16 or UTF-32 document, converted to UTF-8. `start` is its offset in the document."""

    text: bytes
    codec: str
    start: int

    def outside(self, inner: list[Finding]) -> Iterator[Finding]:
        """Yield the given findings, with offsets in the document instead of offsets in the piece."""
        at = raw = 0
        for finding in sorted(inner, key=lambda found: found.start):
            raw += len(_wide(self.text[at : finding.start], self.codec))
            at = finding.start
            end = raw + len(_wide(self.text[at : finding.end], self.codec))
            encoding = wrapped((self.codec[:6],), finding.encoding)
            yield finding._replace(start=self.start + raw, end=self.start + end, encoding=encoding)


def _wide(text: bytes, codec: str) -> bytes:
    return text.decode("utf-8", "replace").encode(codec, "replace")


def wide_codec(content: bytes) -> str | None:
    """Return the name of the codec if the content is in UTF-16 or UTF-32, otherwise None."""
    if b"\0" not in content[:8] and content[:2] not in _SHORT_MARKS:
        return None
    head = content[:_HEAD]
    for mark, codec in _MARKS:
        if head.startswith(mark):
            return codec
    if len(head) < 16:
        return None
    first, second, third, fourth = (head[place::4].count(0) * 8 >= len(head[place::4]) * 7 for place in range(4))
    return {
        (False, True, False, True): "utf-16-le",
        (True, False, True, False): "utf-16-be",
        (False, True, True, True): "utf-32-le",
        (True, True, True, False): "utf-32-be",
    }.get((first, second, third, fourth))


def wide_pieces(content: bytes, codec: str) -> Iterator[WidePiece]:
    """Yield a document in UTF-16 or UTF-32 as overlapping pieces in UTF-8, of about 1 MB."""
    for start in range(0, len(content), _PIECE):
        raw = content[start : start + _PIECE + _OVERLAP]
        yield WidePiece(raw.decode(codec, "replace").encode("utf-8", "replace"), codec, start)

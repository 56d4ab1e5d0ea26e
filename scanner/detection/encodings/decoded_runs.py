"""The result of decoding a long encoded text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from scanner.detection.encodings.run_streams import RUN_PIECE
from scanner.detection.findings import Finding, Segments, wrapped


class Run(NamedTuple):
    """A long text in base64, hex or another encoding, and the bytes that it encodes."""

    decoded: bytes
    encoding: str
    start: int
    raw: bytes

    def outside(self, inner: list[Finding]) -> Iterator[Finding]:
        """Yield the given findings, with offsets in the content instead of offsets in the decoded bytes."""
        segments = self._segments() if inner and self.encoding in ("base64", "hex") else None
        for finding in inner:
            if segments is None or finding.members:
                start, end = self.start, self.start + len(self.raw)
            else:
                start, end = self._span(segments, finding)
            yield finding._replace(start=start, end=end, encoding=wrapped((self.encoding,), finding.encoding))

    def _segments(self) -> Segments:
        raw = self.raw
        pieces = []
        for match in RUN_PIECE.finditer(raw):
            begin, end = match.span()
            # The `n` or `r` of an escaped line break (`\n`, `\r`) looks like a base64 letter. Leave it out.
            if begin and raw[begin - 1] == 0x5C and raw[begin] in b"rn":
                begin += 1
            pieces.append((begin, end))
        return Segments(pieces)

    def _span(self, segments: Segments, finding: Finding) -> tuple[int, int]:
        per_byte = (2, 1) if self.encoding == "hex" else (4, 3)
        first = finding.start * per_byte[0] // per_byte[1]
        last = max(first, -(-finding.end * per_byte[0] // per_byte[1]) - 1)
        return self.start + segments.origin(first), self.start + segments.origin(last) + 1

"""Reader of PNG pictures in base64. It decodes the text chunks and skips the pixels."""

from __future__ import annotations

import binascii
from typing import NamedTuple

PNG = b"\x89PNG\r\n\x1a\n"
_START = b"iVBORw0KGgo"
TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP")
"""The types of the chunks of a picture that may contain text."""

MAX_CHUNKS = 20_000
"""The maximum number of chunks in one picture. Programs write pixels in chunks of 8 kB and more."""

_MAX_LINE_LENGTH = 1024
_HEADER_BYTES = 8
_CHECKSUM_BYTES = 4


class Picture(NamedTuple):
    """A PNG picture that is written in base64. `end` is the offset after the picture."""

    end: int
    texts: bytes
    chunks: int


def picture_at(
    content: bytes, begin: int, *, chunks: int = MAX_CHUNKS, text_bytes: int | None = None
) -> Picture | None:
    """Return the PNG picture whose base64 begins at offset `begin`, or None if it is invalid or exceeds a limit."""
    if not content.startswith(_START, begin):
        return None
    letters = _Letters(content, begin)
    pieces = [PNG]
    at = len(PNG)
    for number in range(chunks):
        header = letters.bytes_at(at, _HEADER_BYTES)
        size, kind = int.from_bytes(header[:4], "big"), header[4:]
        if len(kind) < 4 or not kind.isalpha():
            return None
        following = at + _HEADER_BYTES + size + _CHECKSUM_BYTES
        if kind in TEXTS:
            if text_bytes is not None:
                text_bytes -= size
                if text_bytes < 0:
                    return None
            chunk = letters.bytes_at(at, following - at)
            if binascii.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:], "big"):
                return None
            pieces.append(chunk)
        elif kind == b"IEND":
            return Picture(letters.end_of(following), b"".join(pieces), number + 1)
        at = following
    return None


class _Letters:
    """A base64 text in lines of equal length, of which any part can be decoded."""

    def __init__(self, content: bytes, begin: int) -> None:
        self._content, self._begin = content, begin
        # Without a line break near the beginning, assume that the base64 text is one long line.
        head = content[begin : begin + _MAX_LINE_LENGTH]
        ends = [end for end in map(head.find, (b"\r", b"\n", b"\\")) if end >= 0]
        self._line = min(ends, default=len(content))
        rest = head[self._line :]
        breaks = (b"\r\n", b"\n", b"\\r\\n", b"\\n")
        self._break = next((len(one) for one in breaks if rest.startswith(one)), 0)

    def _place(self, letter: int) -> int:
        return self._begin + letter + letter // self._line * self._break

    def bytes_at(self, start: int, size: int) -> bytes:
        """Return `size` decoded bytes from offset `start` on, or fewer at the end."""
        first = start // 3 * 4
        last = -(-(start + size) // 3) * 4
        part = self._content[self._place(first) : self._place(last)]
        if b"\\" in part:
            part = part.replace(b"\\r", b"").replace(b"\\n", b"")
        try:
            decoded = binascii.a2b_base64(part)
        except binascii.Error:
            return b""
        skipped = start - first // 4 * 3
        return decoded[skipped : skipped + size]

    def end_of(self, size: int) -> int:
        """Return the offset in the content after the base64 letters of the first `size` bytes."""
        return min(self._place(-(-size // 3) * 4), len(self._content))

"""Decoder of compressed streams that are written in hexadecimal digits."""

from __future__ import annotations

import re
import zlib

import regex

from scanner.detection.encodings.encoded_lines import EncodedLines
from scanner.detection.limits import Meter

STREAM_STARTS = frozenset((b"1f", b"78"))
"""The first two bytes of the streams below. No compressed stream in base64 begins with these bytes."""
MAX_STREAM_BYTES = 16 << 20
"""Bytes of one stream that are decoded. The rest of a longer stream is not decoded."""
_MIN_BYTES = 33
"""Minimum bytes of a stream.

A SHA-256 hash has one byte less. A stream with a token of 24 random letters has at least this many bytes, because
random letters cannot be compressed.
"""
_FIRST_LETTERS = 64
"""Letters that are decoded first. They refute most streams, at a small part of the cost of a whole head."""
_HEAD_LETTERS = 1024
_FIRST_STEPS, _HEAD_STEPS = 1_500, 5_000
"""Steps of ten nanoseconds charged for the first letters and for a head, as measured on repeated needles."""
_PROOF_BYTES = 512
"""Bytes that a stream must inflate to, unless it ends earlier. If they are text, fewer bytes are enough."""
_MIN_TEXT = 64
_TEXT = bytes((*b"\b\t\n\f\r\x1b", *range(0x20, 0x7F), *range(0x80, 0x100)))

_HEX = regex.compile(
    rb"(?:(?:[0-9A-Fa-f]{2})++|(?:\r?\n[ \t]*+|\\\r?\n|\\+[nr]|[\"'][\s+.,\\]{0,80}[\"'])(?=[0-9A-Fa-f]{2}))++"
)
_ESCAPED_BREAK = re.compile(rb"\\+[nr]")
_NO_DIGITS = bytes(byte for byte in range(256) if byte not in b"0123456789abcdefABCDEF")


def encoded_stream_at(content: bytes, begin: int, *, inflate: bool, meter: Meter | None = None) -> EncodedLines | None:
    """Return the compressed stream that is written in hexadecimal digits at `begin`, or None if there is none.

    The returned bytes are still compressed.

    Args:
        content: The bytes to search.
        begin: The offset of the first digit.
        inflate: Whether to test that the beginning can be decompressed. If not, only the length is tested.
        meter: Counts the work done for the document.

    Raises:
        LimitReachedError: the document has used up its limit on work.
    """
    _spend(meter, _FIRST_STEPS)
    if inflate and _begins_stream(_decoded(content, begin, _FIRST_LETTERS)) is None:
        return None
    _spend(meter, _HEAD_STEPS)
    head = _decoded(content, begin, _HEAD_LETTERS)
    if len(head) < _MIN_BYTES or (inflate and not _begins_stream(head)):
        return None
    whole = _HEX.match(content, begin, begin + 2 * MAX_STREAM_BYTES)
    if whole is None:
        return None
    is_cut = whole.end() == begin + 2 * MAX_STREAM_BYTES
    return EncodedLines(bytes.fromhex(_digits(whole[0]).decode()), "hex", whole.end(), is_cut=is_cut)


def _spend(meter: Meter | None, steps: int) -> None:
    if meter is not None:
        meter.spend(steps)


def _decoded(content: bytes, begin: int, letters: int) -> bytes:
    """Return the bytes that the hexadecimal digits in `content[begin:begin + letters]` encode."""
    head = _HEX.match(content, begin, begin + letters)
    return bytes.fromhex(_digits(head[0]).decode()) if head is not None else b""


def _digits(letters: bytes) -> bytes:
    digits = _ESCAPED_BREAK.sub(b"", letters).translate(None, _NO_DIGITS)
    return digits[: len(digits) // 2 * 2]


def _begins_stream(head: bytes) -> bool | None:
    """Return whether a compressed stream begins with `head`.

    Returns:
        True if it does, False if `head` is too short to tell, None if no stream begins with these bytes.
    """
    inflater = zlib.decompressobj(47)
    try:
        output = inflater.decompress(head, _PROOF_BYTES)
    except zlib.error:
        return None
    is_text = len(output) >= _MIN_TEXT and not output.translate(None, _TEXT)
    return inflater.eof or len(output) == _PROOF_BYTES or is_text

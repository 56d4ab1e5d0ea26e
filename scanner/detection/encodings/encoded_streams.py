"""Decoder of compressed streams that are written as text, for example `\\x1f\\x8b` or `0x1f, 0x8b`."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from typing import NamedTuple

import regex

from scanner.detection.encodings.encoded_lines import EncodedLines
from scanner.detection.limits import Meter

STREAM_STARTS = frozenset((b"1f", b"1F", b"78", b"\\x", b"x\\", b"0x", b"31"))
"""The first two bytes of compressed streams in other notations than base64, such as hexadecimal digits (`1f`)."""
MAX_STREAM_BYTES = 16 << 20
"""The maximum number of bytes of one stream that are decoded."""
_MIN_BYTES = 33
"""The minimum size of a stream in bytes, which is more than the size of a SHA-256 hash."""
_FIRST_LETTERS = 64
"""How many letters are decoded for the first test whether a compressed stream begins."""
_HEAD_LETTERS = 1024
_FIRST_STEPS, _HEAD_STEPS = 5_500, 5_000
"""Decoding `_FIRST_LETTERS` counts as the first number of steps, and decoding `_HEAD_LETTERS` as the second."""
_PROOF_BYTES = 512
"""Data counts as a compressed stream only if it decompresses to this many bytes, or to text, or ends earlier."""
_MIN_TEXT = 64
_TEXT = bytes((*b"\b\t\n\f\r\x1b", *range(0x20, 0x7F), *range(0x80, 0x100)))

_HEX = regex.compile(
    rb"(?:(?:[0-9A-Fa-f]{2})++|(?:\r?\n[ \t]*+|\\\r?\n|\\+[nr]|[\"'][\s+.,\\]{0,80}[\"'])(?=[0-9A-Fa-f]{2}))++"
)
_DECIMAL_LIST = regex.compile(rb"(?:-?[0-9]{1,3}(?:\s{0,40}+,\s{0,40}+|[ ]|(?![0-9])))++")
_DECIMAL_NUMBER = re.compile(rb"-?[0-9]{1,3}")
_ESCAPED_BREAK = re.compile(rb"\\+[nr]")
_NO_DIGITS = bytes(byte for byte in range(256) if byte not in b"0123456789abcdefABCDEF")
_LIST = regex.compile(rb"(?:0x[0-9A-Fa-f]{1,2}(?:\s{0,40}+,\s{0,40}+|(?![0-9A-Fa-f])))++")
_NUMBER = re.compile(rb"0x([0-9A-Fa-f]{1,2})")
_ONLY_HEX_ESCAPES = re.compile(rb"(?:\\x[0-9A-Fa-f]{2})*+")
_NAMED_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}


class _Writing(NamedTuple):
    """A way to write bytes as text, for example in hexadecimal digits."""

    name: str
    pattern: regex.Pattern[bytes]
    decode: Callable[[bytes], bytes]


def _from_digits(letters: bytes) -> bytes:
    digits = _ESCAPED_BREAK.sub(b"", letters).translate(None, _NO_DIGITS)
    return bytes.fromhex(digits[: len(digits) // 2 * 2].decode())


def _from_list(numbers: bytes) -> bytes:
    return bytes(int(number, 16) for number in _NUMBER.findall(numbers))


def _from_decimal_list(numbers: bytes) -> bytes:
    return bytes(int(number) & 0xFF for number in _DECIMAL_NUMBER.findall(numbers))


def _literal(quote: bytes) -> _Writing:
    """Return the pattern and the decoder for string literals with this quotation mark."""
    # The joint between two string literals, for example in `"a" "b"` or `"a" + "b"`.
    joint = rb"%b\s{0,40}+\+?\\?\s{0,40}+b?%b" % (quote, quote)
    escape = re.compile(rb"\\(?:x([0-9A-Fa-f]{2})|([0-7]{1,3})|\r?\n|(.))|" + joint, re.DOTALL)

    def value(match: re.Match[bytes]) -> bytes:
        digits, octal, letter = match.groups()
        if digits is not None:
            return bytes.fromhex(digits.decode())
        if octal is not None:
            return bytes((int(octal, 8) & 0xFF,))
        return _NAMED_ESCAPES.get(letter, letter) if letter is not None else b""

    def decode(text: bytes) -> bytes:
        if _ONLY_HEX_ESCAPES.fullmatch(text):
            return bytes.fromhex(text.replace(b"\\x", b"").decode())
        return escape.sub(value, text)

    # A text may be cut off inside an escape, so the pattern accepts complete escapes only.
    pattern = rb"(?s:[^%b\\\r\n]|\\(?:x[0-9A-Fa-f]{2}|[0-7]{1,3}|\r?\n|[^x0-7\r])|%b)++" % (quote, joint)
    return _Writing("hex-escape", regex.compile(pattern), decode)


_DIGITS_WRITING = _Writing("hex", _HEX, _from_digits)
_LIST_WRITING = _Writing("hex-list", _LIST, _from_list)
_DECIMAL_WRITING = _Writing("decimal-list", _DECIMAL_LIST, _from_decimal_list)
_LITERALS = {quote: _literal(quote) for quote in (b'"', b"'")}


def _writing_at(content: bytes, begin: int) -> _Writing | None:
    """Return how the stream at offset `begin` is written, for example in hexadecimal digits, or None if unknown."""
    start = content[begin : begin + 2]
    if start == b"0x":
        return _LIST_WRITING
    if start in (b"1f", b"1F", b"78"):
        return _DIGITS_WRITING
    if start == b"31":
        return _DECIMAL_WRITING
    return _LITERALS.get(content[begin - 1 : begin])


def encoded_stream_at(content: bytes, begin: int, *, inflate: bool, meter: Meter | None = None) -> EncodedLines | None:
    """Return the compressed stream that is written as text at `begin`, or None if there is none.

    Args:
        inflate: Whether to test that the stream's beginning can be decompressed.
    """
    writing = _writing_at(content, begin)
    if writing is None:
        return None
    _spend(meter, _FIRST_STEPS)
    if inflate and _begins_stream(_head(content, begin, _FIRST_LETTERS, writing)) is None:
        return None
    _spend(meter, _HEAD_STEPS)
    head = _head(content, begin, _HEAD_LETTERS, writing)
    if len(head) < _MIN_BYTES or (inflate and not _begins_stream(head)):
        return None
    most = 2 * MAX_STREAM_BYTES
    whole = writing.pattern.match(content, begin, begin + most)
    if whole is None:
        return None
    return EncodedLines(writing.decode(whole[0]), writing.name, whole.end(), is_cut=whole.end() == begin + most)


def _spend(meter: Meter | None, steps: int) -> None:
    if meter is not None:
        meter.spend(steps)


def _head(content: bytes, begin: int, letters: int, writing: _Writing) -> bytes:
    """Return the bytes that `content[begin:begin + letters]` encodes."""
    head = writing.pattern.match(content, begin, begin + letters)
    return writing.decode(head[0]) if head is not None else b""


def _begins_stream(head: bytes) -> bool | None:
    """Return True if a compressed stream begins with `head`, None if not, and False if `head` is too short to tell."""
    inflater = zlib.decompressobj(47)
    try:
        output = inflater.decompress(head, _PROOF_BYTES)
    except zlib.error:
        return None
    is_text = len(output) >= _MIN_TEXT and not output.translate(None, _TEXT)
    return inflater.eof or len(output) == _PROOF_BYTES or is_text

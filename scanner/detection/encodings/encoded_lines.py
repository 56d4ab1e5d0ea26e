"""Decoder of uuencoded blocks and of git's binary patches."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

import regex

LINE_STARTS = frozenset((b"be", b"li", b"de"))
"""The first two letters of the headers `begin`, `literal` and `delta`. No stream in base64 begins with them."""

MAX_BLOCK_BYTES = 16 << 20
"""The maximum number of bytes to decode of one uuencoded block or git patch."""

_MAX_LINE = 90
_UU_HEADER = regex.compile(rb"begin [0-7]{3,4} [^\r\n]{1,255}\r?\n")
_UU_LINES = regex.compile(rb"(?:[!-`][ -`]{1,84}\r?\n)++")
_PATCH_HEADER = regex.compile(rb"(?:literal|delta) [0-9]{1,12}\n")
_PATCH_LINES = regex.compile(rb"(?:[A-Za-z][0-9A-Za-z!#$%&()*+;<=>?@^_`{|}~-]{5,65}\n)++")


class EncodedLines(NamedTuple):
    """The decoded bytes of a uuencoded block, a binary patch or a dump. `end` is the offset after the encoded text.

    `is_cut` says whether only the beginning was decoded.
    """

    decoded: bytes
    encoding: str
    end: int
    is_cut: bool = False


def lines_at(content: bytes, begin: int) -> EncodedLines | None:
    """Return the decoded uuencoded block or git patch whose header begins at `begin`, or None if there is none."""
    for header, lines, decode, name in (
        (_UU_HEADER, _UU_LINES, _uudecoded, "uuencode"),
        (_PATCH_HEADER, _PATCH_LINES, _patch_decoded, "git-patch"),
    ):
        head = header.match(content, begin)
        if head is None:
            continue
        block = lines.match(content, head.end(), head.end() + MAX_BLOCK_BYTES)
        if block is not None:
            decoded = b"".join(decode(line) for line in block[0].splitlines())
            is_cut = len(block[0]) > MAX_BLOCK_BYTES - _MAX_LINE
            return EncodedLines(decoded, name, block.end(), is_cut=is_cut)
    return None


def _uudecoded(line: bytes) -> bytes:
    """Return the bytes that one uuencoded line encodes."""
    try:
        return binascii.a2b_uu(line)
    except binascii.Error:
        # Decode only as many letters as the bytes require, because programs pad lines in different ways.
        size = (line[0] - 32) & 63
        return _padded(line, size)


def _padded(line: bytes, size: int) -> bytes:
    letters = -(-size // 3) * 4
    try:
        return binascii.a2b_uu(line[: 1 + letters].ljust(1 + letters))
    except binascii.Error:
        return b""


def _patch_decoded(line: bytes) -> bytes:
    """Return the bytes that one line of a git binary patch encodes (git's `base85.c`)."""
    size = line[0] - 64 if line[0] < 97 else line[0] - 70
    try:
        return base64.b85decode(line[1 : 1 + len(line[1:]) // 5 * 5])[:size]
    except ValueError:
        return b""

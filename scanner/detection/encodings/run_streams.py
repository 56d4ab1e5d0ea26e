"""Decoding of long base64 texts, and a test whether they contain a compressed stream."""

from __future__ import annotations

import binascii
import zlib

import regex

from scanner.detection.containers.recognition import container_kind
from scanner.detection.containers.zip_ends import is_local_header

BASE64_LETTERS = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
RUN_PIECE = regex.compile(rb"[0-9A-Za-z+/_-]++")
PROOF_BYTES = 64
"""Data counts as a compressed stream only if it decompresses to this many bytes, or ends earlier."""

_MIN_STREAM_LENGTH = 24
_OTHER_MAGICS = (
    b"\x28\xb5\x2f\xfd",
    b"\xfd7zXZ\0",
    b"7z\xbc\xaf\x27\x1c",
    b"\x04\x22\x4d\x18",
    b"LZIP\x01",
    *(b"BZh%d1AY&SY" % level for level in range(1, 10)),
)
_OTHER_STREAMS = frozenset(magic[:2] for magic in _OTHER_MAGICS)
_FROM_URL = bytes.maketrans(b"-_", b"+/")
_NO_LETTERS = bytes(byte for byte in range(256) if byte not in BASE64_LETTERS)


def decoded_base64(raw: bytes) -> bytes:
    """Return the bytes that a base64 text encodes, in the standard or the URL-safe alphabet.

    Other characters are ignored.
    """
    if b"\\" in raw:
        # Remove escaped line breaks. If one has two backslashes, `translate` removes the second one below.
        raw = raw.replace(b"\\n", b"").replace(b"\\r", b"")
    letters = raw.partition(b"=")[0].translate(_FROM_URL, _NO_LETTERS)
    rest = len(letters) % 4
    return binascii.a2b_base64(letters[:-1] if rest == 1 else letters + b"=" * (-rest % 4))


def begins_stream(head: bytes, *, inflate: bool, proof: int = PROOF_BYTES) -> bool | None:
    """Return whether a compressed stream or archive begins in `head`, or None if `head` is too short to tell.

    Args:
        inflate: Whether to test that a zlib or gzip stream can be decompressed.
        proof: The number of bytes that the test must decompress, unless the stream ends earlier.
    """
    if head[:4] == b"H4sI":
        letters = RUN_PIECE.match(head)
        inner = decoded_base64(letters[0]) if letters is not None else b""
        return begins_stream(inner, inflate=inflate, proof=proof)
    if head[:4] == b"PK\x03\x04":
        return is_local_header(head, 0)
    if head[:3] == b"]\0\0":
        return len(head) >= _MIN_STREAM_LENGTH and container_kind(head) == "lzma"
    if head[:2] in _OTHER_STREAMS:
        return len(head) >= _MIN_STREAM_LENGTH and head.startswith(_OTHER_MAGICS)
    if len(head) < _MIN_STREAM_LENGTH or (head[:3] == b"\x1f\x8b\x08" and head[3] & 0xE0):
        return False
    if not inflate:
        return True
    try:
        stream = zlib.decompressobj(47)
        inflated = stream.decompress(head, proof)
    except zlib.error:
        return False
    return stream.eof or len(inflated) == proof or None

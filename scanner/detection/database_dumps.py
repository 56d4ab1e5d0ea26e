"""Readers of the compressed values in dumps of databases: Redis (`dump.rdb`) and PostgreSQL (`pg_dump -Fc`).

Both formats store short values uncompressed, and those are found in the dump's own bytes. The readers therefore look
for compressed values only and parse no row types.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from scanner.detection.lz_blocks import lzf_block
from scanner.detection.members import Container, Member, UnreadableError, whole

_LZF = b"\xc3"
# Redis compresses only strings of more than 20 bytes, and keeps the result only if it is shorter by 4.
_MIN_LZF_BYTES = 20
_MAX_LZF_RATIO = 264
# Testing one possible start costs as much as decoding this many codes.
_STEPS_PER_START = 16
# A chunk of `pg_dump`: a sign, four bytes of its length, and the start of a zlib, Zstandard or LZ4 stream.
_FIRST_CHUNK = re.compile(rb"\0(.{4})(?=x[\x01\x5e\x9c\xda]|\x28\xb5\x2f\xfd|\x04\x22\x4d\x18)", re.DOTALL)


def redis_members(container: Container) -> Iterator[Member]:
    """Yield the decompressed LZF strings of a Redis dump.

    Each begins with the byte 0xC3, its compressed length and its plain length: https://rdb.fnordig.de/file_format.html.
    Bytes that do not decode to exactly the plain length are not such a string and are skipped.
    """
    content = whole(container)
    at = content.find(_LZF)
    while at >= 0:
        packed, begin = _length(content, at + 1)
        plain, begin = _length(content, begin)
        if packed + 4 <= plain <= packed * _MAX_LZF_RATIO and plain > _MIN_LZF_BYTES and begin + packed <= len(content):
            container.meter.step(_STEPS_PER_START)
            try:
                value = lzf_block(content, container.meter, begin, begin + packed)
            except UnreadableError:
                value = b""
            if len(value) == plain:
                container.meter.enter()
                yield Member("value", value, encoding="lzf")
                at = begin + packed - 1
        at = content.find(_LZF, at + 1)


def _length(content: bytes, at: int) -> tuple[int, int]:
    """Return a length in Redis encoding and the offset after it. The length is 0 if the bytes are not a length."""
    first = content[at : at + 1]
    if not first or first[0] >= 0xC0:
        return 0, at + 1
    kind = first[0] >> 6
    if kind == 0:
        return first[0], at + 1
    if kind == 1:
        return int.from_bytes(content[at : at + 2], "big") & 0x3FFF, at + 2
    size = 4 if first[0] == 0x80 else 8
    return int.from_bytes(content[at + 1 : at + 1 + size], "big"), at + 1 + size


def postgresql_members(container: Container) -> Iterator[Member]:
    """Yield the compressed data of each table, joined from its chunks."""
    content = whole(container)
    match = _FIRST_CHUNK.search(content)
    while match:
        chunks, at = _chunks(content, match.start())
        if chunks:
            container.meter.enter()
            yield Member("data", b"".join(chunks))
        match = _FIRST_CHUNK.search(content, max(at, match.start() + 1))


def _chunks(content: bytes, at: int) -> tuple[list[bytes], int]:
    """Return the chunks up to the chunk of length zero, and the offset after them."""
    chunks: list[bytes] = []
    while at + 5 <= len(content) and content[at] == 0:
        size = int.from_bytes(content[at + 1 : at + 5], "little")
        at += 5
        if size == 0 or at + size > len(content):
            break
        chunks.append(content[at : at + size])
        at += size
    return chunks, at

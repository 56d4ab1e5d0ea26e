"""Readers of the compressed values in database dumps: Redis (`dump.rdb`) and PostgreSQL (`pg_dump -Fc`)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from scanner.detection.containers.lz_blocks import lzf_block
from scanner.detection.containers.members import Container, Member, UnreadableError, whole

_LZF = b"\xc3"
# Redis compresses only strings of more than 20 bytes, and only if that saves at least 4 bytes.
_MAX_PLAIN_BYTES = 20
_MAX_LZF_RATIO = 264
# Testing one offset costs as much as decoding this many LZF codes.
_STEPS_PER_START = 16
# The beginning of a PostgreSQL table's data: a sign byte, four bytes of length, and the magic number of a compression.
_FIRST_CHUNK = re.compile(rb"\0(.{4})(?=x[\x01\x5e\x9c\xda]|\x28\xb5\x2f\xfd|\x04\x22\x4d\x18)", re.DOTALL)


def redis_members(container: Container) -> Iterator[Member]:
    """Yield the strings of a Redis dump that are compressed with LZF.

    The format: https://rdb.fnordig.de/file_format.html.
    """
    content = whole(container)
    at = content.find(_LZF)
    while at >= 0:
        packed, begin = _length(content, at + 1)
        plain, begin = _length(content, begin)
        if (
            packed + 4 <= plain <= packed * _MAX_LZF_RATIO
            and plain > _MAX_PLAIN_BYTES
            and begin + packed <= len(content)
        ):
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
    """Return the encoded length at offset `at` (0 if there is none), and the offset after it."""
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
    """Yield the decompressed data of each table of a PostgreSQL dump."""
    content = whole(container)
    match = _FIRST_CHUNK.search(content)
    while match:
        chunks, at = _chunks(content, match.start())
        if chunks:
            container.meter.enter()
            yield Member("data", b"".join(chunks))
        match = _FIRST_CHUNK.search(content, max(at, match.start() + 1))


def _chunks(content: bytes, at: int) -> tuple[list[bytes], int]:
    """Return the data chunks of the table at offset `at`, and the offset after them."""
    chunks: list[bytes] = []
    while at + 5 <= len(content) and content[at] == 0:
        size = int.from_bytes(content[at + 1 : at + 5], "little")
        at += 5
        if size == 0 or at + size > len(content):
            break
        chunks.append(content[at : at + size])
        at += size
    return chunks, at

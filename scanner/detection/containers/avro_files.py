"""Reader of Avro files, which contain a schema and compressed blocks of records.

Format: https://avro.apache.org/docs/1.12.0/specification/#object-container-files.
"""

from __future__ import annotations

from collections.abc import Iterator

from scanner.detection.containers import decompressors
from scanner.detection.containers.compressed import Inflated
from scanner.detection.containers.lz_blocks import snappy_block
from scanner.detection.containers.members import Container, Member, UnreadableError, whole

MAGIC = b"Obj\x01"
_MAX_METADATA = 1000
_CODECS = {
    b"deflate": decompressors.deflate_codec,
    b"bzip2": decompressors.bzip2_codec,
    b"xz": decompressors.xz_codec,
    b"zstandard": decompressors.zstd_codec,
}


class _Cursor:
    """A read position in the file."""

    def __init__(self, content: bytes, at: int) -> None:
        self.content, self.at = content, at

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.content) - self.at:
            raise UnreadableError("damaged")
        self.at += size
        return self.content[self.at - size : self.at]

    def number(self) -> int:
        """Read and return the next integer, which is in zigzag encoding."""
        value = shift = 0
        while shift < 70:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
        raise UnreadableError("damaged")


def avro_members(container: Container) -> Iterator[Member]:
    """Yield the decompressed records of each block of the Avro file."""
    content, meter = whole(container), container.meter
    cursor = _Cursor(content, len(MAGIC))
    codec = _codec_of(cursor)
    marker = cursor.take(16)
    number = 0
    while cursor.at < len(content):
        meter.enter()
        cursor.number()
        block = cursor.take(cursor.number())
        if cursor.take(16) != marker:
            raise UnreadableError("damaged")
        number += 1
        name = f"block {number}"
        if codec in (b"null", b""):
            yield Member(name, block)
        elif codec == b"snappy":
            # Avro appends a checksum of four bytes to each Snappy block.
            yield Member(name, snappy_block(block[:-4], meter))
        elif codec in _CODECS:
            yield Member(name, Inflated(Container(name, block, meter), _CODECS[codec](), single=True))
        else:
            raise UnreadableError("unsupported_compression")


def _codec_of(cursor: _Cursor) -> bytes:
    """Read the file's metadata and return the name of the compression method, or b"" if there is none."""
    codec = b""
    entries = 0
    while (count := cursor.number()) != 0:
        if count < 0:
            cursor.number()
            count = -count
        entries += count
        if entries > _MAX_METADATA:
            raise UnreadableError("damaged")
        for _ in range(count):
            key = cursor.take(cursor.number())
            value = cursor.take(cursor.number())
            if key == b"avro.codec":
                codec = value
    return codec

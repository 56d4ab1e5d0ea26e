"""Reader of Blosc chunks, which Zarr stores as files and PyTables stores inside HDF5 files.

The format: https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator

from scanner.detection.containers.lz_blocks import blosclz_block, lz4_block, snappy_block
from scanner.detection.containers.members import Container, Member, UnreadableError, whole
from scanner.detection.limits import Meter

_MAGIC = b"\x02\x01"
_HEADER = struct.Struct("<BBBBIII")
_MAX_BLOCKS = 1 << 20
_MAX_CHUNKS_TRIED = 20_000
_IS_SHUFFLED, _IS_COPY, _HAS_BITS_SHUFFLED, _IS_NOT_SPLIT = 1, 2, 4, 16
_ZLIB, _ZSTD = 3, 4
_LZ_CODECS = (blosclz_block, lz4_block, snappy_block)
_MAX_PARTS = 16
_MIN_PART_BYTES = 128
"""A block is divided into parts only if each part has at least this many bytes."""
# Compression may make data larger by at most this many bytes.
_MAX_PART_OVERHEAD = 1024
_FILTERS = (b"blosc", b"BLOSC", b"shuffle\0", b"lzf\0", b"szip\0")
_UNREAD_FILTERS = (b"lzf\0", b"szip\0")
# An HDF5 file pads the name of the shuffle filter to eight bytes. The size of an element follows.
_SHUFFLE = re.compile(rb"shuffle\0(..)\0\0", re.DOTALL)
_MAX_SIZES = 8
_HDF5 = b"\x89HDF\r\n\x1a\n"


def is_blosc_chunk(content: bytes) -> bool:
    """Return whether the content is exactly one complete Blosc chunk."""
    return 0 < _chunk_size(content, 0) == len(content)


def _chunk_size(content: bytes, at: int) -> int:
    """Return the size in bytes of the Blosc chunk at offset `at`, or 0 if there is none."""
    if len(content) < at + 20:
        return 0
    version, codec_version, flags, element, plain, block, packed = _HEADER.unpack_from(content, at)
    if (
        (version, codec_version) != (2, 1)
        or not element
        or packed > len(content) - at
        or not 0 < block <= max(plain, 1)
    ):
        return 0
    if flags & _IS_COPY:
        return packed if packed == plain + 16 else 0
    blocks = -(-plain // block)
    first = int.from_bytes(content[at + 16 : at + 20], "little")
    # Threads write the blocks in any order, so the first block may be anywhere after the table of offsets.
    return packed if blocks <= _MAX_BLOCKS and 16 + 4 * blocks <= first < packed else 0


def blosc_members(container: Container) -> Iterator[Member]:
    """Yield the decompressed content of a file that is one Blosc chunk."""
    content = whole(container)
    if not is_blosc_chunk(content):
        raise UnreadableError("damaged")
    yield _decompressed(container, content)


def _decompressed(container: Container, chunk: bytes) -> Member:
    meter = container.meter
    meter.enter()
    _, _, flags, element, plain, block_size, _ = _HEADER.unpack_from(chunk)
    if plain > meter.limits.member_bytes:
        raise UnreadableError("member_size")
    if flags & _IS_COPY:
        return Member("chunk", chunk[_HEADER.size :], encoding="blosc")
    if flags & _HAS_BITS_SHUFFLED:
        raise UnreadableError("unsupported_compression")
    blocks = []
    for number in range(-(-plain // block_size)):
        size = min(block_size, plain - number * block_size)
        start = int.from_bytes(chunk[16 + 4 * number : 20 + 4 * number], "little")
        is_whole = size == block_size and not flags & _IS_NOT_SPLIT
        parts = element if is_whole and element <= _MAX_PARTS and size // element >= _MIN_PART_BYTES else 1
        block = _block(chunk, start, size, parts, flags >> 5, meter)
        blocks.append(unshuffled(block, element) if flags & _IS_SHUFFLED and element > 1 else block)
    return Member("chunk", b"".join(blocks), encoding="blosc")


def _block(chunk: bytes, at: int, size: int, parts: int, codec: int, meter: Meter) -> bytes:
    """Return the decompressed bytes of the block at offset `at` of a Blosc chunk."""
    pieces = []
    part_size = size // max(parts, 1)
    for _ in range(parts):
        meter.step(1)
        packed = int.from_bytes(chunk[at : at + 4], "little")
        if packed > part_size + _MAX_PART_OVERHEAD:
            # In a hostile file, all blocks may refer to the same large range of bytes. Do not copy it for each block.
            raise UnreadableError("damaged")
        part = chunk[at + 4 : at + 4 + packed]
        at += 4 + packed
        if packed == part_size:
            meter.take(packed)
            pieces.append(part)
        else:
            pieces.append(_part(part, part_size, codec, meter))
    return b"".join(pieces)


def _part(part: bytes, size: int, codec: int, meter: Meter) -> bytes:
    if codec in (_ZLIB, _ZSTD):
        import zstandard

        meter.take(size)
        try:
            if codec == _ZLIB:
                return zlib.decompressobj().decompress(part, size)
            if zstandard.frame_content_size(part) <= size:
                return zstandard.ZstdDecompressor().decompress(part, max_output_size=size)
        except (zlib.error, zstandard.ZstdError) as error:
            raise UnreadableError("damaged") from error
        raise UnreadableError("damaged")
    if codec >= len(_LZ_CODECS):
        raise UnreadableError("unsupported_compression")
    return _LZ_CODECS[codec](part, meter)


def embedded_blosc_chunks(container: Container) -> Iterator[Member]:
    """Yield the decompressed content of each Blosc chunk inside a file, for example an HDF5 file."""
    content = whole(container)
    if b"blosc" not in content and b"BLOSC" not in content:
        return
    at = content.find(_MAGIC)
    for _ in range(_MAX_CHUNKS_TRIED):
        if at < 0:
            return
        size = _chunk_size(content, at)
        if size:
            yield _decompressed(container, content[at : at + size])
        at = content.find(_MAGIC, at + max(size, 1))
    container.meter.note("entries")


def has_filters(content: bytes) -> bool:
    """Return whether the content contains the name of the HDF5 filter Blosc, shuffle, LZF or szip."""
    return any(name in content for name in _FILTERS)


def has_unread_filter(content: bytes) -> bool:
    """Return whether the content is an HDF5 file that uses LZF or szip, which cannot be decompressed here."""
    return content.startswith(_HDF5) and any(name in content for name in _UNREAD_FILTERS)


def shuffled_sizes(content: bytes) -> tuple[int, ...]:
    """Return the sizes, in bytes, of the elements to which an HDF5 file applies the shuffle filter, at most eight."""
    if not content.startswith(_HDF5):
        return ()
    sizes = {int.from_bytes(match[1], "little") for match in _SHUFFLE.finditer(content)}
    return tuple(sorted(size for size in sizes if size > 1))[:_MAX_SIZES]


def unshuffled(content: bytes, size: int) -> bytes:
    """Undo HDF5's shuffle filter for elements of `size` bytes. For example, `a1a2b1b2` is shuffled to `aabb1212`."""
    count = len(content) // size
    whole_elements = count * size
    ordered = bytearray(content)
    for byte in range(size):
        ordered[byte:whole_elements:size] = content[byte * count : (byte + 1) * count]
    return bytes(ordered)

"""Readers of files compressed with LZ4, LZO (`lzop`), Snappy or `compress` (`.Z`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from scanner.detection.containers.compressed import inner_name
from scanner.detection.containers.lz_blocks import lz4_block, lzo_block, snappy_block
from scanner.detection.containers.members import (
    Container,
    Member,
    Readable,
    UnreadableError,
    read_up_to,
    readable,
    whole,
)
from scanner.detection.limits import Meter

_LZ4_MAGIC = b"\x04\x22\x4d\x18"
_MAX_LZ4_BLOCK = 4 << 20
_LZ4_WINDOW = 64 << 10
_MAX_LZO_BLOCK = 8 << 20
_LZO_HEADER_CHECKSUM, _LZO_CONTENT_SUMS, _LZO_BLOCK_SUMS = 4, (0x1, 0x100), (0x2, 0x200)
_LZO_EXTRA_FIELD, _LZO_FILTER, _LZO_NEWER = 0x40, 0x800, 0x940
_MAX_SNAPPY_CHUNK = 65_536 + 4096
_MOZILLA_HEADER = 12
_LZW_CLEAR = 256
# The limit on the bytes of all strings in the LZW table, which hostile input could make gigabytes large.
_MAX_LZW_TABLE_BYTES = 32 << 20


class _Pieces:
    """A stream of the bytes that a generator yields. It ends where the data is damaged."""

    def __init__(self, pieces: Iterator[bytes], meter: Meter) -> None:
        self._pieces = pieces
        self._meter = meter
        self._ready = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        while not self._ready:
            try:
                self._ready = memoryview(next(self._pieces))
            except StopIteration:
                return b""
            except UnreadableError as stop:
                self._meter.note(stop.reason)
                self._pieces = iter(())
                return b""
        piece, self._ready = bytes(self._ready[:size]), self._ready[size:]
        return piece


def _stream_member(container: Container, name: str, pieces: Callable[[Readable, Meter], Iterator[bytes]]) -> Member:
    container.meter.enter()
    stream = _Pieces(pieces(readable(container.source), container.meter), container.meter)
    return Member(inner_name(container.name), stream, encoding=name)


def lz4_members(container: Container) -> Iterator[Member]:
    """Yield the decompressed content of an LZ4 file."""
    yield _stream_member(container, "lz4", _lz4_pieces)


def _lz4_pieces(stream: Readable, meter: Meter) -> Iterator[bytes]:
    """Yield the decompressed blocks of an LZ4 file: https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md."""
    while magic := read_up_to(stream, 4):
        kind = int.from_bytes(magic, "little")
        meter.enter()
        if 0x184D2A50 <= kind <= 0x184D2A5F:
            _skip(stream, int.from_bytes(read_up_to(stream, 4), "little"))
            continue
        if magic != _LZ4_MAGIC:
            # No further LZ4 frame begins here, only padding or unrelated bytes.
            return
        flags = read_up_to(stream, 2)
        if len(flags) < 2 or flags[0] >> 6 != 1:
            raise UnreadableError("damaged")
        independent, block_sums, content_sum = flags[0] & 0x20, flags[0] & 0x10, flags[0] & 4
        read_up_to(stream, (8 if flags[0] & 8 else 0) + (4 if flags[0] & 1 else 0) + 1)
        window = b""
        while True:
            field = read_up_to(stream, 4)
            if len(field) < 4:
                raise UnreadableError("damaged")
            size = int.from_bytes(field, "little")
            if size == 0:
                break
            plain, size = size >> 31, size & 0x7FFFFFFF
            if size > _MAX_LZ4_BLOCK:
                raise UnreadableError("damaged")
            block = read_up_to(stream, size)
            if plain:
                meter.step(1)
            content = block if plain else lz4_block(block, meter, window)
            yield content
            if not independent:
                window = (window + content)[-_LZ4_WINDOW:]
            if len(block) < size:
                raise UnreadableError("damaged")
            if block_sums:
                read_up_to(stream, 4)
        if content_sum:
            read_up_to(stream, 4)


def _skip(stream: Readable, size: int) -> None:
    while size and (piece := stream.read(min(size, 1 << 16))):
        size -= len(piece)


def lzop_members(container: Container) -> Iterator[Member]:
    """Yield the decompressed content of a file that the program `lzop` wrote."""
    yield _stream_member(container, "lzo", _lzop_pieces)


def _lzop_pieces(stream: Readable, meter: Meter) -> Iterator[bytes]:
    """Yield the decompressed blocks of an `lzop` file, a format defined by `lzop.c` (https://www.lzop.org)."""
    read_up_to(stream, 9)
    is_newer = _number(stream, 2) >= _LZO_NEWER
    # Skip the version of the library, the version of `lzop` that can read the file, the method and the level.
    read_up_to(stream, 6 if is_newer else 3)
    flags = _number(stream, 4)
    # Skip the filter, the mode and the time in the header of the `lzop` file.
    read_up_to(stream, (4 if flags & _LZO_FILTER else 0) + (12 if is_newer else 8))
    read_up_to(stream, _number(stream, 1) + _LZO_HEADER_CHECKSUM)
    if flags & _LZO_EXTRA_FIELD:
        _skip(stream, _number(stream, 4) + 4)
    while size := _number(stream, 4):
        packed = _number(stream, 4)
        if max(size, packed) > _MAX_LZO_BLOCK or packed > size:
            raise UnreadableError("damaged")
        sums = _LZO_CONTENT_SUMS + (_LZO_BLOCK_SUMS if packed < size else ())
        read_up_to(stream, 4 * sum(bool(flags & one) for one in sums))
        block = read_up_to(stream, packed)
        meter.enter()
        if packed == size:
            meter.take(len(block))
        yield block if packed == size else lzo_block(block, meter)
        if len(block) < packed:
            raise UnreadableError("damaged")


def _number(stream: Readable, size: int) -> int:
    """Read and return a big-endian integer of `size` bytes."""
    field = read_up_to(stream, size)
    if len(field) < size:
        raise UnreadableError("damaged")
    return int.from_bytes(field, "big")


def mozilla_lz4_members(container: Container) -> Iterator[Member]:
    """Yield the content of a file that Firefox compressed with LZ4 (`.jsonlz4`, `.mozlz4`)."""
    content = whole(container)
    container.meter.enter()
    body = lz4_block(content[_MOZILLA_HEADER:], container.meter)
    yield Member(inner_name(container.name), body, encoding="lz4")


def snappy_members(container: Container) -> Iterator[Member]:
    """Yield the decompressed content of a Snappy stream."""
    yield _stream_member(container, "snappy", _snappy_pieces)


def _snappy_pieces(stream: Readable, meter: Meter) -> Iterator[bytes]:
    """Yield the decompressed chunks of a Snappy stream, a format defined by `framing_format.txt` of Snappy."""
    while head := read_up_to(stream, 4):
        kind, size = head[0], int.from_bytes(head[1:], "little")
        if len(head) < 4:
            raise UnreadableError("damaged")
        if kind > 1:
            meter.step(1)
            _skip(stream, size)
            continue
        if size > _MAX_SNAPPY_CHUNK + 4:
            raise UnreadableError("damaged")
        chunk = read_up_to(stream, size)
        if len(chunk) < size or size < 4:
            raise UnreadableError("damaged")
        meter.take(0)
        yield chunk[4:] if kind == 1 else snappy_block(chunk[4:], meter)


def compress_members(container: Container) -> Iterator[Member]:
    """Yield the decompressed content of a `.Z` file, written by the program `compress`."""
    yield _stream_member(container, "compress", _lzw_pieces)


def _lzw_pieces(stream: Readable, meter: Meter) -> Iterator[bytes]:
    """Yield the decompressed bytes of a `.Z` file, which consists of LZW codes of 9 to 16 bits."""
    head = read_up_to(stream, 3)
    if len(head) < 3:
        raise UnreadableError("damaged")
    most_bits, clears = head[2] & 31, bool(head[2] & 128)
    first = 257 if clears else 256
    table: list[bytes] = [bytes((byte,)) for byte in range(256)] + [b""] * (first - 256)
    width, held, previous = 9, 0, b""
    pieces: list[bytes] = []
    size = 0
    # Eight codes of `width` bits fill exactly `width` bytes. When the width changes, the rest of these bytes is
    # padding.
    while group := read_up_to(stream, width):
        bits = int.from_bytes(group, "little")
        meter.step(8)
        for _ in range(len(group) * 8 // width):
            code = bits & ((1 << width) - 1)
            bits >>= width
            if code == _LZW_CLEAR and clears:
                del table[first:]
                width, held, previous = 9, 0, b""
                break
            if code < len(table):
                entry = table[code]
            elif code == len(table) and previous:
                entry = previous + previous[:1]
            else:
                yield b"".join(pieces)
                raise UnreadableError("damaged")
            if previous and len(table) < 1 << most_bits:
                table.append(previous + entry[:1])
                held += len(previous)
                if held > _MAX_LZW_TABLE_BYTES:
                    yield b"".join(pieces)
                    raise UnreadableError("member_size")
            pieces.append(entry)
            size += len(entry)
            previous = entry
            if len(table) > (1 << width) - 1 and width < most_bits:
                width += 1
                break
        if size >= 1 << 16:
            meter.take(size)
            yield b"".join(pieces)
            pieces, size = [], 0
    meter.take(size)
    yield b"".join(pieces)

"""Finder of compressed streams and archives inside binary files of unknown format."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from scanner.detection.containers import decompressors, outlook_texts
from scanner.detection.containers.blosc_chunks import (
    embedded_blosc_chunks,
    has_unread_filter,
    shuffled_sizes,
    unshuffled,
)
from scanner.detection.containers.compressed import Inflated
from scanner.detection.containers.lz_files import lz4_members, snappy_members
from scanner.detection.containers.members import Container, Member, UnreadableError, read_up_to, readable, whole
from scanner.detection.containers.packed_programs import packed_program
from scanner.detection.containers.seven_zip_files import seven_zip_members
from scanner.detection.containers.zip_ends import is_local_header
from scanner.detection.containers.zip_files import zip_members
from scanner.detection.limits import LimitReachedError, Meter

if TYPE_CHECKING:
    from ahocorasick_rs import BytesAhoCorasick

HEAD_BYTES = 4096
"""The number of bytes that are tested for control characters. Content with control characters is binary."""

_TEXT = bytes(range(0x20, 0x100)) + b"\b\t\n\f\r\x1b"
_PROOF_BYTES = 1024
"""A stream is accepted if it decompresses to this many bytes, or ends earlier with a correct checksum."""

_MIN_BYTES_OF_DAMAGED_STREAM = 1024
"""An error before this many decompressed bytes is no damage: the magic number was probably accidental."""

_FIRST_TEXT_BYTES = 256
_MAX_ZSTD_BLOCK = 128 << 10
_LZMA_HEAD = 2048
_GUESS_STEPS = 300
"""Testing one magic number counts as this many steps of work: 3 µs."""
_LZMA_STEPS = 2_000
"""Testing for LZMA counts as this many additional steps of work: 20 µs."""
_QUICK_STEPS = 4 << 20
"""`holds_streams` may do this many steps of work: 40 ms."""

SCRIPT_STARTS = (b"#!", b"<?")
_SEVEN_ZIP, _RAR = b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07"
_ZLIB = (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")
_LZ4, _SNAPPY = b"\x04\x22\x4d\x18", b"\xff\x06\0\0sNaPpY"
# The first bytes of `.lzma` files with the usual properties and dictionary sizes.
_LZMA = (*(b"]\0\0%c\0" % (1 << bit) for bit in range(8)), *(b"]\0\0\0%c" % size for size in (1, 2, 4)))
_MAGICS = (
    *_LZMA,
    *(*_ZLIB, b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"),
    *(_SEVEN_ZIP, _RAR, _LZ4, _SNAPPY, outlook_texts.MAGIC),
)


@cache
def _automaton() -> BytesAhoCorasick:
    from ahocorasick_rs import BytesAhoCorasick, MatchKind

    return BytesAhoCorasick(list(_MAGICS), matchkind=MatchKind.LeftmostFirst)


def holds_streams(content: bytes) -> bool:
    """Return whether the content may contain a compressed stream or archive at any offset.

    Also return True if the test reaches its limit.
    """
    if _is_raw_deflate(content) or packed_program(content) is not None:
        return True
    left = _QUICK_STEPS

    def spend(steps: int) -> None:
        nonlocal left
        left -= steps
        if left < 0:
            raise LimitReachedError("work")

    try:
        return any(_begins(content, start, magic, spend) for start, magic in _magics(content))
    except LimitReachedError:
        return True


def is_binary(content: bytes) -> bool:
    """Return whether the beginning of the content, or the end of a script, has bytes that do not occur in text."""
    head = content[:HEAD_BYTES]
    # Test the end of a script as well, because an archive may follow the script of an installer.
    return bool(head.translate(None, _TEXT)) or (
        head[:2] in SCRIPT_STARTS and bool(content[-HEAD_BYTES:].translate(None, _TEXT))
    )


def embedded_members(container: Container) -> Iterator[Member]:
    """Yield each compressed stream in binary content. If there is a zip or 7z archive, yield its members and stop."""
    content, meter = whole(container), container.meter
    if _is_raw_deflate(content):
        meter.enter()
        yield Member(container.name, _inflated(content, 0, b"", container))
        return
    yield from embedded_blosc_chunks(container)
    sizes = shuffled_sizes(content)
    at = 0
    for start, magic in _magics(content):
        if start < at or not _begins(content, start, magic, meter.spend):
            continue
        meter.enter()
        if magic == b"PK\x03\x04":
            yield from zip_members(Container(container.name, content[start:], meter), is_part=True)
            break
        if magic == _RAR:
            raise UnreadableError("unsupported_container:rar")
        if magic == _SEVEN_ZIP:
            yield from seven_zip_members(Container(container.name, content[start:], meter))
            break
        if magic == outlook_texts.MAGIC:
            text, at = outlook_texts.text_at(content, start, meter)
            yield Member(f"stream at {start:#x}", text)
            continue
        damaged = meter.unread["damaged"]
        expanded = meter.expanded
        tail = _Tail(content, start)
        if magic in (_LZ4, _SNAPPY):
            reader, unused = (lz4_members, len(_LZ4)) if magic == _LZ4 else (snappy_members, 0)
            (member,) = reader(Container(container.name, tail, meter))
            yield member._replace(name=f"stream at {start:#x}")
        else:
            stream = _inflated(content, start, magic, container, tail)
            yield from _with_shuffled(Member(f"stream at {start:#x}", stream), sizes, meter)
            unused = stream.unused
        is_short = meter.expanded - expanded < _MIN_BYTES_OF_DAMAGED_STREAM
        is_text = _begins_with_text(content, start) if magic in _ZLIB else magic not in _LZMA
        if is_short or not is_text:
            meter.unread["damaged"] = damaged
            meter.unread += type(meter.unread)()
        at = max(start + 2, tail.at - unused)
    if has_unread_filter(content):
        raise UnreadableError("unsupported_compression")
    packer = packed_program(content)
    if packer is not None:
        raise UnreadableError(f"unsupported_container:{packer}")


def _with_shuffled(member: Member, sizes: tuple[int, ...], meter: Meter) -> Iterator[Member]:
    """Yield a stream of an HDF5 file unchanged, and then with each possible shuffle filter undone."""
    if not sizes:
        yield member
        return
    content = read_up_to(readable(member.source), meter.limits.member_bytes)
    yield member._replace(source=content)
    for size in sizes:
        if len(content) % size == 0:
            meter.take(len(content))
            yield member._replace(source=unshuffled(content, size))


class _Tail:
    """A stream of the content's bytes from offset `at` to the end."""

    def __init__(self, content: bytes, at: int) -> None:
        self._content = memoryview(content)
        self.at = at

    def read(self, size: int, /) -> bytes:
        piece = bytes(self._content[self.at : self.at + size])
        self.at += len(piece)
        return piece


def _inflated(content: bytes, start: int, magic: bytes, container: Container, tail: _Tail | None = None) -> Inflated:
    if magic in _ZLIB:
        codec = decompressors.zlib_codec()
    elif magic == b"\x1f\x8b\x08":
        codec = decompressors.gzip_codec()
    elif magic == b"BZh":
        codec = decompressors.bzip2_codec()
    elif magic in _LZMA:
        codec = decompressors.lzma_codec()
    elif magic:
        codec = decompressors.xz_codec() if magic[0] == 0xFD else decompressors.zstd_codec()
    else:
        # Do not count a missing end as damage, because the data may be cut off, for example in a link.
        codec = decompressors.deflate_codec()._replace(closed=False)
    source = Container(container.name, tail or _Tail(content, start), container.meter)
    return Inflated(source, codec, single=True)


def _magics(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the offset and the magic number of each possible compressed stream or archive in `content`."""
    view = memoryview(content)
    for base in range(0, len(content), 1 << 20):
        # Search each MiB with the first five bytes of the next one, because a magic number may begin in one and end in
        # the other.
        for index, start, _ in _automaton().find_matches_as_indexes(view[base : base + (1 << 20) + 5]):
            yield base + start, _MAGICS[index]


def _begins(content: bytes, at: int, magic: bytes, spend: Callable[[int], None]) -> bool:
    """Return whether a valid stream or archive with this magic number begins at offset `at`."""
    spend(_GUESS_STEPS)
    head = content[at : at + 64]
    if magic == b"PK\x03\x04":
        return is_local_header(content, at)
    if magic == _SEVEN_ZIP:
        return zlib.crc32(head[12:32]).to_bytes(4, "little") == head[8:12]
    if magic == _RAR:
        return _begins_rar(content[at : at + 160])
    if magic in _LZMA:
        spend(_LZMA_STEPS)
        return _begins_lzma(content, at)
    if magic == b"BZh":
        return head[3:4] in b"123456789" and head[4:10] == b"1AY&SY"
    if magic == _LZ4:
        # In LZ4, the version and the maximum block size follow the magic number. Unassigned bits must be zero.
        return len(head) > 6 and head[4] & 0xC2 == 0x40 and head[5] in (0x40, 0x50, 0x60, 0x70)
    if magic == _SNAPPY:
        return True
    if magic == outlook_texts.MAGIC:
        return outlook_texts.begins_text(content, at)
    if magic[0] == 0xFD:
        return zlib.crc32(head[6:8]).to_bytes(4, "little") == head[8:12]
    if magic[0] == 0x28:
        return _begins_zstd(content, at, spend)
    # Test the first 64 bytes before copying more. Most false magic numbers fail this test.
    return _inflates(head) is not False and bool(_inflates(content[at : at + 2 * _PROOF_BYTES]))


def _begins_lzma(content: bytes, at: int) -> bool:
    """Return whether a `.lzma` stream begins at offset `at`."""
    head = content[at : at + _LZMA_HEAD]
    if len(head) < 18 or head[13] or not (head[5:13] == b"\xff" * 8 or head[10:13] == bytes(3)):
        return False
    codec = decompressors.lzma_codec()
    try:
        decompressor = codec.make()
        output = decompressor.decompress(head, _PROOF_BYTES)
    except codec.errors:
        return False
    return decompressor.eof or len(output) == _PROOF_BYTES


def _begins_zstd(content: bytes, at: int, spend: Callable[[int], None]) -> bool:
    """Return whether a valid Zstandard frame (RFC 8878) without a dictionary begins at offset `at`."""
    head = content[at : at + 32]
    if len(head) < 12 or head[4] & 0x0B:
        return False
    size = 5 + (not head[4] & 0x20) + (head[4] >> 5 & 1, 2, 4, 8)[head[4] >> 6]
    block = int.from_bytes(head[size : size + 3], "little")
    kind, length = block >> 1 & 3, block >> 3
    if kind == 3 or length > _MAX_ZSTD_BLOCK:
        return False
    end = at + size + 3 + (1 if kind == 1 else length)
    spend(min(end, len(content)) - at)
    codec = decompressors.zstd_codec()
    decompressor = codec.make()
    try:
        piece, data = b"", content[at:end]
        while not piece and (data or not decompressor.needs_input):
            piece, data = decompressor.decompress(data, _PROOF_BYTES), b""
    except codec.errors as error:
        # Accept data that needs too much memory, so that it is reported as unsupported.
        return "memory" in str(error) and end <= len(content)
    return True


def _inflates(head: bytes) -> bool | None:
    """Return whether `head` begins with a zlib or gzip stream, or None if it is too short to tell."""
    inflater = zlib.decompressobj(47)
    try:
        inflated = inflater.decompress(head, _PROOF_BYTES)
    except zlib.error:
        return False
    return True if inflater.eof or len(inflated) == _PROOF_BYTES else None


def _begins_with_text(content: bytes, at: int) -> bool:
    """Return whether the beginning of a zlib stream decompresses to text."""
    head = zlib.decompressobj().decompress(content[at : at + 2 * _PROOF_BYTES], _FIRST_TEXT_BYTES)
    return not head.translate(None, _TEXT)


def _is_raw_deflate(content: bytes) -> bool:
    """Return whether the content is text in one deflate stream without a header. Only the first 4 KiB are tested."""
    if len(content) < 16 or content[0] & 6 not in (2, 4):
        return False
    inflater = zlib.decompressobj(-15)
    try:
        text = inflater.decompress(content[:HEAD_BYTES], HEAD_BYTES)
    except zlib.error:
        return False
    is_text = not text.translate(None, _TEXT)
    return is_text and (len(text) >= 256 or (inflater.eof and not inflater.unused_data and len(text) > 39))


def _begins_rar(head: bytes) -> bool:
    """Return whether `head` begins with the magic number and a valid header of RAR."""
    if head[6:7] == b"\0":
        # In RAR version 4, the header begins with half of a checksum over the next eleven bytes.
        return head[9:10] == b"\x73" and zlib.crc32(head[9:20]) & 0xFFFF == int.from_bytes(head[7:9], "little")
    # In RAR version 5, a checksum precedes the header. The first byte of the header is the number of the other bytes.
    size = head[12] if len(head) > 12 else 0
    return (
        head[6:8] == b"\x01\0"
        and 0 < size < 0x80
        and zlib.crc32(head[12 : 13 + size]) == int.from_bytes(head[8:12], "little")
    )

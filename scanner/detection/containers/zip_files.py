"""Reader of zip archives, including archives with a damaged central directory.

The format: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from scanner.detection.containers import decompressors
from scanner.detection.containers.compressed import Inflated
from scanner.detection.containers.members import (
    Bounded,
    Container,
    Member,
    Paid,
    Readable,
    UnreadableError,
    read_up_to,
    shown_name,
    whole,
)
from scanner.detection.containers.zip_ends import directory, is_local_header

_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL_MAGIC, _CENTRAL_MAGIC = b"PK\x03\x04", b"PK\x01\x02"
_MAX_NAME_BYTES = 4096
_STORED, _DEFLATE, _DEFLATE_64, _BZIP2, _LZMA, _ZSTD, _XZ, _AES = 0, 8, 9, 12, 14, 93, 95, 99
_UNKNOWN_32 = 0xFFFFFFFF


class _Entry(NamedTuple):
    """A file in a zip archive. `data` is the offset of its compressed bytes."""

    name: bytes
    flags: int
    method: int
    data: int
    packed_size: int
    checksum: int | None


def zip_members(container: Container, *, is_part: bool = False) -> Iterator[Member]:
    """Yield every file of a zip archive, and the readable part of damaged files.

    Args:
        is_part: Whether the central directory may be missing.
    """
    content = whole(container)
    archive = _Archive(container, content)
    found = directory(content)
    if found is None:
        if not is_part:
            container.meter.note("damaged")
        yield from archive.members_by_local_headers()
        return
    yield from archive.members_by_directory(*found)
    if archive.directory_is_broken:
        container.meter.note("damaged")
        yield from archive.members_by_local_headers()


class _Archive:
    def __init__(self, container: Container, content: bytes) -> None:
        self._container = container
        self._meter = container.meter
        self._content = content
        self._begun: set[int] = set()
        self.directory_is_broken = False

    def members_by_directory(self, begin: int, end: int, in_front: int) -> Iterator[Member]:
        """Yield the files that the central directory in `content[begin:end]` lists."""
        content, at = self._content, begin
        while at < end:
            if not content.startswith(_CENTRAL_MAGIC, at) or at + _CENTRAL.size > end:
                self.directory_is_broken = True
                return
            self._meter.enter()
            fields = _CENTRAL.unpack_from(content, at)
            flags, method = fields[3:5]
            checksum, packed, unpacked, name_size, extra_size, comment_size = fields[7:13]
            names = at + _CENTRAL.size
            offset = fields[16]
            if _UNKNOWN_32 in (packed, unpacked, offset):
                extra = content[names + name_size : names + name_size + extra_size]
                packed, offset = _wide_sizes(extra, unpacked, packed, offset)
            at = names + name_size + extra_size + comment_size
            name = content[names : names + min(name_size, _MAX_NAME_BYTES)]
            data = self._data_of(offset + in_front)
            if data is None:
                self.directory_is_broken = True
                continue
            yield from self._member(_Entry(name, flags, method, data, packed, checksum))

    def _data_of(self, local: int) -> int | None:
        """Return the offset of a file's compressed bytes, or None if there is no local header at offset `local`."""
        content = self._content
        if not content.startswith(_LOCAL_MAGIC, local) or local + _LOCAL.size > len(content):
            return None
        self._begun.add(local)
        name_size, extra_size = _LOCAL.unpack_from(content, local)[9:]
        return int(local + _LOCAL.size + name_size + extra_size)

    def members_by_local_headers(self) -> Iterator[Member]:
        """Yield the files that have a local header but are not in the central directory."""
        content = self._content
        at = content.find(_LOCAL_MAGIC)
        while 0 <= at <= len(content) - _LOCAL.size:
            fields = _LOCAL.unpack_from(content, at)
            flags, method, checksum, packed = fields[2], fields[3], fields[6], fields[7]
            name_size, extra_size = fields[9:]
            after = at + 4
            if at not in self._begun and is_local_header(content, at):
                self._meter.enter()
                name = content[at + _LOCAL.size : at + _LOCAL.size + min(name_size, _MAX_NAME_BYTES)]
                data = at + _LOCAL.size + name_size + extra_size
                # If bit 3 is set, the checksum and the sizes come after the data.
                known = not flags & 8
                size = packed if known or method == _STORED else 0
                yield from self._member(_Entry(name, flags, method, data, size, checksum if known else None))
                if method == _STORED:
                    after = max(after, data + packed)
            at = content.find(_LOCAL_MAGIC, after)

    def _member(self, entry: _Entry) -> Iterator[Member]:
        name = entry.name.decode("utf-8" if entry.flags & 0x800 else "cp437", "replace")
        if not entry.name or (entry.name.endswith(b"/") and not entry.packed_size):
            return
        if entry.method == _AES or entry.flags & 0x40:
            self._meter.note("encrypted")
            return
        if entry.flags & 1:
            # Some Android packages set the encryption flag although nothing is encrypted. A right checksum shows this.
            plain = self._plain_in_spite_of_flag(entry)
            if plain is None:
                self._meter.note("encrypted")
            else:
                yield Member(shown_name(name), plain, text_of_markup=True)
            return
        try:
            stream = self._opened(entry)
        except UnreadableError as stop:
            self._meter.note(stop.reason)
            return
        yield Member(shown_name(name), _Checked(stream, entry.checksum, self._container), text_of_markup=True)

    def _opened(self, entry: _Entry) -> Readable:
        """Return a stream of a file's decompressed bytes."""
        stream = io.BytesIO(self._content)
        stream.seek(entry.data)
        packed = Bounded(stream, entry.packed_size or len(self._content))
        if entry.method == _STORED:
            return Paid(self._meter, Bounded(stream, entry.packed_size))
        if entry.method == _LZMA:
            head = read_up_to(packed, 4)
            properties = read_up_to(packed, int.from_bytes(head[2:4], "little"))
            codec = decompressors.raw_lzma(properties)
        elif entry.method in _CODECS:
            codec = _CODECS[entry.method]()
        else:
            raise UnreadableError("unsupported_compression")
        return Inflated(Container("", packed, self._meter), codec, single=True)

    def _plain_in_spite_of_flag(self, entry: _Entry) -> bytes | None:
        try:
            stream = self._opened(entry)
        except UnreadableError:
            return None
        most = self._meter.limits.member_bytes
        # The bytes may be encrypted, so do not count an error here as damage.
        damage = self._meter.unread["damaged"]
        plain = read_up_to(stream, most + 1)
        self._meter.unread["damaged"] = damage
        if not damage:
            del self._meter.unread["damaged"]
        return plain if len(plain) <= most and zlib.crc32(plain) == entry.checksum else None


_CODECS = {
    _DEFLATE: decompressors.deflate_codec,
    _DEFLATE_64: decompressors.deflate64_codec,
    _BZIP2: decompressors.bzip2_codec,
    _ZSTD: decompressors.zstd_codec,
    _XZ: decompressors.xz_codec,
}


class _Checked:
    """A stream of a file's bytes that tests the checksum at the end."""

    def __init__(self, stream: Readable, checksum: int | None, container: Container) -> None:
        self._stream = stream
        self._expected = checksum
        self._sum = 0
        self._meter = container.meter
        self._damage = self._meter.unread["damaged"]

    def read(self, size: int, /) -> bytes:
        piece = self._stream.read(size)
        self._sum = zlib.crc32(piece, self._sum)
        if not piece and size and self._expected is not None:
            # If the decompressor has already counted damage, do not count it a second time.
            if self._sum != self._expected and self._meter.unread["damaged"] == self._damage:
                self._meter.note("damaged")
            self._expected = None
        return piece


def _wide_sizes(extra: bytes, unpacked: int, packed: int, offset: int) -> tuple[int, int]:
    """Return the compressed size of a file in a zip64 archive, and its local header's offset."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            values = iter(struct.unpack_from(f"<{min(size, len(extra) - at - 4) // 8}Q", extra, at + 4))
            if unpacked == _UNKNOWN_32:
                next(values, 0)
            if packed == _UNKNOWN_32:
                packed = next(values, packed)
            if offset == _UNKNOWN_32:
                offset = next(values, offset)
            break
        at += 4 + size
    return packed, offset

"""Readers of archives: zip, tar, 7z, ar (deb), cpio, rpm. Nothing is ever written to disk."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator

from scanner.detection.compressed import raw_deflate
from scanner.detection.members import (
    Bounded,
    Container,
    Member,
    Readable,
    UnreadableError,
    read_up_to,
    readable,
    shown_name,
    whole,
)

_ZIP_END = b"PK\x05\x06"
_ZIP_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_BYTES_PER_ZIP_ENTRY = 46
_LONGEST_NAME = 4096


class _Paid:
    """A stream whose bytes are paid for as they come."""

    def __init__(self, container: Container, stream: Readable) -> None:
        self._meter = container.meter
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        piece = self._stream.read(size)
        self._meter.take(len(piece))
        return piece


def zip_members(container: Container) -> Iterator[Member]:
    """Every file of a zip by its directory, or, where that is missing, by the headers in front of the files."""
    import zipfile

    content = whole(container)
    end = content.rfind(_ZIP_END)
    if end < 0 or len(content) < end + 22:
        yield from _zip_members_without_directory(container, content)
        return
    directory_size = int.from_bytes(content[end + 12 : end + 16], "little")
    if directory_size != 0xFFFFFFFF and directory_size > container.meter.limits.entries * 10 * _BYTES_PER_ZIP_ENTRY:
        raise UnreadableError("entries")
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except (zipfile.BadZipFile, ValueError, struct.error, NotImplementedError):
        yield from _zip_members_without_directory(container, content)
        return
    for entry in archive.infolist():
        container.meter.enter()
        if entry.is_dir():
            continue
        if entry.flag_bits & 1:
            container.meter.note("encrypted")
            continue
        try:
            with archive.open(entry) as stream:
                yield Member(shown_name(entry.filename), _Paid(container, stream), text_of_markup=True)
        except NotImplementedError:
            container.meter.note("unsupported_compression")
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, struct.error):
            container.meter.note("damaged")


def _zip_members_without_directory(container: Container, content: bytes) -> Iterator[Member]:
    """What the local headers of a cut zip lead to; counted as damaged all the same."""
    container.meter.note("damaged")
    at = content.find(b"PK\x03\x04")
    while 0 <= at <= len(content) - _ZIP_LOCAL.size:
        _, _, flags, method, _, _, _, packed, _, name_size, extra_size = _ZIP_LOCAL.unpack_from(content, at)
        container.meter.enter()
        begin = at + _ZIP_LOCAL.size + name_size + extra_size
        name = shown_name(content[at + _ZIP_LOCAL.size :][: min(name_size, _LONGEST_NAME)])
        after = at + 4
        if flags & 1:
            container.meter.note("encrypted")
        elif method == 8:
            stream = io.BytesIO(content)
            stream.seek(begin)
            yield Member(name, raw_deflate(Container(name, stream, container.meter)), text_of_markup=True)
        elif method == 0:
            after = max(after, begin + packed)
            yield Member(name, content[begin : begin + packed], text_of_markup=True)
        at = content.find(b"PK\x03\x04", after)


def tar_members(container: Container) -> Iterator[Member]:
    """Every regular file of a tar, in order, without seeking."""
    import tarfile

    archive = tarfile.open(  # noqa: SIM115 - it owns nothing but the stream it was given
        fileobj=_Seekless(readable(container.source)), mode="r|", errorlevel=0
    )
    for entry in archive:
        container.meter.enter()
        # tarfile keeps every header it has read.
        archive.members = []  # type: ignore[attr-defined]  # not in the stubs
        if entry.isreg():
            stream = archive.extractfile(entry)
            if stream is not None:
                source = _Paid(container, stream) if entry.issparse() else stream
                yield Member(shown_name(entry.name), source)
        elif entry.issym() or entry.islnk():
            yield Member(shown_name(entry.name), entry.linkname.encode("utf-8", "surrogateescape"))


class _Seekless(io.RawIOBase):
    """The file object that tarfile's stream mode wants."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream

    def read(self, size: int | None = -1, /) -> bytes:
        return self._stream.read(size if size is not None and size >= 0 else 0)


def seven_zip_members(container: Container) -> Iterator[Member]:
    """Every file of a 7z archive.

    Solid archives are decompressed into memory, so all files together are bounded by what one member may have.
    """
    import py7zr

    content = whole(container)
    meter = container.meter
    try:
        with py7zr.SevenZipFile(io.BytesIO(content)) as archive:
            if archive.needs_password():
                raise UnreadableError("encrypted")
            names = archive.getnames()
            size = sum(entry.uncompressed or 0 for entry in archive.list())
            if size > min(meter.limits.member_bytes, meter.room):
                raise UnreadableError("member_size")
            if len(names) > meter.limits.entries:
                raise UnreadableError("entries")
            memory = py7zr.io.BytesIOFactory(min(meter.limits.member_bytes, meter.room))
            archive.extractall(factory=memory)  # noqa: S202 - into memory, bounded
    except py7zr.exceptions.PasswordRequired as error:
        raise UnreadableError("encrypted") from error
    except py7zr.exceptions.UnsupportedCompressionMethodError as error:
        raise UnreadableError("unsupported_compression") from error
    for name, stream in memory.products.items():
        meter.enter()
        stream.seek(0)
        found = stream.read()
        meter.take(len(found))
        yield Member(shown_name(name), found)


def ar_members(container: Container) -> Iterator[Member]:
    """The members of an ar archive: a Debian package, a static library."""
    stream = readable(container.source)
    if read_up_to(stream, 8) != b"!<arch>\n":
        raise UnreadableError("damaged")
    while header := read_up_to(stream, 60):
        container.meter.enter()
        if len(header) < 60 or header[58:] != b"`\n" or not header[48:58].strip().isdigit():
            raise UnreadableError("damaged")
        size = int(header[48:58])
        part = Bounded(stream, size)
        yield Member(shown_name(header[:16].rstrip().rstrip(b"/")), part)
        part.skip()
        if size % 2:
            read_up_to(stream, 1)


_CPIO_NUMBERS = re.compile(rb"[0-9A-Fa-f]{104}")


def cpio_members(container: Container) -> Iterator[Member]:
    """The files of a cpio archive in the `newc` form, as rpm packages hold one."""
    stream = readable(container.source)
    while header := read_up_to(stream, 110):
        container.meter.enter()
        if header[:5] != b"07070" or not _CPIO_NUMBERS.fullmatch(header[6:]):
            raise UnreadableError("damaged")
        size, name_size = int(header[54:62], 16), int(header[94:102], 16)
        if name_size > _LONGEST_NAME:
            raise UnreadableError("damaged")
        name = read_up_to(stream, name_size + (-(110 + name_size)) % 4)[:name_size].rstrip(b"\0")
        if name == b"TRAILER!!!":
            return
        part = Bounded(stream, size)
        yield Member(shown_name(name), part)
        part.skip()
        read_up_to(stream, -size % 4)


def rpm_members(container: Container) -> Iterator[Member]:
    """The payload of an rpm package (a compressed cpio); the two headers in front are read as they lie."""
    stream = readable(container.source)
    read_up_to(stream, 96)
    for padded in (True, False):
        head = read_up_to(stream, 16)
        if len(head) < 16 or head[:3] != b"\x8e\xad\xe8":
            raise UnreadableError("damaged")
        count, size = struct.unpack(">II", head[8:])
        length = 16 * count + size
        if length > container.meter.limits.member_bytes:
            raise UnreadableError("damaged")
        read_up_to(stream, length + (-length % 8 if padded else 0))
    container.meter.enter()
    yield Member("payload", stream)

"""Readers of package archives: ar (deb), cpio and rpm."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from scanner.detection.containers.members import (
    Bounded,
    Container,
    Member,
    Readable,
    UnreadableError,
    read_up_to,
    readable,
    shown_name,
)

_MAX_NAME_BYTES = 4096


def ar_members(container: Container) -> Iterator[Member]:
    """Yield the members of an ar archive, for example of a Debian package or a static library."""
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
        if part.left:
            raise UnreadableError("damaged")
        if size % 2:
            read_up_to(stream, 1)


_CPIO_HEX = re.compile(rb"07070[12][0-9A-Fa-f]{104}")
_CPIO_OCTAL = re.compile(rb"070707[0-7]{70}")
_CPIO_END = b"TRAILER!!!"


def cpio_members(container: Container) -> Iterator[Member]:
    """Yield the files of a cpio archive in the `newc` form (rpm, initramfs) or the older `odc` form (macOS)."""
    stream = readable(container.source)
    while header := read_up_to(stream, 76):
        container.meter.enter()
        if header[:6] == b"070707":
            part, name = _cpio_entry_in_octal(stream, header)
            padding = 0
        else:
            part, name = _cpio_entry_in_hex(stream, header + read_up_to(stream, 110 - 76))
            padding = -part.left % 4
        if name == _CPIO_END:
            return
        yield Member(shown_name(name), part)
        part.skip()
        if part.left:
            raise UnreadableError("damaged")
        read_up_to(stream, padding)


def _cpio_entry_in_hex(stream: Readable, header: bytes) -> tuple[Bounded, bytes]:
    if not _CPIO_HEX.fullmatch(header):
        raise UnreadableError("damaged")
    size, name_size = int(header[54:62], 16), int(header[94:102], 16)
    if name_size > _MAX_NAME_BYTES:
        raise UnreadableError("damaged")
    name = read_up_to(stream, name_size + (-(110 + name_size)) % 4)[:name_size].rstrip(b"\0")
    return Bounded(stream, size), name


def _cpio_entry_in_octal(stream: Readable, header: bytes) -> tuple[Bounded, bytes]:
    if not _CPIO_OCTAL.fullmatch(header):
        raise UnreadableError("damaged")
    name_size, size = int(header[59:65], 8), int(header[65:76], 8)
    if name_size > _MAX_NAME_BYTES:
        raise UnreadableError("damaged")
    return Bounded(stream, size), read_up_to(stream, name_size).rstrip(b"\0")


def rpm_members(container: Container) -> Iterator[Member]:
    """Yield the two headers of an rpm package, and then its content, a compressed cpio archive."""
    stream = readable(container.source)
    read_up_to(stream, 96)
    for name, padded in (("signature", True), ("header", False)):
        head = read_up_to(stream, 16)
        if len(head) < 16 or head[:3] != b"\x8e\xad\xe8":
            raise UnreadableError("damaged")
        container.meter.enter()
        count, size = struct.unpack(">II", head[8:])
        length = 16 * count + size
        part = Bounded(stream, length)
        yield Member(name, part)
        part.skip()
        if part.left:
            raise UnreadableError("damaged")
        read_up_to(stream, -length % 8 if padded else 0)
    container.meter.enter()
    yield Member("payload", stream)

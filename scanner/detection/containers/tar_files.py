"""Reader of tar archives: ustar, the older form without a magic number, GNU and PAX extensions.

The format: https://www.gnu.org/software/tar/manual/html_node/Standard.html and POSIX `pax`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from scanner.detection.containers.members import Bounded, Container, Member, Readable, read_up_to, readable, shown_name

# `tarfile` is not used, because its PAX parser takes quadratic time in some supported versions of Python.
BLOCK = 512
_EMPTY = bytes(BLOCK)
_OCTAL = frozenset(b"01234567 \0")
# An extended header contains a path, times and attributes. A larger one is scanned as text and not parsed.
_MAX_EXTENDED_HEADER_BYTES = 64 << 10
# A PAX record begins with its length. With more digits, the record would be larger than the largest extended header.
_MAX_LENGTH_DIGITS = 6
_GNU_NAME, _GNU_LINK, _PAX, _PAX_OF_ALL, _SUN_PAX, _GNU_SPARSE = b"L", b"K", b"x", b"g", b"X", b"S"
_LINKS = (b"1", b"2")
# Links, devices, directories and pipes have no data, even if their size field is not zero.
_WITHOUT_DATA = (*_LINKS, b"3", b"4", b"5", b"6")
_NAMES = (b"path", b"GNU.sparse.name")


def tar_members(container: Container) -> Iterator[Member]:
    """Yield every file and the target of every link in a tar archive. Damaged parts are skipped and counted."""
    yield from _Archive(container).members()


class _Archive:
    """A reader of the stream of a tar archive."""

    def __init__(self, container: Container) -> None:
        self._stream: Readable = readable(container.source)
        self._meter = container.meter
        self._extended: dict[bytes, bytes] = {}
        self._extended_of_all: dict[bytes, bytes] = {}

    def members(self) -> Iterator[Member]:
        ended = False
        lost = False
        while header := read_up_to(self._stream, BLOCK):
            if header == _EMPTY:
                ended, lost = True, False
                continue
            intact = is_tar_header(header)
            size = self._size(header) if intact or _is_almost_header(header) else None
            if not intact and not lost and not ended:
                # Several damaged headers in a row count once. Bytes after the end of the archive are not damage.
                self._meter.note("damaged")
            if size is None:
                if intact and not lost:
                    self._meter.note("damaged")
                lost = True
                self._extended = {}
                continue
            ended = lost = False
            self._meter.enter()
            yield from self._entry(header, size)

    def _size(self, header: bytes) -> int | None:
        """Return the size in bytes that an entry's header declares, or None if it is invalid."""
        declared = self._extended.get(b"size")
        if declared is not None and header[156:157] not in (_PAX, _PAX_OF_ALL, _GNU_NAME, _GNU_LINK):
            return int(declared) if declared.isdigit() and len(declared) < 20 else None
        return _number(header[124:136])

    def _entry(self, header: bytes, size: int) -> Iterator[Member]:
        kind = header[156:157]
        if kind in (_GNU_NAME, _GNU_LINK, _PAX, _SUN_PAX, _PAX_OF_ALL):
            yield from self._extended_header(kind, size)
            return
        name = self._name(header)
        link = self._extended.get(b"linkpath", header[157:257].partition(b"\0")[0])
        self._extended = {}
        if kind in _LINKS and link:
            yield Member(shown_name(name), link)
        if kind in _WITHOUT_DATA or (kind in (b"0", b"\0") and name.endswith(b"/") and size == 0):
            return
        if kind == _GNU_SPARSE and header[482]:
            # A sparse file begins with a list of its parts. Skip the rest of the list.
            while len(block := read_up_to(self._stream, BLOCK)) == BLOCK and block[504]:
                self._meter.take(0)
        data = Bounded(self._stream, size)
        yield Member(shown_name(name), data)
        self._skip(data, size)

    def _skip(self, data: Bounded, size: int) -> None:
        """Skip the rest of an entry's data and its padding."""
        data.skip()
        padding = -size % BLOCK
        # Missing padding is no damage, because many programs omit it after the last file.
        if data.left:
            self._meter.note("damaged")
        elif padding:
            read_up_to(self._stream, padding)

    def _extended_header(self, kind: bytes, size: int) -> Iterator[Member]:
        data = Bounded(self._stream, size)
        if size > _MAX_EXTENDED_HEADER_BYTES:
            yield Member("extended header", data)
        else:
            content = read_up_to(data, size)
            if kind == _GNU_NAME:
                self._extended[b"path"] = content.rstrip(b"\0")
            elif kind == _GNU_LINK:
                self._extended[b"linkpath"] = content.rstrip(b"\0")
            else:
                records, read = pax_records(content)
                (self._extended_of_all if kind == _PAX_OF_ALL else self._extended).update(records)
                if read < len(content.rstrip(b"\0")):
                    self._meter.note("damaged")
        self._skip(data, size)

    def _name(self, header: bytes) -> bytes:
        for records in (self._extended, self._extended_of_all):
            for key in reversed(_NAMES):
                if key in records:
                    return records[key]
        name = header[:100].partition(b"\0")[0]
        prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
        return prefix + b"/" + name if prefix else name


def pax_records(content: bytes) -> tuple[dict[bytes, bytes], int]:
    """Return the paths and the size in a PAX header, and the number of its valid bytes.

    A record is, for example, `14 path=a.txt\\n`, where 14 is the size of the record.
    """
    records: dict[bytes, bytes] = {}
    at = 0
    while at < len(content):
        space = content.find(b" ", at, at + _MAX_LENGTH_DIGITS + 1)
        digits = content[at:space]
        if space < 0 or not digits.isdigit():
            break
        end = at + int(digits)
        if end <= space + 1 or end > len(content) or content[end - 1] != 0x0A:
            break
        key, _, value = content[space + 1 : end - 1].partition(b"=")
        if key in (*_NAMES, b"linkpath", b"size"):
            records[key] = value
        at = end
    return records, at


def is_tar_header(header: bytes) -> bool:
    """Return whether 512 bytes are a tar header with a correct checksum."""
    field = header[148:156]
    if len(header) < BLOCK or not _OCTAL.issuperset(field):
        return False
    digits = field.strip(b" \0")
    if not digits.isdigit():
        return False
    declared = int(digits, 8)
    rest = header[:148] + b" " * 8 + header[156:BLOCK]
    # Some old programs compute the checksum from signed bytes, so accept that sum as well.
    return declared == sum(rest) or declared == sum(struct.unpack("512b", rest))


def _is_almost_header(block: bytes) -> bool:
    """Return whether a block looks like a tar header with a wrong checksum."""
    return block[257:262] == b"ustar" and block[0] != 0 and block[124] != 0x80 and _number(block[124:136]) is not None


def _number(field: bytes) -> int | None:
    """Return the number in a field of a tar header, or None if the field is invalid."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    digits = field.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    return int(digits, 8) if _OCTAL.issuperset(digits) and digits.isdigit() else None

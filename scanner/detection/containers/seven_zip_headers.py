"""Parser of the headers of 7z archives: https://py7zr.readthedocs.io/en/latest/archive_format.html"""

from __future__ import annotations

from typing import NamedTuple

from scanner.detection.containers.members import UnreadableError, shown_name
from scanner.detection.limits import Meter

ENCODED_HEADER = 0x17
"""The first byte of a header that is compressed like a file."""

AES = b"\x06\xf1\x07\x01"
"""The id of the coder that encrypts a block."""

_MAX_CODERS = 4
_FIELDS_A_STEP = 8
_FIELDS_PAID_AT_ONCE = 1 << 12
"""The work of reading fields is counted once for this many fields."""
(
    _END,
    _HEADER,
    _ARCHIVE_PROPERTIES,
    _ADDITIONAL_STREAMS,
    _MAIN_STREAMS,
    _FILES,
    _PACK_INFO,
    _UNPACK_INFO,
    _SUBSTREAMS_INFO,
    _SIZE,
    _CRC,
    _FOLDER,
    _UNPACK_SIZE,
    _SUBSTREAM_COUNT,
    _EMPTY_STREAM,
    _EMPTY_FILE,
    _ANTI,
    _NAMES,
) = range(18)


class Coder(NamedTuple):
    method: bytes
    properties: bytes


class Folder(NamedTuple):
    """The description of a block of a 7z archive (compressed bytes that contain one or more files).

    Attributes:
        coders: The compressions and filters, in the order in which they are undone.
        sizes: The size in bytes of each coder's output.
        packed_streams: The number of byte ranges in the archive that contain the block.
    """

    coders: tuple[Coder, ...]
    sizes: tuple[int, ...]
    packed_streams: int


class Streams(NamedTuple):
    """The blocks of a 7z archive. `files` has the sizes in bytes of the files in each block."""

    position: int
    packed_sizes: tuple[int, ...]
    folders: tuple[Folder, ...]
    files: tuple[tuple[int, ...], ...]


class HeaderReader:
    """A reader of the fields of a 7z header. Its methods raise UnreadableError if the header ends too early."""

    def __init__(self, content: bytes, meter: Meter) -> None:
        self._content = content
        self._meter = meter
        self._at = 0
        self._fields = 0

    @property
    def left(self) -> int:
        return len(self._content) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise UnreadableError("damaged")
        self._fields += 1
        if self._fields == _FIELDS_PAID_AT_ONCE:
            self._meter.step(self._fields // _FIELDS_A_STEP)
            self._fields = 0
        self._at += size
        return self._content[self._at - size : self._at]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        """Read and return an integer."""
        first = self.byte()
        value = 0
        for index in range(8):
            mask = 0x80 >> index
            if not first & mask:
                return value | ((first & (mask - 1)) << (8 * index))
            value |= self.byte() << (8 * index)
        return value

    def count(self, most: int) -> int:
        """Read and return a number of items, and count the items as work.

        Raises:
            UnreadableError: the number exceeds `most`.
        """
        count = self.number()
        if count > most:
            raise UnreadableError("entries")
        self._meter.step(count // _FIELDS_A_STEP)
        return count

    def bits(self, count: int) -> list[bool]:
        field = self.take(-(-count // 8))
        self._meter.step(count // _FIELDS_A_STEP)
        return [bool(field[at >> 3] & (0x80 >> (at & 7))) for at in range(count)]

    def checksums(self, count: int) -> list[bool]:
        """Skip the checksums of `count` streams, and return which streams have a checksum."""
        defined = [True] * count if self.byte() else self.bits(count)
        self.take(4 * sum(defined))
        return defined

    def expect(self, value: int) -> None:
        if self.byte() != value:
            raise UnreadableError("damaged")


def parsed(header: HeaderReader, meter: Meter) -> tuple[Streams, list[str], list[bool]]:
    """Parse the header of a 7z archive. Return the blocks, the names of all files, and which files are empty."""
    header.expect(_HEADER)
    streams = Streams(0, (), (), ())
    names: list[str] = []
    empty: list[bool] = []
    while (kind := header.byte()) != _END:
        if kind == _ARCHIVE_PROPERTIES:
            while header.byte() != _END:
                header.take(header.number())
        elif kind == _ADDITIONAL_STREAMS:
            read_streams(header, meter)
        elif kind == _MAIN_STREAMS:
            streams = read_streams(header, meter)
        elif kind == _FILES:
            names, empty = _files(header, meter)
        else:
            raise UnreadableError("damaged")
    return streams, names, empty


def read_streams(header: HeaderReader, meter: Meter) -> Streams:
    most = meter.limits.entries
    position = 0
    packed: tuple[int, ...] = ()
    folders: tuple[Folder, ...] = ()
    files: tuple[tuple[int, ...], ...] | None = None
    folders_with_checksum: list[bool] = []
    while (kind := header.byte()) != _END:
        if kind == _PACK_INFO:
            position = header.number()
            count = header.count(most)
            while (part := header.byte()) != _END:
                if part == _SIZE:
                    packed = tuple(header.number() for _ in range(count))
                elif part == _CRC:
                    header.checksums(count)
                else:
                    raise UnreadableError("damaged")
        elif kind == _UNPACK_INFO:
            folders, folders_with_checksum = _folders(header, most)
        elif kind == _SUBSTREAMS_INFO:
            files = _substreams(header, folders, folders_with_checksum, most)
        else:
            raise UnreadableError("damaged")
    if files is None:
        files = tuple((folder.sizes[-1],) for folder in folders)
    return Streams(position, packed, folders, files)


def _folders(header: HeaderReader, most: int) -> tuple[tuple[Folder, ...], list[bool]]:
    header.expect(_FOLDER)
    count = header.count(most)
    header.expect(0)
    shapes = [_folder(header) for _ in range(count)]
    header.expect(_UNPACK_SIZE)
    folders: list[Folder] = []
    for coders, order, packed_streams in shapes:
        sizes = [header.number() for _ in coders]
        folders.append(
            Folder(tuple(coders[index] for index in order), tuple(sizes[index] for index in order), packed_streams)
        )
    defined = [False] * count
    while (kind := header.byte()) != _END:
        if kind != _CRC:
            raise UnreadableError("damaged")
        defined = header.checksums(count)
    return tuple(folders), defined


def _folder(header: HeaderReader) -> tuple[list[Coder], list[int], int]:
    """Read the description of a block: its compressions, their order, and its number of byte ranges."""
    count = header.number()
    if not 0 < count <= _MAX_CODERS:
        raise UnreadableError("unsupported_compression")
    coders: list[Coder] = []
    simple = True
    inputs = outputs = 0
    for _ in range(count):
        flags = header.byte()
        method = header.take(flags & 15)
        ins, outs = (header.number(), header.number()) if flags & 0x10 else (1, 1)
        if ins > 4 or outs > 4:
            raise UnreadableError("unsupported_compression")
        simple = simple and ins == outs == 1
        inputs, outputs = inputs + ins, outputs + outs
        coders.append(Coder(method, header.take(header.number()) if flags & 0x20 else b""))
    bound = {header.number(): header.number() for _ in range(outputs - 1)}
    packed_streams = max(0, inputs - (outputs - 1))
    if packed_streams > 1:
        for _ in range(packed_streams):
            header.number()
    if not simple:
        if any(coder.method == AES for coder in coders):
            raise UnreadableError("encrypted")
        # Compression methods with several inputs (BCJ2) are not supported, so opening this block will fail.
        return coders, list(range(count)), max(packed_streams, 2)
    # `bound` gives, for each decoder that reads another decoder's output, the number of that other decoder. The first
    # decoder is not in `bound`.
    after = {output: number for number, output in bound.items()}
    at = next((number for number in range(count) if number not in bound), 0)
    order = [at]
    while at in after and len(order) < count:
        at = after[at]
        if not 0 <= at < count:
            raise UnreadableError("damaged")
        order.append(at)
    return coders, order, packed_streams


def _substreams(
    header: HeaderReader, folders: tuple[Folder, ...], with_checksum: list[bool], most: int
) -> tuple[tuple[int, ...], ...]:
    """Return, for each block, the sizes of its files in bytes."""
    counts = [1] * len(folders)
    kind = header.byte()
    if kind == _SUBSTREAM_COUNT:
        total = 0
        for index in range(len(folders)):
            counts[index] = header.count(most)
            total += counts[index]
            if total > most:
                raise UnreadableError("entries")
        kind = header.byte()
    files: list[tuple[int, ...]] = []
    for folder, count in zip(folders, counts, strict=True):
        sizes = [header.number() for _ in range(count - 1)] if kind == _SIZE else []
        if count:
            sizes.append(max(0, folder.sizes[-1] - sum(sizes)))
        files.append(tuple(sizes))
    if kind == _SIZE:
        kind = header.byte()
    while kind != _END:
        if kind != _CRC:
            raise UnreadableError("damaged")
        header.checksums(
            sum(count for count, known in zip(counts, with_checksum, strict=True) if count != 1 or not known)
        )
        kind = header.byte()
    return tuple(files)


def _files(header: HeaderReader, meter: Meter) -> tuple[list[str], list[bool]]:
    count = header.count(meter.limits.entries)
    names: list[str] = []
    empty = [False] * count
    while (kind := header.number()) != _END:
        part = HeaderReader(header.take(header.number()), meter)
        if kind == _EMPTY_STREAM:
            empty = part.bits(count)
        elif kind == _NAMES and part.byte() == 0:
            meter.step(count)
            names = _names(part.take(part.left), count)
    names += ["content"] * (count - len(names))
    return names, empty


def _names(field: bytes, count: int) -> list[str]:
    texts = field.decode("utf-16-le", "replace").split("\0", count)
    return [shown_name(text) for text in texts[:count]]

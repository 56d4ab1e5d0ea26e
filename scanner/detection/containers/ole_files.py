"""Reader of OLE compound files ([MS-CFB]): Office documents from before 2007, Outlook messages, installers."""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from scanner.detection.containers.members import Container, Member, UnreadableError, shown_name, whole
from scanner.detection.limits import Meter

_END_OF_CHAIN = 0xFFFFFFFA
"""Sector numbers from this one on are markers, for example for the end of a chain."""

_ENTRY_BYTES = 128
_STREAM, _ROOT = 2, 5


class _Header(NamedTuple):
    """The fields of an OLE file's header that are used here ([MS-CFB] 2.2). Sizes are in bytes."""

    sector_bytes: int
    mini_sector_bytes: int
    first_directory: int
    mini_cutoff: int
    first_mini_fat: int
    first_difat: int
    difat: tuple[int, ...]


class _Entry(NamedTuple):
    name: str
    kind: int
    start: int
    size: int


def ole_members(container: Container) -> Iterator[Member]:
    """Yield each stream (inner file) of an OLE compound file. A damaged stream is yielded up to the damage."""
    content, meter = whole(container), container.meter
    file = _CompoundFile(content, meter)
    for entry in file.entries():
        if entry.kind != _STREAM:
            continue
        meter.enter()
        data = file.stream(entry)
        meter.take(len(data))
        yield Member(shown_name(entry.name), data)
        if len(data) < entry.size:
            meter.note("damaged")


class _CompoundFile:
    """An OLE compound file: a small file system whose files are chains of sectors."""

    def __init__(self, content: bytes, meter: Meter) -> None:
        self._content, self._meter = content, meter
        self._header = _header(content)
        self._fat = self._numbers(self._fat_sectors())
        sector = self._header.sector_bytes
        self._mini_fat = self._numbers(self._chain(self._header.first_mini_fat, self._fat, len(content), sector))
        self._mini = b""

    def entries(self) -> list[_Entry]:
        """Return the entries of the OLE file's directory. Call this before `stream`."""
        sector = self._header.sector_bytes
        directory = self._sectors(self._chain(self._header.first_directory, self._fat, len(self._content), sector))
        entries = []
        for at in range(0, len(directory) - _ENTRY_BYTES + 1, _ENTRY_BYTES):
            raw = directory[at : at + _ENTRY_BYTES]
            length, kind = struct.unpack_from("<HB", raw, 64)
            start, size = struct.unpack_from("<IQ", raw, 116)
            name = raw[: max(0, min(length, 64) - 2)].decode("utf-16-le", "replace")
            entry = _Entry(name, kind, start, size if self._header.sector_bytes > 512 else size & 0xFFFFFFFF)
            entries.append(entry)
            if kind == _ROOT:
                size = min(entry.size, len(self._content))
                self._mini = self._sectors(self._chain(start, self._fat, size, sector))[:size]
        return entries

    def stream(self, entry: _Entry) -> bytes:
        """Return the bytes of a stream (inner file), or fewer if the file is damaged."""
        # A chain of sectors may be a circle, and the declared size may be wrong, but no stream is larger than the file.
        most = min(entry.size, len(self._content))
        if entry.size >= self._header.mini_cutoff:
            sector = self._header.sector_bytes
            return self._sectors(self._chain(entry.start, self._fat, most, sector))[:most]
        size = self._header.mini_sector_bytes
        chain = self._chain(entry.start, self._mini_fat, most, size)
        return b"".join(self._mini[number * size : (number + 1) * size] for number in chain)[: entry.size]

    def _fat_sectors(self) -> list[int]:
        """Return the numbers of the sectors that hold the allocation table."""
        # Keep a repeated sector only once, so that the table is never larger than the file.
        found = dict.fromkeys(self._header.difat)
        sector, seen = self._header.first_difat, set[int]()
        while sector < _END_OF_CHAIN and sector not in seen:
            seen.add(sector)
            numbers = self._numbers([sector])
            if len(numbers) < self._header.sector_bytes // 4:
                break
            found.update(dict.fromkeys(numbers[:-1]))
            sector = numbers[-1]
        self._meter.step(len(seen))
        return [number for number in found if number < _END_OF_CHAIN]

    def _chain(self, start: int, table: array[int], size: int, sector_bytes: int) -> list[int]:
        """Return the sector numbers of the chain that begins at sector `start`."""
        most = min(len(table), size // sector_bytes + 1)
        chain: list[int] = []
        while start < len(table) and len(chain) < most:
            chain.append(start)
            start = table[start]
        self._meter.step(len(chain))
        return chain

    def _sectors(self, numbers: list[int]) -> bytes:
        size = self._header.sector_bytes
        return b"".join(self._content[(number + 1) * size : (number + 2) * size] for number in numbers)

    def _numbers(self, sectors: list[int]) -> array[int]:
        raw = self._sectors(sectors)
        numbers = array("I", raw[: len(raw) // 4 * 4])
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers


def _header(content: bytes) -> _Header:
    if len(content) < 512:
        raise UnreadableError("damaged")
    sector_shift, mini_shift = struct.unpack_from("<HH", content, 30)
    if sector_shift not in (9, 12) or mini_shift != 6:
        raise UnreadableError("damaged")
    directory, _, cutoff, mini_fat, _, difat = struct.unpack_from("<IIIIII", content, 48)
    return _Header(
        1 << sector_shift, 1 << mini_shift, directory, cutoff, mini_fat, difat, struct.unpack_from("<109I", content, 76)
    )

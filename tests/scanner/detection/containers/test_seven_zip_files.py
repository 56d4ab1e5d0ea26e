"""Tests for 7z archives. Files after a damaged block are still read."""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from typing import Any

import pytest

from scanner.detection.containers.members import Container, UnreadableError, read_up_to, readable
from scanner.detection.containers.seven_zip_files import seven_zip_members
from scanner.detection.limits import Limits, Meter

TEXTS = {"a.txt": b"first text, of some length " * 400, "b/ä.txt": b"second", "c.txt": b"", "d.txt": b"last bytes"}


def archive(filters: list[dict[str, Any]] | None = None, password: str | None = None) -> bytes:
    import py7zr

    buffer = io.BytesIO()
    with py7zr.SevenZipFile(buffer, "w", filters=filters, password=password) as file:
        for name, text in TEXTS.items():
            file.writestr(text, name)
    return buffer.getvalue()


def read(content: bytes) -> tuple[dict[str, bytes], dict[str, int]]:
    meter = Meter(Limits(), len(content))
    members = {}
    try:
        for member in seven_zip_members(Container("a.7z", content, meter)):
            members[member.name] = read_up_to(readable(member.source), 1 << 20)
    except UnreadableError as stop:
        meter.note(stop.reason)
    return members, dict(meter.unread)


def _filters() -> dict[str, list[dict[str, Any]]]:
    import py7zr

    return {
        "LZMA2": [{"id": py7zr.FILTER_LZMA2, "preset": 6}],
        "LZMA": [{"id": py7zr.FILTER_LZMA, "preset": 6}],
        "x86 and LZMA2": [{"id": py7zr.FILTER_X86}, {"id": py7zr.FILTER_LZMA2, "preset": 6}],
        "x86 and LZMA": [{"id": py7zr.FILTER_X86}, {"id": py7zr.FILTER_LZMA, "preset": 6}],
        "ARM and LZMA2": [{"id": py7zr.FILTER_ARM}, {"id": py7zr.FILTER_LZMA2, "preset": 6}],
        "PowerPC and LZMA2": [{"id": py7zr.FILTER_POWERPC}, {"id": py7zr.FILTER_LZMA2, "preset": 6}],
        "delta and LZMA2": [{"id": py7zr.FILTER_DELTA}, {"id": py7zr.FILTER_LZMA2, "preset": 6}],
        "bzip2": [{"id": py7zr.FILTER_BZIP2}],
        "Deflate": [{"id": py7zr.FILTER_DEFLATE}],
        "Zstandard": [{"id": py7zr.FILTER_ZSTD, "level": 3}],
        "copy": [{"id": py7zr.FILTER_COPY}],
    }


@pytest.mark.parametrize("name", _filters())
def test_every_method_is_read_to_its_last_byte(name: str) -> None:
    assert read(archive(_filters()[name])) == (TEXTS, {})


def test_ppmd_is_counted_because_its_library_needs_a_thread() -> None:
    import py7zr

    ppmd = archive([{"id": py7zr.FILTER_PPMD, "order": 6, "mem": 24}])
    assert read(ppmd)[1] == {"unsupported_compression": 1}


def test_an_encrypted_archive_is_counted() -> None:
    assert read(archive(password="x"))[1] == {"encrypted": 1}


def number(value: int) -> bytes:
    return b"\xff" + struct.pack("<Q", value)


def with_header(header: bytes, packed: bytes = b"") -> bytes:
    start = struct.pack("<QQL", len(packed), len(header), zlib.crc32(header))
    return b"7z\xbc\xaf\x27\x1c\0\4" + struct.pack("<L", zlib.crc32(start)) + start + packed + header


def packed_header(header: bytes, dictionary: bytes = b"\x18", declared: int | None = None) -> bytes:
    packed = lzma.compress(header, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}])
    size = len(header) if declared is None else declared
    encoded = b"\x17\x06" + number(0) + number(1) + b"\x09" + number(len(packed)) + b"\0"
    encoded += b"\x07\x0b" + number(1) + b"\0" + number(1) + b"\x21\x21" + number(1) + dictionary
    return with_header(encoded + b"\x0c" + number(size) + b"\0\0", packed)


def empty_files(count: int) -> bytes:
    return b"\x01\x05" + number(count) + b"\x11" + number(1 + 2 * count) + b"\0" + bytes(2 * count) + b"\0\0"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (packed_header(empty_files(4_000_000)), "entries"),
        (packed_header(b"x", declared=1 << 40), "entries"),
        (packed_header(b"x" * 100, dictionary=b"\x28"), "unsupported_compression"),
        (with_header(b"\x01\x05" + number(1 << 60)), "entries"),
        (with_header(b"\x01\x04\x06" + number(0) + number(1 << 60)), "entries"),
        (with_header(b"\x01\x04\x07\x0b" + number(1 << 60)), "entries"),
        (with_header(b"\x01\x05" + number(10) + b"\x0e" + number(1 << 60)), "damaged"),
        (with_header(b"\x01\x05" + number(10)), "damaged"),
        (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(4) + struct.pack("<QQL", 0, 1 << 50, 0), "entries"),
        (b"7z\xbc\xaf\x27\x1c\0\4" + bytes(4) + struct.pack("<QQL", 1 << 60, 10, 0), "damaged"),
        (b"7z\xbc\xaf\x27\x1c", "damaged"),
    ],
)
def test_large_sizes_declared_in_a_header_allocate_nothing(content: bytes, reason: str) -> None:
    meter = Meter(Limits(), len(content))
    with pytest.raises(UnreadableError, match=reason):
        list(seven_zip_members(Container("a.7z", content, meter)))
    assert meter.expanded <= 16 << 20


def test_a_truncated_block_is_read_up_to_its_end_and_counted() -> None:
    content = bytearray(archive([{"id": 0x21, "preset": 0}]))
    content[32 + 40 : 32 + 60] = bytes(20)
    members, unread = read(bytes(content))
    assert unread == {"damaged": 1}
    assert set(members) == set(TEXTS)

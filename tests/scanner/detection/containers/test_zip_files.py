"""Tests for zip archives, also with a damaged central directory."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections import deque

import pytest

from scanner.detection.containers.members import Container, read_up_to, readable
from scanner.detection.containers.recognition import container_kind
from scanner.detection.containers.zip_files import zip_members
from scanner.detection.limits import LimitReachedError, Limits, Meter
from tests.scanner.detection.archive_builders import zipped
from tests.scanner.detection.compression_builders import lzip, zstandard_compressed

TEXTS = {"a.txt": b"first text " * 20, "b.txt": b"second text " * 20, "c.txt": b"third text " * 20}


def archive(method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytearray:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.comment = comment
        for name, text in TEXTS.items():
            file.writestr(name, text)
    return bytearray(buffer.getvalue())


def read(content: bytes) -> tuple[dict[str, bytes], dict[str, int]]:
    meter = Meter(Limits(), len(content))
    members = {}
    for member in zip_members(Container("a.zip", content, meter)):
        stream = readable(member.source)
        members[member.name] = read_up_to(stream, 1 << 20)
        assert stream.read(1) == b""
    return members, {reason: count for reason, count in meter.unread.items() if count}


def one_of(method: int, packed: bytes, plain: bytes) -> bytes:
    """Return a zip archive of one file, with a compression method that Python's zipfile does not support.

    Args:
        method: The number of the compression method.
        packed: The compressed content of the file.
        plain: The content of the file.
    """
    content = bytearray(zipped(packed, "a", zipfile.ZIP_STORED))
    directory = content.rindex(b"PK\x01\x02")
    for at in (8, directory + 10):
        content[at : at + 2] = struct.pack("<H", method)
    for at in (14, directory + 16):
        content[at : at + 4] = struct.pack("<I", zlib.crc32(plain))
    return bytes(content)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_method_of_zipfile_is_read(method: int) -> None:
    assert read(bytes(archive(method))) == (TEXTS, {})


def test_zstandard_and_deflate64_are_read() -> None:
    text = b"text " * 100
    assert read(one_of(93, zstandard_compressed(text), text)) == ({"a": text}, {})
    import inflate64

    deflater = inflate64.Deflater()
    packed = deflater.deflate(text) + deflater.flush()
    assert read(one_of(9, packed, text)) == ({"a": text}, {})


def test_an_unknown_method_and_a_huge_dictionary_are_counted() -> None:
    assert read(one_of(97, b"x", b"x")) == ({}, {"unsupported_compression": 1})
    properties = bytes((93,)) + (256 << 20).to_bytes(4, "little")
    packed = b"\x09\x14\x05\0" + properties + lzip(b"text")[6:-20]
    assert read(one_of(14, packed, b"text")) == ({}, {"unsupported_compression": 1})


def test_a_wrong_checksum_is_counted_and_loses_no_text() -> None:
    content = archive()
    content[content.index(b"PK\x01\x02") + 16] ^= 1
    assert read(bytes(content)) == (TEXTS, {"damaged": 1})


def test_a_damaged_member_is_read_up_to_the_damage_and_the_others_completely() -> None:
    long_text = bytes(random.Random(1).choices(b"abcdefgh ", k=4_000))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("long.txt", long_text)
        file.writestr("b.txt", TEXTS["b.txt"])
    content = bytearray(buffer.getvalue())
    at = content.index(b"PK\x03\x04", 1) - 200
    content[at : at + 8] = b"\xff" * 8
    members, unread = read(bytes(content))
    assert unread == {"damaged": 1}
    assert members["b.txt"] == TEXTS["b.txt"]
    assert members["long.txt"][:3_000] == long_text[:3_000]


def test_a_broken_directory_hides_no_file() -> None:
    content = archive()
    second = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    content[second] ^= 0xFF
    assert read(bytes(content)) == (TEXTS, {"damaged": 1})


def test_an_entry_with_a_wrong_offset_is_counted_and_its_file_is_found() -> None:
    content = archive()
    directory = content.index(b"PK\x01\x02")
    content[directory + 42 : directory + 46] = struct.pack("<I", 3)
    assert read(bytes(content)) == (TEXTS, {"damaged": 1})


@pytest.mark.parametrize("start", [b"MZ" + b"\x90" * 300, b"\x7fELF" + bytes(300), b"#!/bin/sh\nexec java\n"])
@pytest.mark.parametrize("comment", [b"", b"a comment " * 1_000])
@pytest.mark.parametrize("signature", [b"", b"signature" * 1_000])
def test_a_zip_behind_a_program_is_found_with_comment_and_signature(
    start: bytes, comment: bytes, signature: bytes
) -> None:
    content = start + bytes(archive(comment=comment)) + signature
    assert container_kind(content) == "zip"
    assert read(content) == (TEXTS, {})


def test_bytes_that_look_like_an_end_record_are_not_a_zip() -> None:
    for tail in (b"PK\x05\x06" + bytes(18), b"PK\x05\x06" + b"\1" * 18, b"PK\x05\x06"):
        assert container_kind(b"MZ" + bytes(1_000) + tail) is None


def test_zip64_is_read() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file, file.open("a", "w", force_zip64=True) as entry:
        entry.write(b"text")
    content = bytearray(buffer.getvalue())
    directory, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    record = bytearray(content[directory:end])
    packed, unpacked = struct.unpack_from("<II", record, 20)
    offset = struct.unpack_from("<I", record, 42)[0]
    record[20:28] = b"\xff" * 8
    record[42:46] = b"\xff" * 4
    extra = struct.pack("<HHQQQ", 1, 24, unpacked, packed, offset)
    record[30:32] = struct.pack("<H", len(extra))
    record = record[: 46 + 1] + extra
    end_64 = struct.pack("<4sQHHIIQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, len(record), directory)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, directory + len(record), 1)
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    wide = bytes(content[:directory]) + bytes(record) + end_64 + locator + tail
    assert zipfile.ZipFile(io.BytesIO(wide)).read("a") == b"text"
    assert read(wide) == ({"a": b"text"}, {})


def test_a_file_with_a_wrong_encryption_flag_is_read() -> None:
    content = archive()
    at = content.index(b"PK\x01\x02")
    content[6] |= 1
    content[at + 8] |= 1
    assert read(bytes(content)) == (TEXTS, {})


def test_entries_that_share_their_data_are_charged_each_time() -> None:
    content = bytes(archive())
    begin = content.index(b"PK\x01\x02")
    record = content[begin : content.index(b"PK\x01\x02", begin + 1)]
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0, 0, len(record) * 1_000, begin, 0)
    bomb = content[:begin] + record * 1_000 + tail
    meter = Meter(Limits(expanded_bytes=100_000), len(bomb))
    members = zip_members(Container("a.zip", bomb, meter))
    with pytest.raises(LimitReachedError, match="expanded_bytes"):
        deque((read_up_to(readable(member.source), 1 << 20) for member in members), 0)
    assert meter.expanded < 101_000

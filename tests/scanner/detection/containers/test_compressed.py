"""Tests for compressed streams. A damaged stream is read up to the damage."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import zlib
from collections.abc import Callable

import brotli
import pytest

from scanner.detection.containers.members import Container, UnreadableError, read_up_to, readable
from scanner.detection.containers.recognition import container_kind, members_of
from scanner.detection.limits import Limits, Meter
from tests.scanner.detection.compression_builders import lzip, zstandard_compressed

TEXT = b"a line of text, not of a token\n" * 50
Wrap = Callable[[bytes], bytes]
WITH_CHECKSUM: dict[str, Wrap] = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress}
SEVERAL: dict[str, Wrap] = {**WITH_CHECKSUM, "lzip": lzip, "zstd": zstandard_compressed}


def read(content: bytes) -> tuple[bytes, dict[str, int]]:
    kind = container_kind(content)
    assert kind is not None
    meter = Meter(Limits(), len(content))
    (member,) = members_of(kind, Container("a", content, meter))
    try:
        return read_up_to(readable(member.source), 10 << 20), dict(meter.unread)
    except UnreadableError as stop:
        return b"", {stop.reason: 1}


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("between", [b"", bytes(3), bytes(200_000), b"foreign bytes", os.urandom(100_000)])
def test_streams_with_anything_between_them_are_read(name: str, between: bytes) -> None:
    wrap = SEVERAL[name]
    assert read(wrap(TEXT) + between + wrap(b"end")) == (TEXT + b"end", {})


@pytest.mark.parametrize("name", SEVERAL)
@pytest.mark.parametrize("behind", [bytes(1_000), b"a signature", b"\xff" * 70_000])
def test_bytes_after_the_last_stream_are_not_damage(name: str, behind: bytes) -> None:
    assert read(SEVERAL[name](TEXT) + behind) == (TEXT, {})


@pytest.mark.parametrize("name", SEVERAL)
def test_a_cut_stream_is_counted(name: str) -> None:
    text = os.urandom(3_000)
    result, unread = read(SEVERAL[name](text)[:-30])
    assert text.startswith(result)
    assert unread == {"damaged": 1}


@pytest.mark.parametrize("name", ["gzip", "xz"])
def test_a_wrong_checksum_is_counted_and_loses_no_text(name: str) -> None:
    content = bytearray(WITH_CHECKSUM[name](TEXT))
    # Damage the checksum. In an xz file, it is directly before the index.
    index_size = (int.from_bytes(content[-8:-4], "little") + 1) * 4
    at = -8 if name == "gzip" else len(content) - 12 - index_size - 1
    content[at] ^= 1
    result, unread = read(bytes(content))
    assert result == TEXT
    assert unread == {"damaged": 1}


def test_a_wrong_checksum_of_zlib_loses_no_text() -> None:
    content = bytearray(zlib.compress(TEXT))
    content[-1] ^= 1
    assert read(bytes(content)) == (TEXT, {"damaged": 1})


def test_a_stream_after_a_broken_one_is_read() -> None:
    first = bytearray(gzip.compress(os.urandom(2_000)))
    first[-8] ^= 1
    result, unread = read(bytes(first) + gzip.compress(TEXT))
    assert result.endswith(TEXT)
    assert len(result) == 2_000 + len(TEXT)
    assert unread == {"damaged": 1}


def test_a_large_broken_stream_is_read_up_to_the_error() -> None:
    text = b"".join(b"%d\n" % number for number in range(400_000))
    content = bytearray(gzip.compress(text, 1))
    content[-8] ^= 1
    assert read(bytes(content)) == (text, {"damaged": 1})


@pytest.mark.parametrize(
    "content",
    [
        lzma.compress(b"text", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 128 << 20}]),
        b"]" + (1 << 30).to_bytes(4, "little") + b"\xff" * 8 + bytes(40),
        b"LZIP\x01\x1d" + bytes(40),
        b"\x28\xb5\x2f\xfd\0\xa8" + bytes(20),
    ],
    ids=["xz", "lzma", "lzip", "Zstandard"],
)
def test_a_dictionary_above_64_mb_is_counted_as_unsupported(content: bytes) -> None:
    assert read(content) == (b"", {"unsupported_compression": 1})


def test_a_dictionary_of_64_mb_is_read() -> None:
    content = lzma.compress(TEXT, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 64 << 20}])
    assert read(content) == (TEXT, {})


@pytest.mark.parametrize("size", [100_000, 300_000, 618_852, 1_000_001])
def test_a_large_brotli_stream_is_read_to_its_end(size: int) -> None:
    content = b"".join(b"%d: %x\n" % (number, number * 7919) for number in range(size // 12))
    assert read(brotli.compress(content, quality=3)) == (content, {})

"""Tests that container formats are recognised by their first bytes, and that ordinary text is not a container."""

from __future__ import annotations

import lzma
import random
import struct
import zlib
from collections.abc import Callable

import pytest
import zstandard

from scanner.detection import Detector, Document, Place, sha256_digest
from scanner.detection.containers.recognition import container_kind
from tests.scanner.detection.container_builders import CONTAINERS
from tests.scanner.detection.token_encoders import random_token


def _arj() -> bytes:
    header = bytes((30, 11, 1, 0, 0, 0, 2, 0)) + bytes(26) + b"a.arj\0\0"
    return b"\x60\xea" + struct.pack("<H", len(header)) + header + struct.pack("<I", zlib.crc32(header)) + bytes(60)


def _squashfs(compression: int) -> bytes:
    return b"hsqs" + struct.pack("<IIIIHH", 1, 0, 1 << 17, 0, compression, 17) + bytes(200)


UNSUPPORTED = {
    "rar": b"Rar!\x1a\x07\x01\0" + bytes(50),
    "cab": b"MSCF" + bytes(20) + b"\x03\x01" + bytes(50),
    "arj": _arj(),
    "squashfs": _squashfs(5),
    "parquet": b"PAR1\x15\x04" + bytes(50) + b"PAR1",
    "xar": b"xar!\0\x1c\0\x01" + bytes(50),
}


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_a_container_that_cannot_be_read_is_counted_by_its_name(name: str) -> None:
    result = Detector().scan(Document(UNSUPPORTED[name], Place("file", path="a.bin")))
    assert result.unread == {f"unsupported_container:{name}": 1}


@pytest.mark.parametrize(("number", "compress"), [(1, zlib.compress), (4, lzma.compress), (6, zstandard.compress)])
def test_the_blocks_of_a_squashfs_are_read(number: int, compress: Callable[[bytes], bytes]) -> None:
    token = random_token(random.Random(number))
    blocks = compress(b"a = 1\n" * 99) + compress(b"b = 2\n" * 99 + token + b"\n" + b"c = 3\n" * 99)
    result = Detector().scan(Document(_squashfs(number) + blocks + bytes(4096), Place("file", path="a.bin")))
    assert ([found.digest for found in result.candidates], result.unread) == ([sha256_digest(token)], {})


@pytest.mark.parametrize(
    "text",
    [
        b"PAR1 is the first parameter",
        b"MSCF: Microsoft Cabinet file",
        b"]\0\0\0[\0\0\0x\0\0\0" * 4,
        b"070701, 070702 and 070703 are dates",
        b"07070770707" * 20,
        b"!<arch>\nis how an archive begins",
        b"BZh91 is a name",
        b"BZhello",
        b"x^2 + y^2 = z^2, and x^3 is not",
        b"x\x01 and some text behind it, as a protocol has it",
        b"`\xea is not an archive by itself" + b" " * 60,
        b"hsqs is a magic",
        b"ARROW1 is a variable",
        b"FEA1 too",
        b"\x1f\x9dnot compressed",
        b"xar!",
        b"7z is a program",
        b"PK is a prefix",
        b"mozLz4 is a format",
        b"ustar" * 200,
    ],
)
def test_a_text_that_begins_like_a_container_is_a_text(text: bytes) -> None:
    result = Detector().scan(Document(text, Place("file", path="a.txt")))
    assert result.unread == {}
    assert container_kind(text) is None


@pytest.mark.parametrize("exponent", range(2, 200))
def test_a_formula_is_not_taken_for_a_zlib_stream(exponent: int) -> None:
    assert container_kind(b"x^%d + %d * x + 1\n" % (exponent, exponent) * 10) is None


AFTER_A_PROGRAM = (
    "zip after a program",
    "7z after a program",
    "archive after a long script",
    "PHP archive",
    "Blosc chunk",
    "Zstandard without its magic number",
    "Feather (Arrow), LZ4",
    "embedded Snappy",
    "LevelDB log, record over two blocks",
    "Weights & Biases, record over two blocks",
    "RTF of Outlook (winmail.dat)",
)
"""Containers that begin with a program or text, so that their first bytes do not identify them."""


def test_every_container_is_recognised_by_512_bytes() -> None:
    for name, build in CONTAINERS.items():
        content = build(b"text " * 2_000)
        kind = container_kind(content)
        if kind is not None and name not in AFTER_A_PROGRAM:
            assert container_kind(content[:512]) == kind, name

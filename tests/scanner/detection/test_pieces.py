"""Tests for large contents, which are scanned in pieces of a fixed size."""

from __future__ import annotations

import io
import random
import zlib

import pytest

from scanner.detection import Detector, pieces, sha256_digest
from scanner.detection.pieces import Pieces, scan_pieces
from tests.scanner.detection.archive_builders import zipped
from tests.scanner.detection.token_encoders import random_token

PIECE = 256 << 10
TOKEN = random_token(random.Random(3))
NOISE = bytes(byte | 0x80 for byte in random.Random(4).randbytes(PIECE))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", PIECE)
    monkeypatch.setattr(pieces, "MAX_WHOLE_BYTES", 4 * PIECE)


def scanned(content: bytes) -> Pieces:
    stream = io.BytesIO(content)
    return scan_pieces(Detector(), stream.read(PIECE), stream.read)


def test_an_archive_near_the_end_of_a_program_is_read_whole() -> None:
    archive = zipped(b"key = " + TOKEN) + bytes(20_000)
    result = scanned(b"\x7fELF\2\1\1" + bytes(PIECE) + NOISE + archive)
    assert [found.digest for found in result.candidates] == [sha256_digest(TOKEN)]
    assert result.unread == {}
    assert result.bytes == 7 + 2 * PIECE + len(archive)


def test_a_stream_that_two_pieces_divide_is_no_damage() -> None:
    packed = zlib.compress(b"".join(b"line %d of a text\n" % number for number in range(9_000)))
    before = b"\x7fELF\2\1\1" + bytes(5 * PIECE - len(packed) // 2 - 7)
    result = scanned(before + packed + NOISE * 4 + b" " + TOKEN)
    assert [found.digest for found in result.candidates] == [sha256_digest(TOKEN)]
    assert result.unread == {"container_over_limit": 1}


def test_a_long_text_is_scanned_in_pieces_with_the_right_lines() -> None:
    text = b"a line of text\n" * (6 * PIECE // 15)
    result = scanned(text + TOKEN)
    assert [(found.digest, found.line) for found in result.candidates] == [
        (sha256_digest(TOKEN), text.count(b"\n") + 1)
    ]
    assert (result.unread, result.bytes) == ({}, len(text) + len(TOKEN))


@pytest.mark.parametrize("zeros", [PIECE - 20, 2 * PIECE, 6 * PIECE - 20])
def test_a_token_between_zeros_is_found_wherever_a_piece_begins(zeros: int) -> None:
    content = bytes(zeros) + b"\n" + TOKEN + b"\n" + bytes(3 * PIECE)
    result = scanned(content)
    assert [(found.digest, found.line) for found in result.candidates] == [(sha256_digest(TOKEN), 2)]
    assert (result.unread, result.bytes) == ({}, len(content))

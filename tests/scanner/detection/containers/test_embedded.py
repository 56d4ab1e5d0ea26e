"""Tests for compressed streams inside files of unknown formats."""

from __future__ import annotations

import gzip
import lzma
import random
import zlib
from collections.abc import Callable

import pytest
import zstandard

from scanner.detection import Detector, Document, Place, ScanResult, sha256_digest
from scanner.detection.containers import decompressors
from scanner.detection.containers.recognition import container_kind
from tests.scanner.detection.archive_builders import zipped
from tests.scanner.detection.compression_builders import raw_deflated
from tests.scanner.detection.container_builders import behind_a_header
from tests.scanner.detection.document_builders import avro, compound_file
from tests.scanner.detection.fuzz_targets import read_all
from tests.scanner.detection.stream_builders import arrow, embedded_snappy
from tests.scanner.detection.token_encoders import random_token

TOKEN = random_token(random.Random(5))
TEXT = b"x = 1\n" * 40 + TOKEN + b"\n" * 40


def scanned(content: bytes) -> ScanResult:
    return Detector().scan(Document(content, Place("file", path="a.bin")))


def digests(content: bytes) -> set[str]:
    return {candidate.digest for candidate in scanned(content).candidates}


def test_every_stream_in_an_unknown_file_is_read() -> None:
    tokens = [random_token(random.Random(seed)) for seed in range(3)]
    content = b"\x01\0".join(behind_a_header(zlib.compress(TEXT.replace(TOKEN, token))) for token in tokens)
    assert digests(content) == {sha256_digest(token) for token in tokens}


@pytest.mark.parametrize("offset", [0, 1, (1 << 20) - 40, (1 << 20) - 1, 3 << 20])
def test_a_stream_is_found_wherever_it_begins(offset: int) -> None:
    filler = b"\x01\0" + bytes(offset)
    assert digests(filler + gzip.compress(TEXT)) == {sha256_digest(TOKEN)}


def test_magic_numbers_in_random_bytes_are_neither_read_nor_counted() -> None:
    noise = random.Random(1).randbytes(1 << 20)
    crowd = b"\0" + b"".join(noise[at : at + 9] + b"x\x9c" for at in range(0, 200_000, 9))
    for content in (b"\0" + noise, crowd):
        result = scanned(content)
        assert (result.candidates, dict(result.unread)) == ((), {})


def test_a_damaged_stream_is_counted_and_read_up_to_the_damage() -> None:
    packed = bytearray(zlib.compress(TEXT + random.Random(2).randbytes(100_000), 1))
    packed[60_000:60_010] = bytes(10)
    result = scanned(behind_a_header(bytes(packed)))
    assert {candidate.digest for candidate in result.candidates} == {sha256_digest(TOKEN)}
    assert result.unread["damaged"] == 1


def test_text_and_random_bytes_are_no_raw_deflate() -> None:
    noise = [random.Random(seed).randbytes(2000) for seed in range(300)]
    assert not [content for content in noise if container_kind(content) is not None]
    assert container_kind(raw_deflated(TEXT)) == "embedded"


@pytest.mark.parametrize("cut", range(8, 600, 37))
def test_a_truncated_avro_file_is_counted(cut: int) -> None:
    whole = avro(TEXT)
    result = scanned(whole[: len(whole) - min(cut, len(whole) - 60)])
    assert result.unread or result.candidates


def test_a_compound_file_whose_chain_breaks_is_counted_and_read_up_to_the_break() -> None:
    broken = bytearray(compound_file(TOKEN + bytes(6000)))
    at = 512 + 4 * 6
    broken[at : at + 4] = b"\xff\xff\xff\xff"
    result = scanned(bytes(broken))
    assert sha256_digest(TOKEN) in {candidate.digest for candidate in result.candidates}
    assert result.unread["damaged"] == 1


def test_a_compound_file_with_one_repeated_sector_costs_no_more_than_its_size() -> None:
    content = bytearray(compound_file(TOKEN) + bytes(1 << 20))
    content[76 : 76 + 436] = bytes(436)
    content[512:1024] = bytes(512)
    meter = read_all("ole", bytes(content))
    assert meter.expanded < len(content)
    assert meter.decoded < len(content) // 64


CONSTANTS = b"\x7fELF\0\x04WEBP\x04WAVE\x04PK\x03\x04\x03xl/\0\0\0\x04&^[ \\t\\f]*#.*?coding[:=]" + bytes(64)
"""Constants of a program that recognises file formats, for example the magic number of zip."""


def test_the_magic_number_of_zip_as_a_constant_hides_no_stream_and_is_not_counted() -> None:
    assert scanned(CONSTANTS * 20).unread == {}
    assert digests(CONSTANTS * 20 + zlib.compress(TEXT)) == {sha256_digest(TOKEN)}


@pytest.mark.parametrize(
    "code", [b"\x28\xb5\x2f\xfdA\xb8\x04\0\0\0\x85\xd2C\x884\x06", b"\x28\xb5\x2f\xfdt'\xc7E\xe4P*M\x18H\x8d}"]
)
def test_machine_code_that_compares_with_a_magic_number_is_not_counted(code: bytes) -> None:
    content = b"\x7fELF\0" + (code + bytes(range(200))) * 9
    assert scanned(content).unread == {}
    assert digests(content + zlib.compress(TEXT)) == {sha256_digest(TOKEN)}


def test_a_stream_that_inflates_to_numbers_by_chance_is_no_damage() -> None:
    """The file has a table of zeros that is also valid compressed data."""
    table = b"x\x01\0\0\x40\xff\xbf" + bytes(0x4000) + b"\xff" * 100
    assert scanned(b"\0\1\0\0" + bytes(50) + table).unread == {}


def test_a_file_of_a_zip_inside_another_file_is_read_without_a_directory() -> None:
    whole = zipped(TEXT)
    content = b"\x01PAK\0" * 9 + whole[: whole.index(b"PK\x01\x02")] + bytes(100)
    result = scanned(content)
    assert ([found.digest for found in result.candidates], result.unread) == ([sha256_digest(TOKEN)], {})


@pytest.mark.parametrize("build", [arrow, embedded_snappy])
def test_every_frame_in_a_file_is_read(build: Callable[[bytes], bytes]) -> None:
    tokens = [random_token(random.Random(seed)) for seed in range(3)]
    content = b"".join(build(TEXT.replace(TOKEN, token)) for token in tokens)
    assert not any(token in content for token in tokens)
    assert scanned(content).unread == {}
    assert digests(content) == {sha256_digest(token) for token in tokens}


@pytest.mark.parametrize(
    ("lc", "lp", "pb", "dictionary"), [(0, 0, 0, 1 << 12), (1, 2, 3, 5000), (4, 0, 4, 1 << 23), (3, 0, 2, 12_345_678)]
)
def test_lzma_with_unusual_properties_is_read(lc: int, lp: int, pb: int, dictionary: int) -> None:
    chain = [{"id": lzma.FILTER_LZMA1, "lc": lc, "lp": lp, "pb": pb, "dict_size": dictionary}]
    assert digests(lzma.compress(TEXT, lzma.FORMAT_ALONE, filters=chain)) == {sha256_digest(TOKEN)}


@pytest.mark.parametrize("has_size", [False, True])
def test_zstandard_without_its_magic_number_is_read(has_size: bool) -> None:
    form = zstandard.ZstdCompressionParameters(format=zstandard.FORMAT_ZSTD1_MAGICLESS, write_content_size=has_size)
    packed = zstandard.ZstdCompressor(compression_params=form).compress(TEXT * 9)
    assert digests(packed) == {sha256_digest(TOKEN)}
    assert container_kind(packed) == "magicless_zstd"


def test_bytes_that_begin_like_headless_streams_are_none() -> None:
    chance = random.Random(4)
    sparse = [bytes(byte if chance.random() < 0.3 else 0 for byte in chance.randbytes(400)) for _ in range(500)]
    assert {container_kind(content) for content in sparse} == {None}


@pytest.mark.parametrize(
    "header", [b"\0\xcf\x90\x73\0\0\x0d\0\0\0\0\0\0\0", b"\x01\0\x33\x92\xb5\xe5\x0a\1\5\6\0\5\1\1\x80\x80\0"]
)
def test_an_archive_of_rar_inside_a_program_is_counted_as_not_read(header: bytes) -> None:
    content = b"MZ\0" + bytes(500) + b"Rar!\x1a\x07" + header + bytes(200)
    assert scanned(content).unread == {"unsupported_container:rar": 1}


@pytest.mark.parametrize("behind", [b"\0\xda\x08RarFile", b"\x01\0\xda\x08RarFile", b"\0", b"\x01\0", b""])
def test_the_magic_number_of_rar_as_a_constant_hides_no_stream_and_is_not_counted(behind: bytes) -> None:
    content = b"\x7fELF\0" + bytes(500) + b"Rar!\x1a\x07" + behind
    assert scanned(content).unread == {}
    assert digests(content + bytes(64) + zlib.compress(TEXT)) == {sha256_digest(TOKEN)}


def test_many_false_magic_numbers_cost_little_outside_of_a_reader_and_hide_nothing_silently() -> None:
    # The header announces a compressed block of 128 kB, but the zeros after it are no valid block.
    block = ((128 << 10) << 3 | 2 << 1).to_bytes(3, "little")
    content = b"\0\1" + (b"\x28\xb5\x2f\xfd\0\x38" + block + bytes(11)) * 8_000 + gzip.compress(TEXT)
    calls = 0
    original = decompressors.zstd_codec

    def counted() -> decompressors.Codec:
        nonlocal calls
        calls += 1
        return original()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decompressors, "zstd_codec", counted)
        assert container_kind(content) == "embedded"
        assert calls < 100
    result = scanned(content)
    assert result.candidates or result.unread == {"work": 1}

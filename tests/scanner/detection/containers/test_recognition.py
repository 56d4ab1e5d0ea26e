"""Tests for archives and compressed files of all formats. The content determines the format."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.detection import Candidate, Detector, Document, Place, ScanResult, sha256_digest
from scanner.detection.containers.recognition import is_ascii_text, signed_kind
from scanner.detection.limits import Limits
from tests.scanner.detection.archive_builders import ar, seven_zipped, tarred, zipped
from tests.scanner.detection.compression_builders import raw_deflated, zstandard_compressed
from tests.scanner.detection.container_builders import CONTAINERS
from tests.scanner.detection.document_builders import png
from tests.scanner.detection.stream_builders import brotli_compressed, magicless_zstandard, rare_lzma
from tests.scanner.detection.token_encoders import ENCODINGS, random_token

TOKEN = random_token(random.Random(11))
TEXT = b"first line\n  key = " + TOKEN + b" end\n"
SMALL = Limits(piece_bytes=100_000, member_bytes=400_000)


def scan(content: bytes, limits: Limits | None = None, path: str = "d/a.bin") -> ScanResult:
    return Detector(limits=limits or Limits()).scan(Document(content, Place("file", path=path)))


def found(result: ScanResult, token: bytes = TOKEN) -> list[Candidate]:
    return [candidate for candidate in result.candidates if candidate.digest == sha256_digest(token)]


@pytest.fixture(scope="module")
def built() -> dict[str, bytes]:
    return {name: build(TEXT) for name, build in CONTAINERS.items()}


def test_a_container_without_a_signature_is_never_taken_for_ascii_text(built: dict[str, bytes]) -> None:
    taken = {name for name, content in built.items() if is_ascii_text(content) and signed_kind(content) is None}

    # These two files are ASCII text. The archives in them are found by a search for base64 text, not by their format.
    assert taken == {"zip in base64", "tar.gz in base64"}


@pytest.mark.parametrize("compressed", [raw_deflated, brotli_compressed, magicless_zstandard, rare_lzma])
@given(st.integers(0, 2**32))
def test_a_compressed_token_is_never_taken_for_ascii_text(compressed: Callable[[bytes], bytes], seed: int) -> None:
    assert not is_ascii_text(compressed(random_token(random.Random(seed))))


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_token_is_found_in_every_container(name: str, built: dict[str, bytes]) -> None:
    candidates = found(scan(built[name]))
    assert candidates
    assert len({(candidate.container, candidate.line, candidate.column) for candidate in candidates}) == len(candidates)


@pytest.mark.parametrize(
    ("name", "container"),
    [
        ("zip", "a.bin!/b/c.txt"),
        ("zip in a zip", "a.bin!/inner.zip!/b/c.txt"),
        ("tar.gz", "a.bin!/content!/b/c.txt"),
        ("deb", "a.bin!/data.tar.xz!/data.tar!/b/c.txt"),
        ("PNG zTXt", "a.bin!/zTXt:Comment"),
        ("SQLite, value over two pages", "a.bin!/settings"),
        ("pickle", ""),
    ],
)
def test_the_path_to_a_candidate_names_every_member(name: str, container: str, built: dict[str, bytes]) -> None:
    candidate = found(scan(built[name]))[0]
    assert (candidate.container, candidate.line, candidate.column) == (container, 2, 9)


def test_the_content_of_a_compressed_file_is_named_after_it() -> None:
    (candidate,) = found(scan(gzip.compress(tarred(TEXT)), path="x/logs.tgz"))
    assert candidate.container == "logs.tgz!/logs.tar!/b/c.txt"


@pytest.mark.parametrize("encoding", ["base64", "hex", "UTF-16, little-endian with mark", "gzip in base64", r"\u"])
def test_encodings_are_found_inside_containers(encoding: str) -> None:
    content = ENCODINGS[encoding](TOKEN, random.Random(1))
    assert len(found(scan(zipped(content)))) == 1


def test_names_of_members_are_read() -> None:
    name = TOKEN.decode()
    result = scan(gzip.compress(tarred(b"nothing", name=f"keys/{name}.txt")))
    assert len(found(result)) == 1
    assert name not in repr(result)


def test_the_target_of_a_link_in_a_tar_is_read() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = tarfile.SYMTYPE, TOKEN.decode()
        archive.addfile(entry)
    assert [candidate.container for candidate in found(scan(buffer.getvalue()))] == ["a.bin!/content!/link"]


def test_containers_are_opened_ten_deep_and_the_eleventh_is_counted() -> None:
    content = TEXT
    for _ in range(10):
        content = zipped(content, "z")
    assert found(scan(content))
    assert scan(content).unread == {}
    deeper = scan(zipped(content, "z"))
    assert not found(deeper)
    assert deeper.unread == {"container_depth": 1}


@pytest.mark.parametrize("wrap", [gzip.compress, bz2.compress, lzma.compress, zstandard_compressed, zipped])
def test_a_member_larger_than_memory_allows_is_read_in_pieces(wrap: Callable[[bytes], bytes]) -> None:
    lines = b"".join(b"%08d is a line of some length, not of equal\n" % number for number in range(30_000))
    content = lines + b"here: " + TOKEN + b"\n" + lines + TOKEN
    candidates = found(scan(wrap(content), SMALL))
    assert [(candidate.line, candidate.column) for candidate in candidates] == [(30_001, 7), (60_002, 1)]


@pytest.mark.parametrize("shift", [-41, -40, -20, -1, 0, 1])
def test_a_token_across_the_edge_of_two_pieces_is_found_once(shift: int) -> None:
    content = b"." * (SMALL.piece_bytes + shift) + TOKEN + b"." * 200_000
    assert [candidate.column for candidate in found(scan(gzip.compress(content), SMALL))] == [
        SMALL.piece_bytes + shift + 1
    ]


def test_a_large_tar_is_read_as_a_stream() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for number in range(20):
            body = b"x" * 90_000 + (TOKEN if number == 19 else b"")
            entry = tarfile.TarInfo(f"{number}.txt")
            entry.size = len(body)
            archive.addfile(entry, io.BytesIO(body))
    result = scan(buffer.getvalue(), SMALL)
    assert [candidate.container for candidate in found(result)] == ["a.bin!/content!/19.txt"]
    assert result.unread == {}


def test_a_container_that_needs_all_its_bytes_and_is_too_large_is_counted() -> None:
    content = zipped(random.Random(1).randbytes(500_000), method=zipfile.ZIP_STORED)
    assert scan(gzip.compress(content), SMALL).unread == {"member_size": 1}


def test_encrypted_and_unknown_members_are_counted_and_their_siblings_read() -> None:
    content = bytearray(zipped(TEXT, method=zipfile.ZIP_STORED))
    directory, begin = content.rfind(b"PK\x01\x02"), content.index(TEXT)
    content[directory + 8] |= 1
    content[begin : begin + len(TEXT)] = bytes(letter ^ 0x5A for letter in TEXT)
    assert scan(bytes(content)).unread == {"encrypted": 1}
    content = bytearray(zipped(TEXT))
    content[content.rfind(b"PK\x01\x02") + 10] = 97
    content[8] = 97
    assert scan(bytes(content)).unread == {"unsupported_compression": 1}
    assert scan(b"%PDF-1.4 /Encrypt 5 0 R").unread == {"encrypted": 1}


def test_a_pack_whose_deltas_need_other_objects_is_counted() -> None:
    body = zlib.compress(b"\x05\x05\x90\x05")
    pack = b"PACK\0\0\0\2\0\0\0\1" + bytes((0x74,)) + bytes(20) + body
    assert scan(pack + bytes(20)).unread == {"missing_base": 1}


BOMB = bytes(64 << 20)


def _bombs() -> Iterator[tuple[str, bytes]]:
    for wrap in (gzip.compress, bz2.compress, lzma.compress, zstandard_compressed):
        yield wrap.__module__, wrap(BOMB)
    yield "zip", zipped(BOMB)
    yield "zip, many", _zip_of(300, bytes(1 << 20))
    yield "tar.gz", gzip.compress(tarred(BOMB))
    yield "png", png(BOMB, b"zTXt")
    yield "pdf", b"%PDF-1.4\n<</Filter/FlateDecode>>stream\n" + zlib.compress(BOMB) + b"\nendstream"
    yield "gzip of gzip", gzip.compress(gzip.compress(BOMB))
    yield "pack", b"PACK\0\0\0\2\0\0\0\1" + b"\xb0\x80\x80\x80\x02" + zlib.compress(BOMB)


def _zip_of(count: int, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(count):
            archive.writestr(f"{number}", content)
    return buffer.getvalue()


def test_a_decompression_bomb_costs_limited_bytes_and_memory() -> None:
    limits = Limits(expanded_bytes=8 << 20, piece_bytes=1 << 20, member_bytes=4 << 20)
    for name, content in _bombs():
        tracemalloc.start()
        result = scan(content, limits)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert result.bytes_read - len(content) <= (8 << 20) + (4 << 20), name
        assert peak < 24 << 20, (name, peak)
        assert set(result.unread) & {"expanded_bytes", "member_size"}, (name, result.unread)


def test_a_high_ratio_stops_a_small_document_early() -> None:
    content = gzip.compress(BOMB)
    result = scan(content, Limits(ratio=10, ratio_floor=1 << 20))
    assert result.unread == {"expansion_ratio": 1}
    assert result.bytes_read < len(content) + (2 << 20)


def test_the_number_of_members_is_limited() -> None:
    many = _zip_of(50, b"x")
    assert scan(many, Limits(entries=10)).unread == {"entries": 1}
    assert scan(b"".join(gzip.compress(b"") for _ in range(50)), Limits(entries=10)).unread == {"entries": 1}


def test_reading_ends_at_the_time_limit() -> None:
    ticks = iter(range(10_000))
    detector = Detector(limits=Limits(seconds=20), clock=lambda: float(next(ticks)))
    result = detector.scan(Document(TOKEN + b"\n" + TEXT, Place("file")))
    assert len(result.candidates) == 2
    slow = detector.scan(Document(_zip_of(200, TEXT), Place("file")))
    assert slow.unread == {"seconds": 1}
    assert 0 < len(slow.candidates) < 30


def test_findings_before_a_reached_limit_are_reported() -> None:
    content = gzip.compress(TEXT + BOMB)
    assert found(scan(content, Limits(expanded_bytes=4 << 20)))


@pytest.mark.parametrize("name", CONTAINERS)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_a_damaged_container_never_makes_a_scan_fail(name: str, data: st.DataObject, built: dict[str, bytes]) -> None:
    content = bytearray(built[name])
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut]), bytes(content[:cut]) + bytes(content)):
        scan(damaged, SMALL)


@given(st.binary(max_size=300), st.sampled_from(sorted(CONTAINERS)))
@settings(max_examples=100, deadline=None)
def test_no_bytes_make_a_scan_fail(content: bytes, name: str) -> None:
    starts = (
        b"PK\x03\x04",
        b"\x1f\x8b\x08",
        b"7z\xbc\xaf\x27\x1c",
        b"PACK\0\0\0\2",
        b"SQLite format 3\0",
        b"%PDF-",
        b"x\x9c",
    )
    for start in (*starts, b"!<arch>\n", b"\xed\xab\xee\xdb", b"070701", b"\x89PNG\r\n\x1a\n", b"# v2 git bundle\n"):
        scan(start + content, SMALL)
    scan(content, SMALL)


def test_a_solid_7z_above_the_size_limit_of_members_is_read_as_a_stream() -> None:
    result = scan(seven_zipped(bytes(500_000) + TEXT), SMALL)
    assert result.unread == {}
    assert [candidate.line for candidate in found(result)] == [2]


def test_an_archive_in_an_archive_of_another_kind_is_opened() -> None:
    content = ar((b"control.tar.gz", gzip.compress(tarred(zipped(TEXT), name="x.jar"))))
    (candidate,) = found(scan(content))
    assert candidate.container == "a.bin!/control.tar.gz!/control.tar!/x.jar!/b/c.txt"


def test_bytes_after_the_end_of_a_picture_are_not_damage() -> None:
    picture = png(b"nothing")
    assert picture.endswith(b"IEND" + zlib.crc32(b"IEND").to_bytes(4))
    for rest in (b"", b"\n", b"twelve bytes"):
        assert not scan(picture + rest).unread

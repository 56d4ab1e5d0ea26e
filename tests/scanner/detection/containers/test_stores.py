"""Tests for files in which programs store mails, records, messages or database rows."""

from __future__ import annotations

import gzip
import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.detection import Detector, Document, Place, ScanResult, sha256_digest
from scanner.detection.containers.recognition import container_kind
from tests.scanner.detection import store_builders
from tests.scanner.detection.token_encoders import random_token

TOKEN = random_token(random.Random(21))


def scan(content: bytes) -> ScanResult:
    return Detector().scan(Document(content, Place("file", path="a.bin")))


def digests(content: bytes) -> set[str]:
    return {found.digest for found in scan(content).candidates}


@pytest.mark.parametrize("version", [14, 15, 23, 36])
@given(before=st.binary(max_size=99), after=st.binary(max_size=99), wide=st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_mail_in_a_store_of_outlook_is_read(version: int, before: bytes, after: bytes, wide: bool) -> None:
    text = TOKEN.decode().encode("utf-16-le") if wide else TOKEN
    store = store_builders.outlook_store(before + text + b"\0\0" + after, version=version)
    assert sha256_digest(TOKEN) in digests(store)


def test_a_compressed_attachment_in_a_store_of_outlook_is_read() -> None:
    for method in (0, 1):
        store = store_builders.outlook_store(bytes(5_000) + zlib.compress(TOKEN * 2), method=method)
        assert digests(store) == {sha256_digest(TOKEN)}


def test_a_store_of_outlook_with_high_encryption_is_counted_as_encrypted() -> None:
    assert scan(store_builders.outlook_store(b"any bytes" * 99, method=2)).unread == {"encrypted": 1}


@pytest.mark.parametrize("start", [b"", b":W&B\xbe\xe1\0"])
@pytest.mark.parametrize("cut", [1, 3, 20, 39])
def test_a_record_that_two_blocks_divide_is_read(start: bytes, cut: int) -> None:
    log = store_builders.record_log(b"\n" * (80 - 2 * cut) + TOKEN, start)
    assert container_kind(log) == "record_log"
    assert sha256_digest(TOKEN) in digests(log)


@pytest.mark.parametrize(
    "content",
    [
        bytes(40_000),
        b"\1\2\3\4\0\0\1" * 6_000,
        store_builders.record_log(TOKEN)[:32_768],
        b"text of a log\n" * 3_000,
        random.Random(1).randbytes(70_000),
    ],
)
def test_other_files_are_no_record_logs(content: bytes) -> None:
    assert container_kind(content) != "record_log"


@given(size=st.integers(1, 60), body=st.sampled_from([b"", b"x" * 500]), cut=st.integers(0, 90))
@settings(max_examples=25, deadline=None)
def test_a_body_in_chunks_is_read(size: int, body: bytes, cut: int) -> None:
    response = store_builders.chunked_response(TOKEN + body, size)
    request = b"GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n"
    for recorded in (response, request + response, b"WARC/1.0\r\n\r\n" + response, response + response[:cut]):
        assert digests(recorded) == {sha256_digest(TOKEN)}


def test_a_message_without_chunks_is_a_text() -> None:
    for text in (
        b"HTTP/1.1 200 OK\r\n\r\nchunked",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / and transfer-encoding: chunked\n",
    ):
        assert container_kind(text) is None


def test_other_streams_in_a_recording_are_read() -> None:
    first = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(TOKEN * 2)
    second = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    assert digests(first + b"\r\n" + second) == {sha256_digest(TOKEN)}


def test_the_overflow_pages_of_a_deleted_row_are_joined() -> None:
    assert digests(store_builders.deleted_overflow(b"key: " + TOKEN)) == {sha256_digest(TOKEN)}


def test_a_deleted_value_that_is_overwritten_in_part_is_no_damage() -> None:
    content = store_builders.deleted_row(random.Random(2).randbytes(1_500))
    at = content.index(b"\x1f\x8b\x08") + 1_200
    result = scan(content[:at] + bytes(60) + content[at + 60 :])
    assert (result.candidates, result.unread) == ((), {})


PROGRAMS = {
    "nsis": b"MZ".ljust(1_028, b"\0") + b"\xef\xbe\xad\xdeNullsoftInst" + bytes(90),
    "inno_setup": b"MZ".ljust(900, b"\0") + b"Inno Setup Setup Data (6.2.2) (u)" + bytes(90),
    "upx": b"MZ".ljust(400, b"\0") + b"UPX0".ljust(40, b"\0") + b"UPX1".ljust(40, b"\0"),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_that_unpacks_itself_is_counted_by_its_packer(name: str) -> None:
    assert scan(PROGRAMS[name]).unread == {f"unsupported_container:{name}": 1}
    assert scan(PROGRAMS[name] + gzip.compress(TOKEN * 9)).unread == {f"unsupported_container:{name}": 1}
    assert digests(PROGRAMS[name] + gzip.compress(TOKEN * 9)) == {sha256_digest(TOKEN)}


def test_a_program_compressed_by_upx_is_counted_on_linux_only_if_its_header_says_so() -> None:
    assert scan(b"\x7fELF".ljust(236, b"\1") + b"UPX!" + bytes(90)).unread == {"unsupported_container:upx": 1}
    assert scan(b"\x7fELF".ljust(9_000, b"\1") + b"UPX!" + bytes(90)).unread == {}


def test_a_tool_that_names_packers_is_no_packed_program() -> None:
    text = b"\xef\xbe\xad\xdeNullsoftInst UPX! UPX1 Nullsoft"
    assert scan(b"MZ".ljust(901, b"\0") + text + bytes(90)).unread == {}

"""Tests for PDFs: text in strings, fonts and forms, and encrypted files that open without a password."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.detection.containers.members import Container, UnreadableError, read_up_to, readable
from scanner.detection.containers.pdf import pdf_members
from scanner.detection.limits import LimitReachedError, Limits, Meter
from tests.scanner.detection.fuzz_targets import fuzz_pdf, read_all

# These files were made with pypdf 7.1. Each has one page, and was encrypted by encrypt(user_password="" or "secret",
# owner_password="own", algorithm=…).
ENCRYPTED = Path(__file__).parents[3] / "data" / "encrypted_pdfs"


def texts(content: bytes) -> list[bytes]:
    meter = Meter(Limits(), len(content))
    members = pdf_members(Container("a.pdf", content, meter))
    found = [read_up_to(readable(member.source), 1 << 20) for member in members]
    assert meter.unread == {}
    return found


def page(*streams: bytes) -> bytes:
    parts = [b"obj<</Filter/FlateDecode>>stream\n" + zlib.compress(body) + b"\nendstream\n" for body in streams]
    return b"%PDF-1.7\n" + b"".join(parts)


@pytest.mark.parametrize("algorithm", ["RC4-40", "RC4-128", "AES-128", "AES-256-R5", "AES-256"])
def test_a_file_that_opens_without_a_password_is_decrypted(algorithm: str) -> None:
    content = (ENCRYPTED / f"{algorithm}.pdf").read_bytes()
    assert b"a line of text that was encrypted" in texts(content)[-1]


@pytest.mark.parametrize("algorithm", ["RC4-128", "AES-256"])
def test_a_file_with_a_password_is_counted(algorithm: str) -> None:
    content = (ENCRYPTED / f"password-{algorithm}.pdf").read_bytes()
    assert read_all("pdf", content).unread == {"encrypted": 1}


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_mutation_of_an_encrypted_file_makes_the_reader_fail(data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(ENCRYPTED.glob("*.pdf"))))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    fuzz_pdf(bytes(content))


def test_strings_of_a_text_object_are_put_together() -> None:
    content = page(rb"BT (one) Tj 0 -12 Td (t\167o) Tj [(th) -250 (ree)] TJ <666F7572> Tj ET BT (next\)) Tj ET")
    assert texts(content)[1] == b"onetwothreefour\nnext)\n"


def test_text_in_a_stream_without_filter_is_read() -> None:
    assert texts(b"%PDF-1.4\n<</Length 1>>stream\nBT (on) Tj (e) Tj ET\nendstream") == [b"one\n"]


def test_glyph_numbers_become_letters_by_every_form_of_a_map() -> None:
    cmap = (
        b"begincodespacerange <0000> <FFFF> endcodespacerange 1 beginbfchar <0001> <0041> endbfchar "
        b"2 beginbfrange <0002> <0004> <0062> <0005> <0006> [<0058> <00590059>] endbfrange"
    )
    assert texts(page(b"<000100020003000400050006> Tj", cmap))[-1] == b"AbcdXYY"


def test_maps_of_one_byte_codes_are_applied() -> None:
    cmap = b"begincodespacerange <00> <FF> endcodespacerange 2 beginbfchar <01> <0041> <02> <0042> endbfchar"
    assert texts(page(rb"(\001\002) Tj", cmap))[-1] == b"AB"


def test_a_large_stream_is_read_in_pieces() -> None:
    body = b"word " * (1 << 20)
    assert texts(page(body))[0] == body[: 1 << 20]


@pytest.mark.parametrize("name", ["ASCII85Decode", "LZWDecode", "RunLengthDecode", "FlateDecode"])
def test_a_filter_stops_at_the_budget(name: str) -> None:
    bodies = {
        "ASCII85Decode": b"z" * (1 << 20),
        "LZWDecode": bytes(range(256)) * 4096,
        "RunLengthDecode": b"\x81a" * (1 << 20),
        "FlateDecode": zlib.compress(bytes(32 << 20)),
    }
    content = b"%PDF-1.4\n<</Filter/" + name.encode() + b">>stream\n" + bodies[name] + b"\nendstream"
    limits = Limits(expanded_bytes=1 << 20, decoding_steps=100_000)
    meter = read_all("pdf", content, limits)
    assert meter.expanded <= (1 << 20) + (512 << 10)
    assert meter.decoded <= 200_000


def test_filters_in_a_chain_share_the_budget() -> None:
    body = b"\0" * (8 << 20)
    for _ in range(3):
        body = zlib.compress(body)
    filters = b"[" + b"/FlateDecode " * 3 + b"]"
    content = b"%PDF-1.4\n<</Filter" + filters + b">>stream\n" + body + b"\nendstream"
    meter = Meter(Limits(expanded_bytes=1 << 20), len(content))
    with pytest.raises((LimitReachedError, UnreadableError)):
        list(pdf_members(Container("a.pdf", content, meter)))
    assert meter.expanded <= 2 << 20

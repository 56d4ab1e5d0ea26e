"""Tests for the prefilter, the quick search in the worker's own process.

It finds the same tokens as the detector, or says that a confined process must read the content.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import random
import sysconfig
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.detection.engine import all_findings
from scanner.detection.findings import Finding
from scanner.detection.limits import Limits, Meter
from scanner.detection.patterns.matcher import WINDOW
from scanner.detection.patterns.needles import needles
from scanner.detection.prefilter import CHUNKS_PER_LOOK, CLEAN, MAX_LOOKS, MAX_PLAIN_FINDINGS, plain_only
from tests.scanner.detection.archive_builders import zipped
from tests.scanner.detection.silent_kinds import SILENT_KINDS
from tests.scanner.detection.token_encoders import ENCODINGS, random_token

ALL_ENCODERS = {**ENCODINGS, **{name: kind.encode for name, kind in SILENT_KINDS.items()}}
NEEDLES = [needle.text for needle in needles()]
PIECES = st.lists(
    st.sampled_from([*NEEDLES, b" ", b'"', b"\n", b"A" * 9])
    | st.binary(max_size=40)
    | st.builds(
        lambda name, seed: ALL_ENCODERS[name](random_token(random.Random(seed)), random.Random(seed)),
        st.sampled_from(sorted(ALL_ENCODERS)),
        st.integers(0, 2**32),
    ),
    max_size=6,
)


def token_of(seed: int) -> bytes:
    return random_token(random.Random(seed))


def in_full(content: bytes) -> list[Finding]:
    meter = Meter(Limits(), len(content))
    found = all_findings(content, "a", meter)
    assert not meter.unread or plain_only(content).needs_reader
    return found


@given(PIECES)
@settings(max_examples=600, deadline=None)
def test_the_prefilter_finds_exactly_what_the_engine_finds(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    verdict = plain_only(content)
    if not verdict.needs_reader:
        assert list(verdict.findings) == in_full(content)


@pytest.mark.parametrize("name", ENCODINGS)
def test_every_encoding_is_found_or_sent_to_a_reader(name: str) -> None:
    for seed in range(40):
        chance = random.Random(seed)
        token = random_token(chance)
        verdict = plain_only(b"key: " * (seed % 2) + ENCODINGS[name](token, chance))
        assert verdict.needs_reader or token in {finding.token for finding in verdict.findings}


def test_plain_and_escaped_tokens_need_no_reader() -> None:
    token = token_of(1)
    verdict = plain_only(b"a = '" + token + b"'\nb = '" + token.replace(b"_", b"%5F") + b"'\n")
    assert [(finding.start, finding.encoding) for finding in verdict.findings] == [(5, ("plain",)), (52, ("percent",))]
    assert not verdict.needs_reader


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (zipped(b"word"), "container"),
        ("ключ: ".encode("utf-16"), "wide_text"),
        (b"a" * 5000, "long_run"),
        (base64.b64encode(token_of(2)), "encoded"),
        (b"k: " + base64.b64encode(base64.b64encode(token_of(2))), "encoded"),
        (b'k: "' + base64.b64encode(gzip.compress(token_of(2), mtime=0)) + b'"', "encoded"),
        (token_of(2).hex().encode(), "encoded"),
        (b"r8_ " * (MAX_LOOKS + 1), "many_hits"),
        (b", ".join(token_of(seed) for seed in range(MAX_PLAIN_FINDINGS + 1)), "many_hits"),
    ],
)
def test_a_content_that_needs_a_reader_has_a_reason(content: bytes, reason: str) -> None:
    verdict = plain_only(content)
    assert (verdict.reason, verdict.findings) == (reason, ())


def test_a_content_without_hits_is_clean() -> None:
    assert plain_only(b"") is CLEAN
    assert plain_only(b"char8_t " * (MAX_LOOKS // 2) + b"nothing here\n" * WINDOW) is CLEAN


def test_every_window_is_read_until_one_needs_a_reader() -> None:
    token = token_of(3)
    far = b". " * WINDOW + token
    assert [finding.start for finding in plain_only(far).findings] == [2 * WINDOW]
    assert plain_only(b"0x72 " * WINDOW + far).reason == "many_hits"


def test_hashes_of_a_lock_file_need_no_reader() -> None:
    lines = [
        b'      "integrity": "sha512-' + base64.b64encode(hashlib.sha512(bytes([at % 256, at // 256])).digest()) + b'",'
        for at in range(20_000)
    ]
    assert plain_only(b"\n".join(lines)) is CLEAN


def test_ordinary_source_rarely_needs_a_reader() -> None:
    files = sorted(Path(sysconfig.get_paths()["stdlib"]).rglob("*.py"))[:1500]
    sent = [file for file in files if plain_only(file.read_bytes()).needs_reader]
    assert len(sent) <= len(files) / 100, sent


def drawn(*chunks: tuple[bytes, bytes]) -> bytes:
    """Return a Jupyter notebook with a PNG picture of random pixels in base64.

    `chunks` has the type and the content of each PNG chunk to add.
    """
    pixels = random.Random(1).randbytes(9_000)
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", bytes(13)), *chunks, (b"IDAT", pixels), (b"IEND", b"")):
        data += len(body).to_bytes(4) + kind + body + zlib.crc32(kind + body).to_bytes(4)
    return b'{"cells": [{"image/png": "' + base64.b64encode(data) + b'\\n", "text": "%b"}]}'


SOFTWARE = (b"tEXt", b"Software\0matplotlib version 3.7.1, https://matplotlib.org/")


def test_a_picture_in_a_notebook_needs_no_reader() -> None:
    token = token_of(1)
    for chunks in ((), (SOFTWARE,)):
        notebook = drawn(*chunks)
        assert plain_only(notebook) is CLEAN
        assert [finding.token for finding in plain_only(notebook.replace(b"%b", token)).findings] == [token]
        assert plain_only(notebook * 40) is CLEAN


@pytest.mark.parametrize(
    "chunk",
    [
        (b"tEXt", b"Comment\0" + token_of(1)),
        (b"tEXt", b"Comment\0" + base64.b64encode(token_of(1))),
        (b"tEXt", b"Comment\0" + base64.b64encode(base64.b64encode(token_of(1)))),
        (b"tEXt", b"Comment\0" + zipped(token_of(1))),
        (b"tEXt", b"Comment\0" + b"w " * 2000 + token_of(1)),
        (b"zTXt", b"Comment\0\0" + zlib.compress(token_of(1))),
        (b"iTXt", b"Comment\0\0\0\0\0" + token_of(1)),
        (b"eXIf", b"MM\0*" + token_of(1)),
    ],
    ids=["plain", "base64", "base64 twice", "zip", "long", "zTXt", "iTXt", "eXIf"],
)
def test_a_picture_with_another_text_is_sent_to_a_reader(chunk: tuple[bytes, bytes]) -> None:
    notebook = drawn(SOFTWARE, chunk)
    assert plain_only(notebook).needs_reader
    assert {finding.token for finding in in_full(notebook)} == {token_of(1)}


def test_a_base64_run_that_is_not_exactly_a_picture_is_sent_to_a_reader() -> None:
    notebook = drawn(SOFTWARE)
    more = base64.b64encode(random.Random(2).randbytes(9_000))
    assert plain_only(notebook.replace(b"iVBO", b"iVBP")).reason == "long_run"
    assert plain_only(notebook.replace(b"iVBO", b"AAAAiVBO")).reason == "long_run"
    assert plain_only(notebook.replace(b'\\n", "text"', more)).reason == "long_run"
    assert plain_only(notebook.replace(b'"iVBO', b'"iVBO' + more)).reason == "long_run"


def test_a_picture_with_very_many_chunks_is_sent_to_a_reader() -> None:
    tiny = [(b"IDAT", b"x")] * (CHUNKS_PER_LOOK * MAX_LOOKS)
    assert plain_only(drawn(*tiny[:-3])) is CLEAN
    assert plain_only(drawn(*tiny)).reason == "long_run"
    assert plain_only(drawn(*tiny[: len(tiny) // 2]) * 3).reason in ("long_run", "many_hits")

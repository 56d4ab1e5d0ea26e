"""Tests that redaction removes every token from a text, and changes nothing else."""

from __future__ import annotations

import base64
import gzip
import json
import random
import sys
import zlib
from collections.abc import Callable
from typing import NoReturn

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scanner.detection import Detector, Document, Place, redact
from scanner.detection.limits import Limits, Meter
from scanner.detection.patterns.matcher import WINDOW, windows
from scanner.detection.patterns.token_formats import hint_of
from scanner.detection.patterns.token_patterns import plain_matches
from tests.scanner.detection.archive_builders import zipped
from tests.scanner.detection.token_encoders import ENCODINGS, random_token

TEXTS = st.text(max_size=60) | st.text(alphabet="r8_cjhfI4X%\\&#;x72=\"'\n\u200b\ud800 A", max_size=60)


redact_module = sys.modules[redact.__module__]
MAY_LOOK_COMPRESSED = {name for name in ENCODINGS if "base64" in name} | {
    "git binary patch",
    "uuencode",
    "zlib in a link (kroki, pako)",
    "zlib as Python prints it",
    *(name for name in ENCODINGS if name.startswith(("gzip in", "zlib in"))),
    *(name for name in ENCODINGS if "(od" in name or "(xxd -" in name or "(hexdump" in name),
}


def tokens_in(text: str) -> int:
    return len(Detector().scan(Document(text.encode("utf-8", "surrogatepass"), Place("other"))).candidates)


@pytest.mark.parametrize("name", ENCODINGS)
@given(seed=st.integers(0, 2**32), before=TEXTS, after=TEXTS)
@settings(max_examples=8, deadline=None)
def test_a_token_is_masked_in_every_encoding_of_text(name: str, seed: int, before: str, after: str) -> None:
    chance = random.Random(seed)
    token = random_token(chance)
    try:
        encoded = ENCODINGS[name](token, chance).decode()
    except UnicodeDecodeError:
        return
    text = before + encoded + after
    # Skip texts that contain another token by chance, because redaction shows a token's first and last characters.
    assume(all(match[0] == token for match in plain_matches(text.encode("utf-8", "surrogatepass"))))
    masked = redact(text)
    assert token.decode() not in masked
    assert tokens_in(masked) == 0
    assert hint_of(token) in masked or (name in MAY_LOOK_COMPRESSED and "[withheld]" in masked)
    assert redact(masked) == masked


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_redaction_accepts_any_text_and_does_not_change_its_own_result(text: str) -> None:
    masked = redact(text)
    assert redact(masked) == masked
    if not tokens_in(text):
        assert masked == text


def test_only_the_token_is_replaced() -> None:
    token = random_token(random.Random(1))
    hint = hint_of(token)
    text = f"é {token.decode()}, then {token.hex()} and \ud800"
    assert redact(text) == f"é {hint}, then {hint} and \ud800"


def test_overlapping_tokens_are_masked() -> None:
    first, second = (random_token(random.Random(seed)).decode() for seed in (1, 2))
    masked = redact(f"{first}{second}{second}" + "".join(f"\\x{ord(letter):02x}" for letter in first))
    assert tokens_in(masked) == 0
    assert masked.count("…") == 4


def test_ordinary_text_is_returned_as_it_is() -> None:
    text = "folder/char8_t.h"
    assert redact(text) is text


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress, zipped])
def test_compressed_text_in_base64_is_withheld(compress: Callable[[bytes], bytes]) -> None:
    run = base64.b64encode(compress(random_token(random.Random(1)) * 3)).decode()
    assert redact(f'a = "{run}", b = 1') == 'a = "[withheld]", b = 1'


def test_redaction_decompresses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> NoReturn:
        raise AssertionError("inflated")

    run = base64.b64encode(zlib.compress(random.Random(1).randbytes(9000))).decode()
    monkeypatch.setattr(zlib, "decompressobj", refused)
    assert redact(f"a {run} b") == "a [withheld] b"
    assert redact(f"a {run[:200]} b") == "a [withheld] b"


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_a_token_in_the_repr_of_utf_16_or_utf_32_is_masked(codec: str) -> None:
    token = random_token(random.Random(2)).decode()
    wide = f"key={token}.".encode(codec)
    for shown in (repr(wide), json.dumps(wide.decode("latin-1")), repr(wide.decode("latin-1"))):
        masked = redact(shown)
        assert hint_of(token.encode()) in masked
        assert tokens_in(masked) == 0


@pytest.mark.parametrize("soup", ["%72", "r8\n", "cjhf\nI4X\n", '"eJw"', "H4sI", "Y2poZjhm\n", "r8_a\\\n"])
def test_a_large_text_costs_limited_work_and_the_rest_is_withheld(soup: str, monkeypatch: pytest.MonkeyPatch) -> None:
    meters: list[Meter] = []

    def kept(limits: Limits, size: int) -> Meter:
        meters.append(Meter(limits, size))
        return meters[-1]

    monkeypatch.setattr(redact_module, "Meter", kept)
    token = random_token(random.Random(3)).decode()
    masked = redact(soup * ((4 << 20) // len(soup)) + token)
    assert token not in masked
    assert redact(masked) == masked
    # The limit is 10 << 20 steps. It may be exceeded by one large step and by the steps for the cores of one window.
    (window, *_) = windows(soup.encode() * (WINDOW // len(soup)))
    assert max(meter.work for meter in meters) <= (11 << 20) + 200 * window.cores


def test_a_token_is_masked_wherever_the_text_is_cut_into_blocks() -> None:
    token = random_token(random.Random(4)).decode()
    for before in range((64 << 10) - 42, (64 << 10) + 3):
        masked = redact(" " * before + token + " ")
        assert masked == " " * before + hint_of(token.encode()) + " "

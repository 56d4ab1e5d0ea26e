"""Tests for the matcher. It misses no token, and its work is proportional to the size of the content."""

from __future__ import annotations

import base64
import random
import tracemalloc
from typing import cast

import pytest
import regex

from scanner.detection import Detector, Document, Place, sha256_digest
from scanner.detection.engine import all_findings
from scanner.detection.limits import Limits, Meter
from scanner.detection.patterns.cores import Core, core_groups
from scanner.detection.patterns.matcher import (
    CROWDED,
    LONG_RUN,
    WINDOW,
    automata,
    long_run_spots,
    may_hold,
    run_start,
    windows,
)
from scanner.detection.patterns.needles import Needle, encoded_needles, needles
from scanner.detection.patterns.token_patterns import token_patterns
from tests.scanner.detection.token_encoders import ENCODINGS, random_token

CROWDS = {
    "plain": b"r8_",
    "plain with a joint": b'r8_"+"',
    "base64": b"cjhf",
    "base64, second alignment": b"I4X",
    "base64, third alignment": b"yOF8",
    "hex": b"72385f",
    "hex list": b"0x72,",
    "percent": b"%72%38",
    "UTF-16": b"r\x008\x00_\x00",
    "UTF-16 of base64": b"c\0j\0h\0f\0",
    "entities": b"&#114;",
    "decimal list": b"114, 56, 95, ",
    "line ends": b"r8\n",
    "nested": b"Y2poZ",
    "gzip": b"H4sI",
    "zlib": b"eJw",
}


def after(needle: Needle) -> bytes:
    """Return the bytes that must follow the needle so that the matcher reports it."""
    return b"b>8_" if needle.text.endswith(b"</") else b""


@pytest.mark.parametrize("group", core_groups())
def test_an_automaton_has_few_and_long_enough_cores_for_vector_search(group: tuple[Core, ...]) -> None:
    texts = [core.text for core in group]
    assert len(texts) == len(set(texts)) <= 64
    assert min(map(len, texts)) >= 3


def test_base64_needles_match_what_encoders_write() -> None:
    assert encoded_needles(b"r8_") == [(b"cjhf", 0), (b"I4X", 2), (b"yOF", 3)]
    for seed in range(300):
        chance = random.Random(seed)
        text = base64.b64encode(chance.randbytes(seed % 7) + random_token(chance) + chance.randbytes(3))
        assert may_hold(text)
        assert may_hold(base64.b64encode(chance.randbytes(seed % 5) + text))


def test_a_needle_that_begins_inside_another_is_reported() -> None:
    for first in needles():
        for second in needles():
            for cut in range(1, min(len(first.text), len(second.text))):
                if first.text.endswith(second.text[:cut]) and not second.before:
                    text = first.text + second.text[cut:] + after(second)
                    hits = [hit for window in windows(text) for hit in window.hits]
                    assert (len(first.text) - cut, second) in hits, text


@pytest.mark.parametrize("needle", needles(), ids=lambda needle: repr(needle.text))
def test_a_needle_is_reported_wherever_a_window_ends(needle: Needle) -> None:
    text = needle.before[:1] + needle.text + after(needle)
    for begin in range(WINDOW - len(text), WINDOW + 1):
        content = b"." * begin + text + b"." * 20
        hits = [hit for window in windows(content) for hit in window.hits]
        assert hits.count((begin + len(needle.before[:1]), needle)) == 1


@pytest.mark.parametrize("needle", [one for one in needles() if one.before], ids=lambda needle: repr(needle.text))
def test_some_needles_count_only_after_certain_bytes(needle: Needle) -> None:
    for before in (b"", b".", b"A", *(bytes([byte]) for byte in needle.before)):
        hits = [hit for window in windows(b"." * bool(before) + before + needle.text) for hit in window.hits]
        assert (needle in {one for _, one in hits}) == (before != b"" and before in needle.before)


@pytest.mark.parametrize("name", CROWDS)
def test_a_crowd_of_needles_hides_no_token(name: str) -> None:
    token = random_token(random.Random(name))
    crowd = CROWDS[name] * 8_000
    for encoding in ("plain", "base64", "hex", "percent", "UTF-16, little-endian", "hex, 0x list", "soft-wrapped line"):
        encoded = ENCODINGS[encoding](token, random.Random(1))
        result = Detector().scan(Document(crowd + b"  " + encoded + b"  " + crowd, Place("file")))
        assert sha256_digest(token) in {candidate.digest for candidate in result.candidates}, encoding


@pytest.mark.parametrize("name", CROWDS)
def test_a_crowded_window_lists_few_hits(name: str) -> None:
    content = CROWDS[name] * (2 * WINDOW // len(CROWDS[name]))
    for window in windows(content):
        listed = sum(needle.kind not in ("run", "stream") for _, needle in window.hits)
        assert listed <= CROWDED * len(automata())


def test_millions_of_prefixes_cost_little_memory() -> None:
    all_findings(b"r8_", "a", Meter(Limits(), 3))  # compile the patterns before the memory is measured
    content = b"r8_" * (1 << 20)
    meter = Meter(Limits(), len(content))
    tracemalloc.start()
    assert all_findings(content, "a", meter) == []
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 16 << 20
    assert meter.expanded <= len(content)


class _CountedPattern:
    """A pattern that adds each call of its `match` method to the list `asked`."""

    def __init__(self, pattern: regex.Pattern[bytes]) -> None:
        self._pattern = pattern
        self.asked = 0

    def match(self, content: bytes, start: int, end: int) -> regex.Match[bytes] | None:
        self.asked += 1
        return self._pattern.match(content, start, end)


@pytest.mark.parametrize("name", ["plain with a joint", "percent", "entities", "line ends"])
def test_closer_looks_grow_no_faster_than_the_size(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from scanner.detection.encodings import recognition as encodings

    asked = []
    for size in (1 << 19, 1 << 20):
        (patterns,) = token_patterns()
        counted = _CountedPattern(patterns.units)
        counting = patterns._replace(units=cast("regex.Pattern[bytes]", counted))
        monkeypatch.setattr(encodings, "token_patterns", lambda counting=counting: (counting,))
        all_findings(CROWDS[name] * (size // len(CROWDS[name])), "a", Meter(Limits(), size))
        monkeypatch.undo()
        asked.append(counted.asked)
    assert asked[1] <= 2.1 * asked[0]


@pytest.mark.parametrize(
    "letters",
    [b"A", b"H4sI", b"eJw", b"UEsDB", b"Y2poZ", b"QUFB", b"0123456789abcdef", b"abc\n" * 20, b"A" * 76 + b"\n"],
)
def test_decoding_grows_no_faster_than_the_size(letters: bytes) -> None:
    spent = []
    for size in (1 << 17, 1 << 18):
        content = b'"' + letters * (size // len(letters)) + b'"'
        meter = Meter(Limits(), len(content))
        all_findings(content, "a", meter)
        spent.append((meter.expanded, meter.steps))
    for small, large in zip(*spent, strict=True):
        assert large <= 2.2 * small + 100
    assert spent[1][0] <= 25 << 20


def test_the_cost_of_deep_nesting_is_at_most_that_of_its_layers() -> None:
    content = random.Random(1).randbytes(2000)
    for _ in range(14):
        content = base64.b64encode(content)
    meter = Meter(Limits(), len(content))
    all_findings(content, "a", meter)
    assert meter.expanded <= 8 * len(content)


def test_long_runs_are_noticed_wherever_they_begin() -> None:
    for shift in range(0, 3 * 64, 7):
        run = b"QUJD" * (LONG_RUN // 4 + 1)
        content = b"a b, " * 1000 + b" " * shift + run + b" c d" * 1000
        begin = 5000 + shift
        assert any(begin <= spot < begin + len(run) for spot in long_run_spots(content))


@pytest.mark.parametrize("gap", [b"", b"\n", b"\r\n", b"\\n", b"\\r\\n"], ids=repr)
def test_the_beginning_of_a_run_is_found_from_every_offset_in_it(gap: bytes) -> None:
    run = gap.join([b"QUJD" * 19] * 120)
    for before in (b'"', b'\\"', b" \\x, "):
        content = before + run + b'"'
        for spot in range(len(before), len(before) + len(run)):
            assert run_start(content, 0, spot) == len(before), spot


def test_ordinary_text_has_no_long_runs() -> None:
    assert long_run_spots(b"def function(self, name):\n    return self.value + 1\n\n" * 20_000) == []

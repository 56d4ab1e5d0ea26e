"""Tests that a token is found in every encoding, and that other strings are not reported."""

from __future__ import annotations

import base64
import functools
import random
import string

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.detection import Candidate, Detector, Document, Place, sha256_digest
from scanner.detection.encodings.recognition import _units_at, findings_at
from scanner.detection.patterns.cores import core_groups
from scanner.detection.patterns.joints import units_expression
from scanner.detection.patterns.token_patterns import token_patterns
from tests.scanner.detection.silent_kinds import SILENT_KINDS
from tests.scanner.detection.token_encoders import ENCODINGS, random_token

DETECTOR = Detector()
AT_THE_START = {name for name in ENCODINGS if "with mark" in name}
DUMPS = {name for name in ENCODINGS if name.startswith("hex dump")}
"""The encodings whose first line begins with an offset, so that no other text can be before them in the line."""


def candidates_of(content: bytes) -> tuple[Candidate, ...]:
    return DETECTOR.scan(Document(content, Place("file", path="a.txt"))).candidates


def found(token: bytes, content: bytes) -> list[Candidate]:
    return [candidate for candidate in candidates_of(content) if candidate.digest == sha256_digest(token)]


@pytest.mark.parametrize("name", ENCODINGS)
def test_a_token_is_found_once_in_every_encoding(name: str) -> None:
    for seed in range(25):
        chance = random.Random(seed)
        token = random_token(chance)
        content = ENCODINGS[name](token, chance)
        assert len(found(token, content)) == 1, (seed, content)


@pytest.mark.parametrize("name", ENCODINGS)
@given(seed=st.integers(0, 2**32), before=st.binary(max_size=40), after=st.binary(max_size=40))
@settings(max_examples=10, deadline=None)
def test_text_around_a_token_never_hides_it(name: str, seed: int, before: bytes, after: bytes) -> None:
    chance = random.Random(seed)
    token = random_token(chance)
    encoded = ENCODINGS[name](token, chance)
    start = b"" if name in AT_THE_START else before + b"\n" if name in DUMPS else before
    content = start + encoded + after
    assert found(token, content), content


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"\\n", b"\\n"),
        (b"\\u003d", b"\\u0026"),
        (b"%3D", b"%26"),
        (b"Bearer", b","),
        (b"KEY_", b")"),
        (b"r8_", b"."),
        (b"abc", b"<"),
        (b"=", b"}"),
        (b"\\", b"-prod"),
        (b"%", b"_old"),
        (b"r8", b"xyz"),
        (b"\x00", b"\xff"),
        (b"eJ", b"="),
        (b"cjh", b"\n"),
    ],
)
def test_a_token_needs_no_word_boundary(before: bytes, after: bytes) -> None:
    token = random_token(random.Random(before + after))
    assert [candidate.encoding for candidate in found(token, before + token + after)] == ["plain"]


@pytest.mark.parametrize(
    ("name", "encoding"),
    [
        ("plain", "plain"),
        ("base64", "base64"),
        ("base64 of base64", "base64>base64"),
        ("gzip in base64", "base64>gzip"),
        ("zlib in base64", "base64>zlib"),
        ("gzip in base64 of base64 (Helm)", "base64>base64>gzip"),
        ("base64 in UTF-16", "utf-16>base64"),
        ("UTF-16 in base64 (PowerShell)", "base64>utf-16"),
        ("UTF-32, big-endian", "utf-32"),
        ("hex", "hex"),
        ("hex, 0x list", "hex-list"),
        ("decimal byte list", "decimal-list"),
        (r"\u", "unicode-escape"),
        (r"hex, \x", "hex-escape"),
        ("octal escapes", "octal-escape"),
        ("percent of the underscore only", "percent"),
        ("HTML entities, hex", "html-entity"),
        ("quoted-printable, soft break", "quoted-printable"),
        ("zero-width space inside", "zero-width"),
        ("adjacent literals", "concatenation"),
        ("backslash and newline", "continuation"),
        ("soft-wrapped line", "wrapped"),
        ("backslash before the underscore (Markdown)", "backslash"),
    ],
)
def test_a_candidate_names_its_encoding_from_outside_to_inside(name: str, encoding: str) -> None:
    chance = random.Random(7)
    token = random_token(chance)
    assert {candidate.encoding for candidate in found(token, ENCODINGS[name](token, chance))} == {encoding}


@pytest.mark.parametrize("alignment", range(3))
@pytest.mark.parametrize("width", [4, 7, 19, 60, 64, 70, 76, 77])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_base64_is_found_wherever_its_lines_break(alignment: int, width: int, newline: bytes) -> None:
    for lead in range(80):
        chance = random.Random(lead)
        token = random_token(chance)
        text = base64.b64encode(bytes(3 * lead + alignment) + token + b"\xff\xff")
        content = newline.join(text[at : at + width] for at in range(0, len(text), width))
        assert len(found(token, content)) == 1, (lead, content)


@pytest.mark.parametrize("joint", [b'" + "', b"' '", b"' . '", b'" & _\n    "'])
def test_literals_are_joined_wherever_they_are_cut(joint: bytes) -> None:
    token = random_token(random.Random(3))
    for first in range(2, 39):
        for second in range(first + 1, 40):
            content = b"'" + token[:first] + joint + token[first:second] + joint + token[second:] + b"'"
            assert len(found(token, content)) == 1, content


@pytest.mark.parametrize("lead", [b"", b"72 ", b"0x72,", b"114, ", b"7238"], ids=repr)
def test_the_quick_pattern_of_a_list_finds_the_same_lists(lead: bytes) -> None:
    lists = 0
    for name, encode in ENCODINGS.items():
        for seed in range(3):
            chance = random.Random(f"{name} {seed}")
            content = lead + encode(random_token(chance), chance) + b" 72" + encode(random_token(chance), chance)[:-9]
            for patterns in token_patterns():
                for pattern in (patterns.hex_list, patterns.decimal_list):
                    quick = patterns.hex_list_start if pattern is patterns.hex_list else patterns.decimal_list_start
                    slow = set()
                    for match in pattern.finditer(content, overlapped=True):
                        slow.add(match.start() + 2 * match[0].startswith(b"0x"))
                    assert {match.start() for match in quick.finditer(content)} == slow, content
                    lists += len(slow)
    assert lists >= 50


def test_the_first_forty_bytes_of_a_longer_run_are_a_candidate() -> None:
    token = random_token(random.Random(1))
    assert [candidate.digest for candidate in candidates_of(token + b"abc123")] == [sha256_digest(token)]


def test_a_token_directly_after_a_prefix_or_an_escape_is_found() -> None:
    token = random_token(random.Random(2))
    content = b"r8_r8_" + token + b"\n%72" + token
    assert [(candidate.line, candidate.column) for candidate in found(token, content)] == [(1, 7), (2, 4)]


@pytest.mark.parametrize(
    "text",
    [
        b"char8_t something = 1;",
        b"r8_" + b"a" * 36,
        b"r8_" + b"a" * 20 + b"_" + b"a" * 20,
        b"r8_" + b"a" * 20 + b"-" + b"a" * 20,
        b"R8_" + b"a" * 37,
        b"r8_ab\n" + b"cd\n" * 40,
    ],
)
def test_strings_that_are_no_tokens_are_not_candidates(text: bytes) -> None:
    assert candidates_of(text) == ()


@pytest.mark.parametrize("name", SILENT_KINDS)
def test_a_kind_that_is_listed_as_silent_is_silent(name: str) -> None:
    chance = random.Random(3)
    content = SILENT_KINDS[name].encode(random_token(chance), chance)
    result = Detector().scan(Document(content, Place("file")))
    assert (result.candidates, result.unread) == ((), {})


@given(
    st.lists(st.sampled_from([b"r8_", b"r8", b"cjhf", b"I4X", b"\\x72", b"%72", b"H4sI", b"eJw", b'"', b"\n", b"A"]))
)
@settings(max_examples=200, deadline=None)
def test_needles_in_any_order_never_hide_a_token(pieces: list[bytes]) -> None:
    token = random_token(random.Random(len(pieces)))
    assert found(token, b"".join(pieces) + token)


@given(st.text(alphabet=string.printable + "r8_\u200b\\%&#;=", max_size=200))
@settings(max_examples=200, deadline=None)
def test_text_shorter_than_a_token_has_no_candidate(text: str) -> None:
    if sum(letter.isalnum() for letter in text) < 39:
        assert candidates_of(text.encode()) == ()


PARTS = (
    "</a>",
    "<b>",
    "</b >",
    "<div>",
    "</",
    "<",
    ">",
    " ",
    "8",
    "_",
    "x",
    "0",
    "\r",
    "\n",
    "\0",
    "|",
    "&#56;",
    "<\0ab\0",
    "\n  ",
    "\r\n1a\r\n",
    "\nab12: ",
    "\n# ",
    ".\n.",
    ". | x\n.",
    ") (",
    ")5.2(",
    "}{",
    "} \\b{",
    "*",
    "]]><![CDATA[",
    "&zwj;",
    '"',
    "', '",
    "', b'",
    "'\n      -    '",
    "=\n",
    "@",
    "!\\verb!",
)


@given(st.lists(st.sampled_from(PARTS), max_size=8), st.booleans())
@settings(max_examples=300, deadline=None)
def test_text_that_counts_as_the_end_of_a_word_never_continues_a_token(parts: list[str], goes_on: bool) -> None:
    (patterns,) = token_patterns()
    content = f"r{''.join(parts)}{'8' * goes_on}_{'a1B' * 13}".encode()
    if patterns.end_of_word.match(content, 1):
        assert _units_at(content, 0, patterns) is None


@functools.cache
def exact_units() -> regex.Pattern[bytes]:
    """Return a pattern that matches only complete tokens, in every encoding of an underscore."""
    (patterns,) = token_patterns()
    form = patterns.form
    expression = units_expression(form)
    exact = expression.replace(rb"{0,%d}+" % form.body_length, rb"{%d}" % form.body_length)
    exact = exact.replace(rb"(?!x005[fF]_)", b"")
    assert len(exact) < len(expression) - len(rb"(?!x005[fF]_)")
    return regex.compile(exact, regex.VERBOSE)


LETTERS = (
    *("A", "x", "0", "1", "5", "f", "_", "\\", "u", "\r\n", "_\n", '" + "', "'", " ", "<b>", "\u200b", "A\rA", "[0m"),
    *("x005F_", "_x0041_", "\\x41", "\\101", "\\0041 ", "\\u0041", "%2541", "=41", "=\r\n", "&#65;", "&#x41;", "\\_"),
)
UNDERSCORES = ("_", "_x005F_", "\\_", "\\137", "\\005f ", "\\95", "\\u95?", "%5F", "&lowbar;", '"+Chr(95)+"')


@given(
    st.sampled_from(("", '" + "', "\n", "\\u200b")),
    st.sampled_from(UNDERSCORES),
    st.integers(0, 37),
    st.lists(st.tuples(st.sampled_from(LETTERS), st.integers(1, 12)), max_size=8),
)
@settings(max_examples=400, deadline=None)
def test_a_token_in_escapes_is_what_the_pattern_of_all_its_characters_matches(
    joint: str, underscore: str, plain: int, parts: list[tuple[str, int]]
) -> None:
    (patterns,) = token_patterns()
    content = f"r{joint}8{underscore}{'a1' * 19:.{plain}}{''.join(part * count for part, count in parts)}{'b' * 40}"
    for text in (content[:-40].encode(), content.encode()):
        found, expected = _units_at(text, 0, patterns), exact_units().match(text)
        assert (found is None) == (expected is None), text
        if found is not None and expected is not None:
            assert found.span() == expected.span()
            assert all(found.captures(name) == expected.captures(name) for name in ("unit", "joint"))


def test_the_pattern_of_escaped_characters_is_small() -> None:
    (patterns,) = token_patterns()
    assert patterns.units.__sizeof__() < 1 << 20


@given(
    st.text("aB1", min_size=1, max_size=36), st.lists(st.sampled_from((*PARTS, "_", "_x0041_", "/", "-")), max_size=4)
)
@settings(max_examples=300, deadline=None)
def test_a_word_that_ends_too_early_never_continues_as_a_token(word: str, parts: list[str]) -> None:
    (core,) = (core for group in core_groups() for core in group if core.text == b"r8_")
    content = f"r8_{word}{''.join(parts)}{'a1B' * 13}".encode()
    assert core.refuted is not None
    if core.refuted.match(content):
        assert list(findings_at(content, 0, "token")) == []


ESCAPES = (
    "\\",
    "0",
    "9",
    "95",
    "5f",
    "x",
    "u",
    "o",
    "{",
    "}",
    "N",
    "U+",
    "'",
    "`",
    "^",
    "%",
    "&#",
    ";",
    " ",
    "_",
    "char",
)


@given(st.lists(st.sampled_from(ESCAPES), max_size=6), st.sampled_from(("r8", "r", "")))
@settings(max_examples=400, deadline=None)
def test_no_sequence_of_escapes_is_an_error(parts: list[str], before: str) -> None:
    candidates_of(f"{before}{''.join(parts)}{'a1B' * 13}".encode())

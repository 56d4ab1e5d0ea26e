"""A token written once in base64: the pattern of each alignment, joints allowed between any two letters.

The letters that alphanumeric bytes can give are so few that almost nothing else matches: what fits a pattern is nearly
always a token, and a repeated needle fails within eight letters. Longer runs and nested base64 are left to `runs`.
"""

from __future__ import annotations

import binascii
import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

import regex

from scanner.detection.findings import Finding
from scanner.detection.joints import JOINTS, TOKEN
from scanner.detection.limits import Meter

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_URL_ALPHABET = _ALPHABET[:62] + b"-_"
_LETTERS = frozenset(_ALPHABET + _URL_ALPHABET)
_MAX_LENGTH = 4096
LOOK_STEPS = 2000
"""Steps that a look at one form is paid with: up to twenty microseconds where the pattern fails after some letters."""

_FROM_URL = bytes.maketrans(b"-_", b"+/")


def _letter(indexes: set[int]) -> bytes:
    letters = {alphabet[index] for index in indexes for alphabet in (_ALPHABET, _URL_ALPHABET)}
    return JOINTS + rb"(?P<unit>[" + regex.escape(bytes(sorted(letters)), special_only=False) + rb"])"


_ALNUM = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")


def _first() -> bytes:
    return _letter({byte >> 2 for byte in _ALNUM})


def _second_alone() -> bytes:
    """The second letter where no more bytes of the token follow: its last four bits may be anything."""
    return _letter({((byte & 3) << 4) | rest for byte in _ALNUM for rest in range(16)})


def _second_and_third(tops: tuple[int, ...]) -> bytes:
    """Both letters of the middle byte; the third begins with the top bits of the last byte, one of `tops`."""
    ways = []
    for nibbles in ((3,), (5, 7), (4, 6)):
        second = {(low << 4) | nibble for low in range(4) for nibble in nibbles}
        third = {((byte & 15) << 2) | top for byte in _ALNUM if byte >> 4 in nibbles for top in tops}
        ways.append(_letter(second) + _letter(third))
    return rb"(?:" + rb"|".join(ways) + rb")"


def _fourth(top: int) -> bytes:
    return _letter({byte & 63 for byte in _ALNUM if byte >> 6 == top})


_TAIL = rb"(?:" + rb"|".join(_second_and_third((top,)) + _fourth(top) for top in (0, 1)) + rb")"
_GROUP = _first() + _TAIL


def _encoded(letters: bytes) -> bytes:
    return JOINTS.join(rb"(?P<unit>%c)" % letter for letter in letters)


_LAST_TAIL = rb"(?:" + rb"|".join(_letter({60 + top}) + _fourth(top) for top in (0, 1)) + rb")"


def _without_joints(pattern: bytes) -> bytes:
    return pattern.replace(JOINTS, b"").replace(b"(?P<unit>", b"(?:")


class _Form(NamedTuple):
    """One alignment.

    `lead` stands for the letters that the needle's group shares with what precedes the token; `likely` is a quick
    pattern for where `pattern` may match, and `begins` the same for one place: `regex` takes 50 µs to begin to match
    a pattern with so many groups.
    """

    pattern: regex.Pattern[bytes]
    lead: bytes
    likely: regex.Pattern[bytes]
    begins: re.Pattern[bytes]


def _form(needle: bytes, rest_of_group: bytes, groups: int, end: bytes, lead: bytes) -> _Form:
    pattern = _encoded(needle) + rest_of_group + rb"(?:" + _GROUP + rb"){%d}" % groups + end
    soon = needle + rb"(?=" + _without_joints(rest_of_group + _GROUP + _GROUP) + rb"|[0-9A-Za-z]{0,11}+[^0-9A-Za-z])"
    cut = rb"|".join(needle[:at] + rb"[^0-9A-Za-z]" for at in range(1, len(needle)))
    likely = soon + rb"|" + cut
    return _Form(regex.compile(pattern, regex.VERBOSE), lead, regex.compile(likely), re.compile(likely))


@functools.cache
def _forms() -> tuple[_Form, ...]:
    """The three alignments. Compiled when first needed: it takes half a second, and most commands scan nothing."""
    return (
        _form(b"cjhf", b"", 12, _first() + _second_alone(), b""),
        _form(b"I4X", _TAIL, 11, _first() + _second_and_third((0, 1, 2, 3)), b"AH"),
        _form(b"yOF", _LAST_TAIL, 12, b"", b"AAB"),
    )


def base64_findings_at(content: bytes, start: int) -> Iterator[Finding]:
    """The tokens whose base64 needle begins at `start`."""
    for pattern, lead, _, begins in _forms():
        if begins.match(content, start) is None:
            continue
        match = pattern.match(content, start, start + _MAX_LENGTH)
        if match is not None:
            yield from _finding(match, lead)


def base64_findings_in(content: bytes, begin: int, end: int, meter: Meter) -> Iterator[Finding]:
    """Yield the tokens whose base64 needle begins in `content[begin:end]`. Raises LimitReachedError."""
    for pattern, lead, likely, _ in _forms():
        for start in likely.finditer(content, begin, min(len(content), end + _MAX_LENGTH), overlapped=True):
            if start.start() >= end:
                break
            meter.spend(LOOK_STEPS)
            match = pattern.match(content, start.start(), start.start() + _MAX_LENGTH)
            if match is not None:
                yield from _finding(match, lead)


def _finding(match: regex.Match[bytes], lead: bytes) -> Iterator[Finding]:
    letters = lead + b"".join(match.captures("unit"))
    token = TOKEN.search(binascii.a2b_base64(letters.translate(_FROM_URL) + b"=" * (-len(letters) % 4)))
    if token is None:
        return
    start = match.start()
    # The letter before it holds bits of the token's first byte: it is part of the encoding.
    if lead and start and match.string[start - 1] in _LETTERS:
        start -= 1
    yield Finding(token[0], start, match.end(), ("base64",))

"""Search for tokens that are encoded once in base64.

Four base64 letters encode three bytes, so each token format has three patterns. For example, the base64 of `r8_` is
`cjhf`, and the base64 of `=r8_` is `PXI4Xw`.
"""

from __future__ import annotations

import base64
import binascii
import functools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import regex

from scanner.detection.findings import Finding
from scanner.detection.limits import Meter
from scanner.detection.patterns.joints import CALLED_JOINTS, JOINTS_DEFINITION
from scanner.detection.patterns.needles import encoded_needles
from scanner.detection.patterns.token_formats import derived_from_formats
from scanner.detection.patterns.token_patterns import TokenPatterns, token_patterns

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_URL_ALPHABET = _ALPHABET[:62] + b"-_"
_LETTERS = frozenset(_ALPHABET + _URL_ALPHABET)
_MAX_LENGTH = 4096
LOOK_STEPS = 2000
"""Matching one pattern at one offset counts as this many steps of work, of ten nanoseconds each."""

FAILED_LOOK_STEPS = 9000
"""If a pattern does not match, at most this many steps of work (90 µs) are counted in addition."""

_SHORT_LOOK_STEPS, _STEPS_PER_BYTE = 6_500, 100
"""A pattern that fails again nearby counts as the first number of steps, plus the second number per byte between."""

_LETTER = rb"[0-9A-Za-z+/_-]"
_NO_LETTER = rb"[^0-9A-Za-z+/_-]"
_BREAK = rb"(?:\r?\n|(?:\\r)?\\n)\+?"
"""A line break inside base64, plain or escaped as in JSON, and the plus sign that begins a line of a patch."""
_PLAIN_BREAK = rb"(?:" + _BREAK + rb"(?=[0-9A-Za-z]))"

_FROM_URL = bytes.maketrans(b"-_", b"+/")


def _letter(indexes: set[int]) -> bytes:
    letters = {alphabet[index] for index in indexes for alphabet in (_ALPHABET, _URL_ALPHABET)}
    return CALLED_JOINTS + rb"(?P<unit>[" + regex.escape(bytes(sorted(letters)), special_only=False) + rb"])"


class _Body:
    """Builds patterns for the random part of a token in base64. A group of four letters encodes three characters."""

    def __init__(self, alphabet: bytes) -> None:
        self._bytes = frozenset(alphabet)
        # The possible values of the top two bits of a character: 1 for letters, 0 for digits.
        self.tops = tuple(sorted({byte >> 6 for byte in alphabet}))

    def first(self) -> bytes:
        """Return the pattern of the first of four base64 letters."""
        return _letter({byte >> 2 for byte in self._bytes})

    def second_alone(self) -> bytes:
        """Return the pattern of the last base64 letter of a token, such as `g` in `eg==`."""
        return _letter({((byte & 3) << 4) | rest for byte in self._bytes for rest in range(16)})

    def second_and_third(self, tops: Iterable[int]) -> bytes:
        """Return the pattern of the second and third of four base64 letters.

        `tops` are the possible top two bits of the third byte that they encode.
        """
        lower: dict[frozenset[int], list[int]] = {}
        for upper in sorted({byte >> 4 for byte in self._bytes}):
            lower.setdefault(frozenset(byte & 15 for byte in self._bytes if byte >> 4 == upper), []).append(upper)
        ways = []
        for endings, uppers in lower.items():
            second = {(low << 4) | upper for low in range(4) for upper in uppers}
            third = {(ending << 2) | top for ending in endings for top in tops}
            ways.append(_letter(second) + _letter(third))
        return rb"(?:" + rb"|".join(ways) + rb")"

    def fourth(self, top: int) -> bytes:
        """Return the pattern of the last of four base64 letters, if their third byte has the top two bits `top`."""
        return _letter({byte & 63 for byte in self._bytes if byte >> 6 == top})

    def tail(self) -> bytes:
        """Return the pattern of the last three of four base64 letters."""
        ways = [self.second_and_third((top,)) + self.fourth(top) for top in self.tops]
        return rb"(?:" + rb"|".join(ways) + rb")"

    def last_tail(self, before: int) -> bytes:
        """Return the pattern of the last two of four base64 letters, if the second of their three bytes is `before`."""
        ways = [_letter({((before & 15) << 2) | top}) + self.fourth(top) for top in self.tops]
        return rb"(?:" + rb"|".join(ways) + rb")"


def _encoded(letters: bytes) -> bytes:
    return CALLED_JOINTS.join(rb"(?P<unit>%c)" % letter for letter in letters)


def _likely(needle: bytes, next_letters: bytes, following: bytes) -> bytes:
    """Return a quick pattern that matches wherever an encoded token may begin, and seldom elsewhere."""
    letters = following.replace(CALLED_JOINTS, rb"(?:" + _BREAK + rb")?").replace(b"(?P<unit>", b"(?:")
    another = rb"(?!%b)%b" % (_PLAIN_BREAK, _NO_LETTER)
    line = rb"\n?+%b{1,11}+|%b%b{1,11}+" % (_LETTER, _PLAIN_BREAK, _LETTER)
    pattern = rb"(?:%b|(?:%b){0,3}+%b)" % (letters, line, another)
    for letter in reversed(needle[1:]):
        pattern = rb"(?:(?:%b)?%c%b|%b)" % (_BREAK, letter, pattern, another)
    # Exclude letters and digits that cannot follow the needle. Do not exclude the plus sign and the hyphen, which may
    # begin a line in a patch.
    others = bytes(letter for letter in _ALPHABET[:62] if letter not in next_letters)
    # Match only the first letter, so that `finditer` also finds a match that begins at one of the following letters.
    return rb"%b(?!%b\r?\n?[%b])(?=%b)" % (needle[:1], needle[1:], others, pattern)


@dataclass(frozen=True)
class Base64Form:
    """The patterns for tokens of one format in base64. For example, the base64 of `r8_` begins with the needle `cjhf`.

    Attributes:
        needle: The base64 letters that depend only on the token's prefix.
        pattern: The pattern of the whole encoded token.
        lead: Base64 letters to put before an encoded token so that it can be decoded.
        likely: A quick pattern that is tried before `pattern`.
    """

    needle: bytes
    token: regex.Pattern[bytes]
    pattern: regex.Pattern[bytes]
    lead: bytes
    likely: re.Pattern[bytes]


def _letters_after(needle: bytes, patterns: TokenPatterns, alignment: int) -> bytes:
    """Return the base64 letters that can follow the base64 `needle` of a token's prefix."""
    at = -(-8 * alignment // 6) + len(needle)
    lead = bytes(alignment) + patterns.form.prefix.encode()
    return bytes({base64.b64encode(lead + bytes((first, 0, 0)))[at] for first in patterns.form.alphabet.encode()})


def _form(patterns: TokenPatterns, alignment: int) -> Base64Form:
    prefix, body = patterns.form.prefix.encode(), _Body(patterns.form.alphabet.encode())
    shared = (alignment + len(prefix)) % 3
    rest_of_group = (b"", body.tail(), body.last_tail(prefix[-1]))[shared]
    groups, left = divmod(patterns.form.body_length - (0, 2, 1)[shared], 3)
    ends = (b"", body.first() + body.second_alone(), body.first() + body.second_and_third(range(4)))
    needle = encoded_needles(prefix)[alignment][0]
    group = body.first() + body.tail()
    encoded = _encoded(needle) + rest_of_group + rb"(?:" + group + rb"){%d}" % groups + ends[left]
    pattern = regex.compile(JOINTS_DEFINITION + encoded, regex.VERBOSE)
    likely = _likely(needle, _letters_after(needle, patterns, alignment), rest_of_group + group + group)
    lead = base64.b64encode(bytes(alignment) + prefix)[: alignment + (alignment > 0)]
    return Base64Form(needle, patterns.plain, pattern, lead, re.compile(likely))


@functools.cache
def _forms_of(patterns: TokenPatterns) -> tuple[Base64Form, ...]:
    return tuple(_form(patterns, alignment) for alignment in range(3))


@derived_from_formats
def base64_forms() -> tuple[Base64Form, ...]:
    """Return the base64 patterns of each active token format."""
    return tuple(form for patterns in token_patterns() for form in _forms_of(patterns))


def base64_findings_at(content: bytes, start: int, meter: Meter | None = None) -> Iterator[Finding]:
    """Yield the tokens whose encoded prefix begins at offset `start`."""
    for form in base64_forms():
        if form.likely.match(content, start) is None:
            continue
        match = form.pattern.match(content, start, start + _MAX_LENGTH)
        if match is not None:
            yield from _finding(match, form)
        elif meter is not None:
            meter.spend(FAILED_LOOK_STEPS)


def base64_findings_in(content: bytes, begin: int, end: int, meter: Meter) -> Iterator[Finding]:
    """Yield the tokens whose encoded prefix begins in `content[begin:end]`."""
    for form in base64_forms():
        last = begin - FAILED_LOOK_STEPS
        for likely in form.likely.finditer(content, begin, min(len(content), end + _MAX_LENGTH)):
            start = likely.start()
            if start >= end:
                break
            meter.spend(LOOK_STEPS)
            match = form.pattern.match(content, start, start + _MAX_LENGTH)
            if match is not None:
                yield from _finding(match, form)
            else:
                meter.spend(min(FAILED_LOOK_STEPS, _SHORT_LOOK_STEPS + _STEPS_PER_BYTE * (start - last)))
                last = start


def _finding(match: regex.Match[bytes], form: Base64Form) -> Iterator[Finding]:
    letters = form.lead + b"".join(match.captures("unit"))
    token = form.token.search(binascii.a2b_base64(letters.translate(_FROM_URL) + b"=" * (-len(letters) % 4)))
    if token is None:
        return
    start = match.start()
    # The letter before the match encodes some bits of the token's first byte, so it belongs to the token.
    if form.lead and start and match.string[start - 1] in _LETTERS:
        start -= 1
    yield Finding(token[0], start, match.end(), ("base64",))

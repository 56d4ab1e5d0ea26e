"""The byte strings (cores) for which the matcher searches, for example `r8` for a token that begins with `r8_`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from scanner.detection.patterns.fastest_order import FASTEST_ORDER
from scanner.detection.patterns.needles import (
    Needle,
    base64_texts,
    encoded_needles,
    in_both_cases,
    needles,
    plain_needle,
)
from scanner.detection.patterns.token_formats import DEFAULT_FORMATS, active_formats, derived_from_formats
from scanner.detection.patterns.word_ends import end_of_word_expression, other_word_expression

MAX_GROUP = 64
"""The maximum number of byte strings (cores) that one automaton can search for with vector instructions."""
MIN_CORE = 3
"""The minimum length of a core in bytes. Shorter cores would make the search slow."""


_PARTS_OF_STREAMS = (b"begin ", b"x1f", b"x1F", b"x\\x9", b"139", b"-117", b"\n00000")

AT_END = -1
"""The key of `Core.views` for needles that end with the core. No byte has this value."""
_TAG_START = b"</"


class Core(NamedTuple):
    """A byte string to search for, and the needles (first bytes of an encoded token) that contain it.

    Attributes:
        needle: The only needle that contains `text`, or None if bytes around `text` must be compared.
        views: The ranges of bytes to compare with needles, by the byte that follows `text` in them, or AT_END.
        before: The bytes that can precede `text` in a needle that ends with `text`.
        refuted: A pattern that begins with `needle`, or None. No token begins where the pattern matches.
    """

    text: bytes
    needle: Needle | None
    views: Mapping[int, tuple[View, ...]]
    before: frozenset[int] = frozenset()
    refuted: re.Pattern[bytes] | None = None


class View(NamedTuple):
    """A range of bytes around a core, and the needles that may be in this range.

    Attributes:
        ahead: How many bytes before the core the range begins.
        needles: For each possible content of the range: its needle, and the distance from the needle's start to the
            core.
    """

    ahead: int
    length: int
    needles: Mapping[bytes, tuple[Needle, int]]


def _shared_parts(prefix: bytes) -> list[bytes]:
    """Return byte strings that begin a token in several encodings, and seldom occur elsewhere."""
    one, two, three = (b"%02x" % byte for byte in prefix[:3])
    decimal = b"%d" % prefix[0]
    parts = [two + b" ", two + b"\n", decimal if len(decimal) >= MIN_CORE else decimal + b","]
    parts += [digits[0] + digits[1] for digits in in_both_cases(two, three)]
    parts += [two + one, b" " + three, b"," + two, b"x" + one, b"00" + one, b"{" + one]
    parts += [gap + text[1:] for text in base64_texts(prefix) for gap in (b"\n", b"\\n")]
    parts += [b"\\n" + text[2:] for text in base64_texts(prefix)]
    parts += [b"\n" + text[2:] for text, _ in encoded_needles(prefix[:3])]
    parts += [b"\n" + prefix[1:3], prefix.partition(b"_")[0] + b"{"]
    return [part for part in (*parts, *_PARTS_OF_STREAMS) if len(part) >= MIN_CORE]


def _common_beginnings(needles: Sequence[Needle]) -> list[bytes]:
    texts = sorted(needle.text for needle in needles if needle.kind == "run")
    found = set()
    for one, other in pairwise(texts):
        same = next((at for at, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), len(one))
        found.add(one[:same])
    return sorted((text for text in found if len(text) >= MIN_CORE), key=len)


def _cores(needles: Sequence[Needle], parts: Sequence[bytes]) -> list[Core]:
    """Choose the byte strings to search for (cores), so that each needle contains a core."""
    members: dict[bytes, list[Needle]] = {}
    for needle in needles:
        members.setdefault(next((part for part in parts if part in needle.text), needle.text), []).append(needle)
    return [_core(text if len(found) > 1 else found[0].text, found) for text, found in members.items()]


def _core(text: bytes, needles: Sequence[Needle]) -> Core:
    only = needles[0] if len(needles) == 1 and needles[0].text == text and not needles[0].before else None
    views: dict[int, dict[tuple[int, int], dict[bytes, tuple[Needle, int]]]] = {}
    before = set[int]()
    for needle in needles if only is None else ():
        ahead = needle.text.index(text)
        following = needle.text[ahead + len(text) :]
        for whole in [b"%c%b" % (byte, needle.text) for byte in needle.before] or [needle.text]:
            begin = ahead + len(whole) - len(needle.text)
            ranges = views.setdefault(following[0] if following else AT_END, {})
            ranges.setdefault((begin, len(whole)), {})[whole] = (needle, ahead)
            if not following:
                before |= {whole[begin - 1]} if begin else set(range(256))
    by_next = {byte: tuple(View(*place, found) for place, found in ranges.items()) for byte, ranges in views.items()}
    return Core(text, only, by_next, frozenset(before), None if only is None else _refuted(only))


def _refuted(needle: Needle) -> re.Pattern[bytes] | None:
    """Return a pattern that begins with the needle. Where it matches, no token of any format begins."""
    if needle.kind != "token":
        return None
    first = needle.text.removesuffix(_TAG_START)
    formats = [form for form in active_formats() if form.prefix.encode().startswith(first)]
    if first != needle.text:
        endings = [rb"%b(?:%b)" % (re.escape(first), end_of_word_expression(form)) for form in formats]
    elif any(plain_needle(form.prefix.encode()) == needle.text for form in formats):
        endings = [other_word_expression(form) for form in formats]
    else:
        return None
    return re.compile(b"".join(rb"(?=%b)" % ending for ending in endings))


class _Group:
    """The byte strings that one Aho-Corasick automaton searches for."""

    def __init__(self) -> None:
        self.cores: list[Core] = []
        self._texts: set[bytes] = set()
        self._beginnings: set[bytes] = set()

    def takes(self, core: Core) -> bool:
        """Add a byte string to the group if there is room. Return whether it was added."""
        # An automaton finds only one string at an offset, so no string may begin with another one.
        beginnings = {core.text[:end] for end in range(1, len(core.text) + 1)}
        if len(self.cores) == MAX_GROUP or core.text in self._beginnings or not beginnings.isdisjoint(self._texts):
            return False
        self.cores.append(core)
        self._texts.add(core.text)
        self._beginnings |= beginnings
        return True


def _groups(cores: Sequence[Core]) -> tuple[tuple[Core, ...], ...]:
    groups: list[_Group] = []
    for core in cores:
        if not any(group.takes(core) for group in groups):
            groups.append(_Group())
            groups[-1].takes(core)
    return tuple(tuple(group.cores) for group in groups)


@derived_from_formats
def core_groups() -> tuple[tuple[Core, ...], ...]:
    """Return the byte strings (cores) to search for, one group for each automaton."""
    prefixes = [form.prefix.encode() for form in active_formats()]
    parts = [part for prefix in prefixes for part in _shared_parts(prefix)]
    cores = _cores(needles(), [*_common_beginnings(needles()), *parts])
    if active_formats() == DEFAULT_FORMATS:
        places = {text: at for at, text in enumerate(FASTEST_ORDER)}
        return _groups(sorted(cores, key=lambda core: places.get(core.text, len(places))))
    return _groups(sorted(cores, key=lambda core: core.text[2::-1]))

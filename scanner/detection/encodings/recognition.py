"""Decides whether a token begins at an offset, and in which encoding it is written."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

from scanner.detection.encodings.base64_tokens import base64_findings_at, base64_findings_in
from scanner.detection.encodings.character_arrays import array_starts_at, array_starts_in
from scanner.detection.encodings.encoded_parts import encoded_parts_at
from scanner.detection.encodings.hex_dumps import MAX_LINE, dump_findings_at, dump_findings_in, word_findings_at
from scanner.detection.encodings.reversed_tokens import reversed_tokens_at, reversed_tokens_in
from scanner.detection.encodings.separated_parts import separated_parts_at
from scanner.detection.encodings.split_literals import split_literals_at
from scanner.detection.findings import Finding
from scanner.detection.limits import Meter
from scanner.detection.patterns.joints import joint_kind, unit_kind, unit_value
from scanner.detection.patterns.matcher import DECODED, Hit, Window
from scanner.detection.patterns.needles import Kind, plain_needle
from scanner.detection.patterns.token_formats import derived_from_formats
from scanner.detection.patterns.token_patterns import Match, Pattern, TokenPatterns, token_patterns

MAX_WRAPS = 2
"""The maximum number of line breaks inside one token. A column of short words has more."""

_WORDS_OF_LIST = range(3, 13)
"""A list of this many short words may be as long as a token, and could be mistaken for one."""

LOOK_STEPS: dict[Kind, int] = {
    "token": 1300,
    "characters": 400,
    "hex": 3000,
    "list": 5500,
    "wide": 150,
    "base64": 1500,
    "wide_base64": 1500,
    "reversed": 150,
    "run": 300,
    "stream": 100,
}
"""Testing one needle of this kind counts as this many steps of work, of ten nanoseconds each."""

_STEPS_PER_CORE = 200
"""Each core that the matcher found counts as this many steps of work. The matcher itself counts no work."""

_SEARCH_STEPS = 8
_LIST_SEARCH_STEPS = 12
"""Each byte that is searched with the patterns of number lists counts as this many steps of work."""

_STEPS_PER_BYTE = 50
_STEPS_PER_JOINT = 250
"""The work counted for an escaped token: for each joint and, if the token is incomplete, for each byte."""

_HEX_SIGN = b"0x"
_DECIMAL_START = re.compile(rb"[0-9]{2,3}[\s,;)+<|./:_?-]")

_MAX_TO_SECOND = 128
"""The maximum number of bytes from the first number of a decimal list to the end of the second number."""
_DIRECTIVE = b"byte\t"
"""The end of an assembler directive such as `.byte`, after which the numbers follow."""
_RECORD_START = re.compile(rb"[:S]")
_WIDE_LEAD = 6
"""The number of digits before `005F` in `720038005F`, the hexadecimal UTF-16 of `r8_`."""
_RECORD_HEADER = 10
"""The number of letters in an S-record before the last byte of its address."""
_ADDRESS = re.compile(rb"0x[0-9a-f]{3,16}(?: <[^<>\n]{1,80}>)?:\t")

MAX_ENCODED_BYTES = 4096
"""The maximum number of bytes from the first to the last letter of an encoded token."""


@derived_from_formats
def _plain_patterns() -> dict[bytes, tuple[Pattern, ...]]:
    """Return the patterns of tokens in plain text, by the first bytes of the tokens' prefixes."""
    found: dict[bytes, tuple[Pattern, ...]] = {}
    for patterns in token_patterns():
        needle = plain_needle(patterns.form.prefix.encode())
        found[needle] = (*found.get(needle, ()), patterns.plain)
    return found


def findings_of(content: bytes, window: Window, meter: Meter) -> Iterator[Finding]:
    """Yield every token at the offsets in `window` where the matcher found the first bytes of a token."""
    if "token" in window.crowded:
        yield from plain_tokens(content, window.begin, window.end, meter)
    others: list[Hit] = []
    plain_patterns, formats = _plain_patterns(), len(token_patterns())
    for start, needle in window.hits:
        is_plain = False
        for pattern in plain_patterns.get(needle.text, ()):
            match = pattern.match(content, start)
            if match is not None:
                is_plain = True
                yield Finding(match[0], start, match.end())
        if not is_plain and needle.kind not in DECODED:
            others.append((start, needle))
    meter.spend(_STEPS_PER_CORE * window.cores)
    for start, needle in others:
        meter.spend(LOOK_STEPS[needle.kind] * formats)
        yield from findings_at(content, start, needle.kind, meter)
    for kind in sorted(window.crowded - DECODED):
        yield from _searched(content, kind, window.begin, window.end, meter)


def plain_tokens(content: bytes, begin: int, end: int, meter: Meter) -> Iterator[Finding]:
    """Yield the tokens in plain text that start in `content[begin:end]`.

    When the document's limit of tokens is reached, only count further tokens.
    """
    for patterns in token_patterns():
        if meter.full:
            last = min(len(content), end + patterns.form.length - 1)
            meter.turn_away(patterns.plain.findall(content, begin, last))
            continue
        for match in starting_in(patterns.plain, content, begin, end):
            yield Finding(match[0], match.start(), match.end())


def _token_at(content: bytes, start: int, meter: Meter | None) -> Iterator[Finding]:
    """Yield the tokens whose first letter, plain or escaped, is at offset `start`."""
    for patterns in token_patterns():
        if patterns.end_of_word.match(content, start + 1):
            continue
        match = patterns.plain.match(content, start)
        if match is not None:
            yield Finding(match[0], start, match.end())
            continue
        match = _units_at(content, start, patterns, meter)
        if match is not None:
            finding = _units_finding(match, patterns)
            if finding is not None:
                yield finding
            continue
        yield from _decimal_escapes(content, start, patterns)
        yield from split_literals_at(content, start, patterns, meter)
        yield from separated_parts_at(content, start, patterns)
        yield from _marked_end(content, start, patterns)


def _units_at(content: bytes, start: int, patterns: TokenPatterns, meter: Meter | None = None) -> Match | None:
    """Return the match of a whole token's characters, plain or escaped, at offset `start`, or None."""
    match = patterns.units.match(content, start, start + MAX_ENCODED_BYTES)
    if match is None:
        return None
    is_complete = len(match.captures("unit")) == patterns.form.length
    if meter is not None:
        size = 0 if is_complete else match.end() - start
        meter.spend(_STEPS_PER_BYTE * size + _STEPS_PER_JOINT * len(match.captures("joint")))
    return match if is_complete else None


def _decimal_escapes(content: bytes, start: int, patterns: TokenPatterns) -> Iterator[Finding]:
    match = patterns.decimal_escapes.match(content, start, start + MAX_ENCODED_BYTES)
    if match is not None:
        codes = [unit[0] if len(unit) == 1 else int(unit.lstrip(b"\\")) for unit in match.captures("unit")]
        if max(codes) < 128:
            yield from _checked(bytes(codes), match, patterns, "decimal-escape")


def _marked_end(content: bytes, start: int, patterns: TokenPatterns) -> Iterator[Finding]:
    """Yield the token at `start` if its last letter has the high bit set."""
    match = patterns.marked_end.match(content, start)
    if match is not None:
        yield from _checked(match[0][:-1] + bytes((match[0][-1] & 0x7F,)), match, patterns, "kryo")


def findings_at(content: bytes, start: int, kind: Kind, meter: Meter | None = None) -> Iterator[Finding]:
    """Yield every token that begins at offset `start`, where the matcher found the first bytes of a token.

    Args:
        kind: The encoding that the matcher recognized. It must not be `run` or `stream`.
        meter: Limits the work of expensive searches.
    """
    if kind == "token":
        return _token_at(content, start, meter)
    if kind == "characters":
        starts = array_starts_at(content, start)
        return chain.from_iterable(_token_at(content, start, meter) for start in starts)
    if kind == "base64":
        return chain(base64_findings_at(content, start, meter), encoded_parts_at(content, start, "base64", meter))
    if kind == "hex":
        return chain(_hex_at(content, start), encoded_parts_at(content, start, "hex", meter))
    return _LOOKS[kind](content, start)


def _units_finding(match: Match, patterns: TokenPatterns) -> Finding | None:
    units, joints = match.captures("unit"), match.captures("joint")
    token = bytes(map(unit_value, units))
    kind_of = {joint: joint_kind(joint) for joint in set(joints)}
    kinds = [kind_of[joint] for joint in joints]
    if not patterns.plain.fullmatch(token) or kinds.count("wrapped") > MAX_WRAPS:
        return None
    if kinds.count("concatenation") in _WORDS_OF_LIST and not patterns.form.may_be_body(
        token[len(patterns.form.prefix) :]
    ):
        return None
    escaped = max(units, key=len)
    name = unit_kind(escaped) if len(escaped) > 1 else (kinds[0] if kinds else "plain")
    return Finding(token, match.start(), match.end(), (name,))


def starting_in(pattern: Pattern, content: bytes, begin: int, end: int) -> Iterable[Match]:
    """Yield every match that starts in `content[begin:end]`, including matches that overlap others."""
    for match in pattern.finditer(content, begin, min(len(content), end + MAX_ENCODED_BYTES), overlapped=True):
        if match.start() >= end:
            return
        yield match


def _lists_in(first: re.Pattern[bytes], pattern: Pattern, content: bytes, begin: int, end: int) -> Iterator[Match]:
    """Yield every match of `pattern` whose first number, which `first` matches, starts in `content[begin:end]`."""
    last = min(len(content), end + MAX_ENCODED_BYTES)
    for number in first.finditer(content, begin, last):
        start = number.start()
        if start >= end:
            return
        sign = start - len(_HEX_SIGN)
        match = pattern.match(content, sign if sign >= 0 and content.startswith(_HEX_SIGN, sign) else start, last)
        if match is not None:
            yield match


def _hex_at(content: bytes, start: int) -> Iterator[Finding]:
    is_found = False
    for patterns in token_patterns():
        match = patterns.hexadecimal.match(content, start)
        if match is not None:
            is_found = True
            yield from _hex_finding(match, patterns)
    if not is_found:
        yield from _list_at(content, start)


def _hex_finding(match: Match, patterns: TokenPatterns) -> Iterator[Finding]:
    return _checked(bytes.fromhex(match[0].decode("ascii")), match, patterns, "hex")


def _checked(token: bytes, match: Match, patterns: TokenPatterns, encoding: str) -> Iterator[Finding]:
    """Yield a finding if the decoded `token` is a token of the format."""
    if patterns.plain.fullmatch(token):
        yield Finding(token, match.start(), match.end(), (encoding,))


def _list_at(content: bytes, start: int) -> Iterator[Finding]:
    # The digits "00" may be from UTF-16 text in hexadecimal, or from an S-record or Intel HEX record, which begins with
    # a letter or colon.
    if content.startswith(b"00", start):
        yield from _wide_hex_at(content, start - _WIDE_LEAD)
        if not _RECORD_START.search(content, max(0, start - _RECORD_HEADER), start):
            return
    if content.startswith(_DIRECTIVE, start):
        start += len(_DIRECTIVE)
    number = _DECIMAL_START.match(content, start)
    if number is not None:
        for patterns in token_patterns():
            # Test first with `find` for the token's second letter, because that is faster than a pattern.
            if content.find(b"%d" % ord(patterns.form.prefix[1]), start, start + _MAX_TO_SECOND) < 0:
                continue
            match = patterns.decimal_list.match(content, start, start + MAX_ENCODED_BYTES)
            if match is not None:
                yield from _decimal_list_finding(match, patterns)
        if len(number[0]) == 4:
            # A number of three digits is no hexadecimal byte.
            return
    wide = False
    for patterns in token_patterns():
        match = patterns.wide_hex_list.match(content, start, start + MAX_ENCODED_BYTES)
        if match is not None:
            wide = True
            yield from _hex_list_finding(match, patterns)
    if wide:
        return
    yield from word_findings_at(content, start)
    matches = [
        (match, patterns)
        for patterns in token_patterns()
        if (match := patterns.hex_list.match(content, start, start + MAX_ENCODED_BYTES)) is not None
    ]
    # Text with line breaks may be a hex dump, in which some digits are an offset. So read it as a dump first.
    is_list = content.startswith(b"0x", start) and not _is_after_address(content, start)
    may_be_dump = not is_list and (not matches or any(b"\n" in match[0] for match, _ in matches))
    found = list(dump_findings_at(content, start)) if may_be_dump else []
    yield from found
    if not found:
        for match, patterns in matches:
            yield from _hex_list_finding(match, patterns)


def _wide_hex_at(content: bytes, start: int) -> Iterator[Finding]:
    """Yield the token in UTF-16 whose hexadecimal digits begin at `start`."""
    for patterns in token_patterns() if start >= 0 else ():
        match = patterns.wide_hexadecimal.match(content, start)
        if match is not None:
            token = bytes.fromhex(match[0].decode("ascii"))[::2]
            yield from _checked(token, match, patterns, "hex")


def _is_after_address(content: bytes, start: int) -> bool:
    """Return whether the line around `start` begins with a memory address, as in GDB."""
    line = content.rfind(b"\n", max(0, start - MAX_LINE), start) + 1
    return _ADDRESS.match(content, line, start) is not None


def _hex_list_finding(match: Match, patterns: TokenPatterns) -> Iterator[Finding]:
    body = bytes(int(unit, 16) for unit in match.captures("unit"))
    return _checked(patterns.form.prefix.encode() + body, match, patterns, "hex-list")


def _decimal_list_finding(match: Match, patterns: TokenPatterns) -> Iterator[Finding]:
    body = bytes(int(unit) for unit in match.captures("unit"))
    return _checked(patterns.form.prefix.encode() + body, match, patterns, "decimal-list")


def _wide_at(content: bytes, start: int) -> Iterator[Finding]:
    for pattern, step, name in _wide_patterns():
        match = pattern.match(content, start)
        if match is not None:
            yield Finding(match[0][::step], start, match.end(), (name,))


@derived_from_formats
def _wide_patterns() -> tuple[tuple[Pattern, int, str], ...]:
    """Return the patterns of tokens in UTF-16 and UTF-32, with character size and encoding name."""
    return tuple(
        wide for patterns in token_patterns() for wide in ((patterns.utf16, 2, "utf-16"), (patterns.utf32, 4, "utf-32"))
    )


def _wide_base64_at(content: bytes, start: int) -> Iterator[Finding]:
    narrow = content[start : start + MAX_ENCODED_BYTES : 2]
    for finding in base64_findings_at(narrow, 0):
        yield finding._replace(start=start, end=start + 2 * finding.end, encoding=("utf-16", "base64"))


_LOOKS: dict[Kind, Callable[[bytes, int], Iterator[Finding]]] = {
    "list": _list_at,
    "wide": _wide_at,
    "wide_base64": _wide_base64_at,
    "reversed": reversed_tokens_at,
}


def _searched(content: bytes, kind: Kind, begin: int, end: int, meter: Meter) -> Iterator[Finding]:
    """Yield the tokens of one encoding that begin in `content[begin:end]`."""
    steps = _LIST_SEARCH_STEPS if kind == "list" else _SEARCH_STEPS
    meter.spend(steps * (end - begin) * len(token_patterns()))
    if kind == "token":
        yield from _searched_escapes(content, begin, end, meter)
    elif kind == "hex":
        for patterns in token_patterns():
            for match in starting_in(patterns.hexadecimal, content, begin, end):
                yield from _hex_finding(match, patterns)
        yield from dump_findings_in(content, begin, end, meter)
    elif kind == "list":
        for patterns in token_patterns():
            for match in _lists_in(patterns.hex_list_start, patterns.hex_list, content, begin, end):
                yield from _hex_list_finding(match, patterns)
            for match in starting_in(patterns.wide_hex_list, content, begin, end):
                yield from _hex_list_finding(match, patterns)
            for match in _lists_in(patterns.decimal_list_start, patterns.decimal_list, content, begin, end):
                yield from _decimal_list_finding(match, patterns)
        yield from dump_findings_in(content, begin, end, meter)
    elif kind == "characters":
        for start in array_starts_in(content, begin, end):
            meter.spend(LOOK_STEPS["token"])
            yield from _token_at(content, start, meter)
    elif kind == "wide":
        for pattern, step, name in _wide_patterns():
            for match in starting_in(pattern, content, begin, end):
                yield Finding(match[0][::step], match.start(), match.end(), (name,))
    elif kind == "base64":
        yield from base64_findings_in(content, begin, end, meter)
    elif kind == "reversed":
        yield from reversed_tokens_in(content, begin, end)
    elif kind == "wide_base64":
        for first in (begin, begin + 1):
            narrow = content[first : end + MAX_ENCODED_BYTES : 2]
            for finding in base64_findings_in(narrow, 0, (end - first + 1) // 2, meter):
                start, stop = first + 2 * finding.start, first + 2 * finding.end
                yield finding._replace(start=start, end=stop, encoding=("utf-16", "base64"))


def _searched_escapes(content: bytes, begin: int, end: int, meter: Meter) -> Iterator[Finding]:
    for patterns in token_patterns():
        for match in starting_in(patterns.escaped, content, begin, end):
            meter.spend(LOOK_STEPS["token"])
            units = _units_at(content, match.start(), patterns, meter)
            finding = _units_finding(units, patterns) if units is not None else None
            if finding is not None:
                yield finding

"""Looks closer at the matcher's hits: which of them spell a token, and how. Text only; containers are elsewhere.

`ENCODINGS` lists every name that this module gives; longer runs of base64 are decoded by `runs`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import regex

from scanner.detection.base64_tokens import base64_findings_at, base64_findings_in
from scanner.detection.digests import TOKEN_LENGTH
from scanner.detection.findings import Finding
from scanner.detection.hex_dumps import dump_findings_at, dump_findings_in
from scanner.detection.joints import (
    DECIMAL_ALNUM,
    HEX_ALNUM,
    TOKEN,
    UNITS,
    joint_kind,
    unit_kind,
    unit_value,
)
from scanner.detection.limits import Meter
from scanner.detection.matcher import DECODED, Hit, Window
from scanner.detection.needles import Kind

MAX_WRAPS = 2
"""A token of 40 letters is not broken over more lines than this plus one; columns of short words are."""

_HEX = regex.compile(rb"72385[fF]" + HEX_ALNUM + rb"{37}")
_GAP = rb"[\s,:;-]{0,40}+(?:0[xX])?+"
_HEX_LIST = regex.compile(
    rb"(?:0x)?72" + _GAP + rb"38" + _GAP + rb"5[fF](?:" + _GAP + rb"(?P<unit>" + HEX_ALNUM + rb")){37}"
)
_COMMA = rb"[\s,;]{1,40}+"
_DECIMAL_LIST = regex.compile(
    rb"114" + _COMMA + rb"56" + _COMMA + rb"95(?:" + _COMMA + rb"(?P<unit>" + DECIMAL_ALNUM + rb")(?![0-9])){37}"
)
_UTF16 = regex.compile(rb"r\x008\x00_(?:\x00[0-9A-Za-z]){37}")
_UTF32 = regex.compile(rb"r\x00{3}8\x00{3}_(?:\x00{3}[0-9A-Za-z]){37}")
_BREAK = rb"[%=&\\\\\"'`\r\n<\xe2\xc2\xef]"
_NOT_PLAIN = regex.compile(
    rb"r8_[0-9A-Za-z]{0,36}+"
    + _BREAK
    + rb"|r8?"
    + _BREAK
    + rb"|(?:%(?:25)*+|=|\\(?:x|u\{?0*+|U0+)|&\#[xX])72|&\#0*+114|\\162"
)
_PURE_TOKEN = TOKEN.fullmatch
LOOK_STEPS: dict[Kind, int] = {
    "token": 1000,
    "hex": 3000,
    "list": 3000,
    "wide": 150,
    "base64": 1500,
    "wide_base64": 1500,
    "run": 300,
    "stream": 100,
}
"""Steps that a look at one hit is paid with: ten nanoseconds each, as measured on needles in a row."""

_SEARCH_STEPS = 8
"""Steps per byte of a window that is searched by patterns: they fail in C at each needle of a crowd."""

MAX_ENCODED_BYTES = 4096
"""Bytes from the first to the last letter of a token. Forty letters, each escaped and on a line of its own, need fewer.
The bound keeps the work of one hit constant."""

Match: TypeAlias = regex.Match[bytes]


def findings_of(content: bytes, window: Window, meter: Meter) -> Iterator[Finding]:
    """Yield every token spelled at one of the window's hits (`run` and `stream` needles are not looked at).

    Plain tokens come first and cost no work. Raises LimitReachedError before a look that is not paid for.
    """
    if "token" in window.crowded:
        yield from plain_tokens(content, window.begin, window.end, meter)
    others: list[Hit] = []
    for start, needle in window.hits:
        match = TOKEN.match(content, start) if needle.text == b"r8_" else None
        if match is not None:
            yield Finding(match[0], start, start + 40)
        elif needle.kind not in DECODED:
            others.append((start, needle))
    for start, needle in others:
        meter.spend(LOOK_STEPS[needle.kind])
        yield from findings_at(content, start, needle.kind)
    for kind in sorted(window.crowded - DECODED):
        yield from _searched(content, kind, window.begin, window.end, meter)


def plain_tokens(content: bytes, begin: int, end: int, meter: Meter) -> Iterator[Finding]:
    """Yield the plain tokens that start in `content[begin:end]`; linear, whatever the content is.

    When the document is full, they are counted only, which is several times faster.
    """
    if meter.full:
        meter.turn_away(TOKEN.findall(content, begin, min(len(content), end + TOKEN_LENGTH - 1)))
        return
    for match in starting_in(TOKEN, content, begin, end):
        yield Finding(match[0], match.start(), match.end())


def token_at(content: bytes, start: int) -> Finding | None:
    """The token whose first letter, plain or escaped, stands at `start`."""
    match = TOKEN.match(content, start)
    if match is not None:
        return Finding(match[0], start, start + 40)
    match = UNITS.match(content, start, start + MAX_ENCODED_BYTES)
    return _units_finding(match) if match is not None else None


def findings_at(content: bytes, start: int, kind: Kind) -> Iterator[Finding]:
    """Every token spelled at a hit of `kind` (not `run` or `stream`); reads at most MAX_ENCODED_BYTES."""
    if kind != "token":
        yield from _OTHERS[kind](content, start)
    elif (finding := token_at(content, start)) is not None:
        yield finding


def _units_finding(match: Match) -> Finding | None:
    units, joints = match.captures("unit"), match.captures("joint")
    token = bytes(map(unit_value, units))
    kinds = [joint_kind(joint) for joint in joints]
    if not _PURE_TOKEN(token) or kinds.count("wrapped") > MAX_WRAPS:
        return None
    escaped = max(units, key=len)
    name = unit_kind(escaped) if len(escaped) > 1 else (kinds[0] if kinds else "plain")
    return Finding(token, match.start(), match.end(), (name,))


def starting_in(pattern: regex.Pattern[bytes], content: bytes, begin: int, end: int) -> Iterable[Match]:
    """Every match that starts in `content[begin:end]`, overlapping ones included."""
    for match in pattern.finditer(content, begin, min(len(content), end + MAX_ENCODED_BYTES), overlapped=True):
        if match.start() >= end:
            return
        yield match


def _hex_at(content: bytes, start: int) -> Iterator[Finding]:
    match = _HEX.match(content, start)
    if match is not None:
        yield from _hex_finding(match)
    else:
        yield from dump_findings_at(content, start)


def _hex_finding(match: Match) -> Iterator[Finding]:
    yield Finding(bytes.fromhex(match[0].decode("ascii")), match.start(), match.end(), ("hex",))


def _list_at(content: bytes, start: int) -> Iterator[Finding]:
    if content.startswith(b"114", start):
        match = _DECIMAL_LIST.match(content, start, start + MAX_ENCODED_BYTES)
        yield from _decimal_list_finding(match) if match is not None else ()
        return
    match = _HEX_LIST.match(content, start, start + MAX_ENCODED_BYTES)
    # Where lines are broken, digits may also be offsets and text.
    may_be_dump = not content.startswith(b"0x", start) and (match is None or b"\n" in match[0])
    found = list(dump_findings_at(content, start)) if may_be_dump else []
    yield from found or (_hex_list_finding(match) if match is not None else ())


def _hex_list_finding(match: Match) -> Iterator[Finding]:
    token = b"r8_" + bytes(int(unit, 16) for unit in match.captures("unit"))
    yield Finding(token, match.start(), match.end(), ("hex-list",))


def _decimal_list_finding(match: Match) -> Iterator[Finding]:
    token = b"r8_" + bytes(int(unit) for unit in match.captures("unit"))
    if _PURE_TOKEN(token):
        yield Finding(token, match.start(), match.end(), ("decimal-list",))


def _wide_at(content: bytes, start: int) -> Iterator[Finding]:
    for pattern, step, name in ((_UTF16, 2, "utf-16"), (_UTF32, 4, "utf-32")):
        match = pattern.match(content, start)
        if match is not None:
            yield Finding(match[0][::step], start, match.end(), (name,))


def _wide_base64_at(content: bytes, start: int) -> Iterator[Finding]:
    narrow = content[start : start + MAX_ENCODED_BYTES : 2]
    for finding in base64_findings_at(narrow, 0):
        yield finding._replace(start=start, end=start + 2 * finding.end, encoding=("utf-16", "base64"))


_OTHERS = {
    "hex": _hex_at,
    "list": _list_at,
    "wide": _wide_at,
    "base64": base64_findings_at,
    "wide_base64": _wide_base64_at,
}


def _searched(content: bytes, kind: Kind, begin: int, end: int, meter: Meter) -> Iterator[Finding]:
    """Do the same as a look at each hit of one kind, in C: `regex` walks from one possible start to the next."""
    meter.spend(_SEARCH_STEPS * (end - begin))
    if kind == "token":
        yield from _searched_escapes(content, begin, end, meter)
    elif kind == "hex":
        for match in starting_in(_HEX, content, begin, end):
            yield from _hex_finding(match)
        yield from dump_findings_in(content, begin, end, meter)
    elif kind == "list":
        for match in starting_in(_HEX_LIST, content, begin, end):
            yield from _hex_list_finding(match)
        for match in starting_in(_DECIMAL_LIST, content, begin, end):
            yield from _decimal_list_finding(match)
        yield from dump_findings_in(content, begin, end, meter)
    elif kind == "wide":
        for pattern, step, name in ((_UTF16, 2, "utf-16"), (_UTF32, 4, "utf-32")):
            for match in starting_in(pattern, content, begin, end):
                yield Finding(match[0][::step], match.start(), match.end(), (name,))
    elif kind == "base64":
        yield from base64_findings_in(content, begin, end, meter)
    elif kind == "wide_base64":
        for first in (begin, begin + 1):
            narrow = content[first : end + MAX_ENCODED_BYTES : 2]
            for finding in base64_findings_in(narrow, 0, (end - first + 1) // 2, meter):
                start, stop = first + 2 * finding.start, first + 2 * finding.end
                yield finding._replace(start=start, end=stop, encoding=("utf-16", "base64"))


def _searched_escapes(content: bytes, begin: int, end: int, meter: Meter) -> Iterator[Finding]:
    for match in starting_in(_NOT_PLAIN, content, begin, end):
        meter.spend(LOOK_STEPS["token"])
        units = UNITS.match(content, match.start(), match.start() + MAX_ENCODED_BYTES)
        finding = _units_finding(units) if units is not None else None
        if finding is not None:
            yield finding

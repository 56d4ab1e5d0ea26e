"""Search for tokens whose prefix and rest are separate string literals or separate values of a configuration file."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from scanner.detection.findings import Finding
from scanner.detection.limits import Meter
from scanner.detection.patterns.token_formats import MAX_TOKEN_LENGTH, TokenFormat
from scanner.detection.patterns.token_patterns import MIN_LAST_PART, TokenPatterns

_STEPS = 5_000
"""A string literal at the beginning of a token counts as this many steps of work, of ten nanoseconds each."""
_SPAN = 1024
_LINES = 12
"""The maximum distance between two parts of a token, in lines."""
_MIN_PART = 4
"""The minimum number of characters in each further part of a token with more than two parts."""
# A translation table that replaces every character outside the base64 alphabet by a space.
_WORDS_ONLY = bytes(
    byte if chr(byte).isascii() and (chr(byte).isalnum() or byte in b"+/_-") else 32 for byte in range(256)
)
_IS_LETTER = bytes(byte != 32 for byte in range(256))
_ONES = b"\1" * MAX_TOKEN_LENGTH
_QUOTES = (b'"', b"'", b"`")
_IS_KEY = re.compile(rb"\s{0,3}[:=\]]")
# A variable with the earlier parts of the token, before the next part: `"${K}…"`, `%K%…`.
_VARIABLE = rb"(?:(?:[A-Za-z_]\w{0,40}+=)?%\w{1,40}+%|\$\{\w{1,40}+\}|\$\(\w{1,40}+\)|\{\$?\w{1,40}+\})?+"
# The beginning of an assignment to a variable, up to the operator: `export KEY=`, `set KEY=`, `key: `.
_NAME = (
    rb"(?:(?:set|setx|export|declare|local|let|var|const|ENV|ARG|-e|--env|--build-arg)[ ]{1,4}+)?+"
    rb"[A-Za-z_$][0-9A-Za-z_.-]{0,60}+[ \t]{0,20}+(?:[:+?]?=|:)[ ]{0,4}+"
)
_END_OF_VALUE = rb"(?=(?:[ \t]{0,8}+\\)?\r?\n)"
_NEXT_LINE = rb"(?:[ \t]{0,8}+\\)?\r?\n[ \t]*+"


def split_literals_at(
    content: bytes, start: int, patterns: TokenPatterns, meter: Meter | None = None
) -> Iterator[Finding]:
    """Yield the token whose beginning is a string literal at `start` and whose rest is in other literals nearby."""
    form, part = patterns.form, b""
    first = patterns.lone_prefix.match(content, start)
    if first is None:
        first = patterns.first_part.match(content, start)
        if first is None:
            yield from _in_values(content, start, patterns, meter)
            return
        part = first["part"]
    if meter is not None:
        meter.spend(_STEPS)
    rest = _word_near(content, start, first.end(), form, form.body_length - len(part), quoted=bool(part))
    if rest is not None:
        stop = rest + form.body_length - len(part)
        yield from _joined(part + content[rest:stop], min(start, rest), max(first.end(), stop), form)
    elif first[0].endswith(_QUOTES):
        yield from _in_literals(content, start, first.end(), form, part)


def _word_near(content: bytes, start: int, end: int, form: TokenFormat, length: int, *, quoted: bool) -> int | None:
    """Return the offset of a word nearby that may be the rest of a token, or None."""
    if length < MIN_LAST_PART:
        return None
    spans = ((end - quoted, min(len(content), end + _SPAN)), (max(0, start - _SPAN), start))
    for is_before, (begin, stop) in enumerate(spans):
        words_only = content[begin:stop].translate(_WORDS_ONLY)
        # This test is ten times as fast as splitting the text into words, and most texts have no word of this length.
        if _ONES[:length] not in words_only.translate(_IS_LETTER):
            continue
        words = words_only.split()
        for word in reversed(words) if is_before else words:
            if len(word) != length or not form.may_contain(word):
                continue
            at = content.rfind(word, begin, stop) if is_before else content.find(word, begin, stop)
            gap = (at + length, start) if is_before else (end, at)
            around = content[at - 1 : at] + content[at + length : at + length + 1].replace(b"\\", b'"')
            is_literal = not around.strip(b"\"'`") if quoted else around[1:] != b"="
            if is_literal and content.count(b"\n", *gap) <= _LINES:
                return at
    return None


def _in_literals(content: bytes, start: int, end: int, form: TokenFormat, part: bytes) -> Iterator[Finding]:
    """Yield the token that begins with the literal `content[start:end]` and continues in the next literals."""
    body, last = part, end
    for literal in _literal(form).finditer(content, end, min(len(content), end + _SPAN)):
        if _IS_KEY.match(content, literal.end()):
            continue
        if content.count(b"\n", last, literal.start()) > _LINES:
            return
        body, last = body + literal[1], literal.end()
        if len(body) >= form.body_length:
            break
    yield from _joined(body, start, last, form)


def _in_values(content: bytes, start: int, patterns: TokenPatterns, meter: Meter | None) -> Iterator[Finding]:
    """Yield the token that begins in a line's value and continues in the next lines' values."""
    form = patterns.form
    value = _first_value(form).match(content, start)
    if value is None or content[start - 1 : start] not in (b"=", b" ", b":", b">"):
        return
    following = _next_element(form, value[2]) if value[2] else _value_line(form)
    body, last = value[1], value.end()
    if meter is not None:
        meter.spend(_STEPS)
    while len(body) < form.body_length and (line := following.match(content, last)) is not None:
        body, last = body + line[1], line.end()
    yield from _joined(body, start, last, form)


def _joined(body: bytes, start: int, end: int, form: TokenFormat) -> Iterator[Finding]:
    """Yield the token with `body` after the prefix, unless `body` consists of ordinary words."""
    if form.may_be_body(body):
        yield Finding(form.prefix.encode() + body, start, end, ("split-literal",))


@functools.cache
def _literal(form: TokenFormat) -> re.Pattern[bytes]:
    return re.compile(
        rb"[\"'`]"
        + _VARIABLE
        + rb"(%b{%d,%d}+)\\*+[\"'`]" % (form.character_class.encode(), _MIN_PART, form.body_length)
    )


@functools.cache
def _first_value(form: TokenFormat) -> re.Pattern[bytes]:
    return re.compile(
        rb"%b(%b{%d,}+)(?:%b|</([A-Za-z_][\w.:-]{0,40}+)>)"
        % (re.escape(form.prefix.encode()), form.character_class.encode(), _MIN_PART, _END_OF_VALUE)
    )


@functools.cache
def _value_line(form: TokenFormat) -> re.Pattern[bytes]:
    return re.compile(
        _NEXT_LINE
        + _NAME
        + rb"[\"']?+"
        + _VARIABLE
        + rb"(%b{%d,%d}+)[\"']?+(?:%b|\Z)" % (form.character_class.encode(), _MIN_PART, form.body_length, _END_OF_VALUE)
    )


@functools.lru_cache(maxsize=64)
def _next_element(form: TokenFormat, name: bytes) -> re.Pattern[bytes]:
    """Return the pattern of the next XML element with this name."""
    return re.compile(
        rb"\s{0,80}+(?:<key>[^<>]{0,80}+</key>\s{0,80}+)?+<%b(?:\s[^<>]{0,200}+)?+>(%b{%d,%d}+)</%b>"
        % (name, form.character_class.encode(), _MIN_PART, form.body_length, name)
    )

"""The exact patterns of a token in each encoding, built from the active token formats.

`encodings` decides what a match means.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import regex

from scanner.detection.joints import body_codes, decimal_code, hex_code, units_expression
from scanner.detection.token_formats import TokenFormat, active_formats, derived_from_formats

_GAP = rb"[\s,:;-]{0,40}+(?:0[xX])?+"
_COMMA = rb"[\s,;]{1,40}+"
_BREAK = rb"[%=&\\\\\"'`\r\n<\xe2\xc2\xef]"

Pattern: TypeAlias = regex.Pattern[bytes]
Match: TypeAlias = regex.Match[bytes]


class TokenPatterns(NamedTuple):
    """The patterns of one format.

    Attributes:
        plain: The token as it is.
        units: Any character may be escaped, and joints may stand between two; captures are named `unit` and `joint`.
        hexadecimal: Hexadecimal digits without anything between them.
        hex_list: Hexadecimal numbers with separators between them; the body's numbers are captured as `unit`.
        decimal_list: The same with decimal numbers.
        utf16: Big-endian UTF-16 without its first zero, which is little-endian UTF-16 without its last.
        utf32: The same for UTF-32.
        escaped: Where a token that is not plain may begin; for windows that are searched, not looked at hit by hit.
    """

    form: TokenFormat
    plain: Pattern
    units: Pattern
    hexadecimal: Pattern
    hex_list: Pattern
    decimal_list: Pattern
    utf16: Pattern
    utf32: Pattern
    escaped: Pattern


@functools.cache
def _patterns_of(form: TokenFormat) -> TokenPatterns:
    prefix, count = form.prefix, rb"{%d}" % form.body_length
    letters = form.character_class.encode()
    hex_body, decimal_body, _ = body_codes(form)
    hex_list = _GAP.join(map(hex_code, prefix)) + rb"(?:" + _GAP + rb"(?P<unit>" + hex_body + rb"))"
    decimal_list = _COMMA.join(map(decimal_code, prefix))
    decimal_list += rb"(?:" + _COMMA + rb"(?P<unit>" + decimal_body + rb")(?![0-9]))"
    return TokenPatterns(
        form=form,
        plain=regex.compile(form.expression.encode()),
        units=regex.compile(units_expression(form), regex.VERBOSE),
        hexadecimal=regex.compile(b"".join(map(hex_code, prefix)) + hex_body + count),
        hex_list=regex.compile(rb"(?:0x)?" + hex_list + count),
        decimal_list=regex.compile(decimal_list + count),
        utf16=regex.compile(rb"\x00".join(map(_escape, prefix)) + rb"(?:\x00" + letters + rb")" + count),
        utf32=regex.compile(rb"\x00{3}".join(map(_escape, prefix)) + rb"(?:\x00{3}" + letters + rb")" + count),
        escaped=_escaped_start(form),
    )


def _escaped_start(form: TokenFormat) -> Pattern:
    first = form.prefix[0]
    partial = b""
    for letter in reversed(form.prefix[1:-1]):
        partial = rb"(?:" + _escape(letter) + partial + rb")?"
    return regex.compile(
        _escape(form.prefix)
        + form.character_class.encode()
        + rb"{0,%d}+" % (form.body_length - 1)
        + _BREAK
        + rb"|"
        + _escape(first)
        + partial
        + _BREAK
        + rb"|(?:%(?:25)*+|=|\\(?:x|u\{?0*+|U0+)|&\#[xX])"
        + hex_code(first)
        + rb"|&\#0*+"
        + decimal_code(first)
        + rb"|\\%o" % ord(first)
    )


def _escape(text: str) -> bytes:
    return regex.escape(text.encode(), special_only=True)


@derived_from_formats
def token_patterns() -> tuple[TokenPatterns, ...]:
    """Return the patterns of each active format. They are compiled at the first use."""
    return tuple(map(_patterns_of, active_formats()))


@derived_from_formats
def plain_prefixes() -> tuple[bytes, ...]:
    """Return the prefix of each active format."""
    return tuple(form.prefix.encode() for form in active_formats())


def plain_matches(content: bytes) -> Iterator[Match]:
    """Yield every plain token in the content, format by format; those of one format do not overlap."""
    for patterns in token_patterns():
        yield from patterns.plain.finditer(content)

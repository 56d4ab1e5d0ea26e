"""The patterns that match a whole token in each encoding."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

import regex

from scanner.detection.patterns.joints import (
    body_codes,
    decimal_code,
    decimal_units_expression,
    hex_code,
    units_expression,
)
from scanner.detection.patterns.token_formats import TokenFormat, active_formats, derived_from_formats, prefixes
from scanner.detection.patterns.word_ends import end_of_word_expression

# The characters between two hexadecimal numbers in source code, such as punctuation, comments and casts.
_COMMENT = rb"(?:/\*[^\n]{0,80}?\*/[\s,]{0,20}+)?+"
_GAP = (
    rb"(?:t(?=\s)|[hH](?=,))?+(?:[\s,:;\"'_\\-]{0,40}+"
    + _COMMENT
    + rb"|,\\\r?\n[ \t]*+)(?:\.?(?:byte|BYTE|db|DB)[ \t]++)?+(?:\(byte\)[ ]?)?+(?:0[xX])?+"
)
_COMMA = (
    rb"(?:[\s,;]{1,40}+(?:-[ ]{1,4}|\[[0-9]{1,4}\][ ]=>[ ])?+|,\s{0,40}+\"[0-9]{1,4}\":[ ]?+|[-|./:_]"
    rb"|\s{1,8}\.byte\s{1,8}+|\?\\u"
    rb"|</[0-9A-Za-z:]{1,40}+>\s{0,80}+<[^<>]{1,80}+>"
    rb"|\)?[ ]{0,2}+(?:\|\||[.+&|,~])[ ]{0,2}+(?:[A-Za-z.]{1,24}\(|\[[A-Za-z]{1,8}\]))0?+"
)
# The characters between two bytes of UTF-16 text in hexadecimal, as in `72,00,38,00`.
_WIDE_GAP = rb"(?:,\\\r?\n[ \t]*+00,|,00,\\\r?\n[ \t]*+|,00,|[ ]00\s{1,20}+)"
# What follows a prefix whose token continues in another place, such as a quotation mark or `%s`.
_LITERAL_END = rb"\\*+[\"'`\])]|%[0-9$]{0,3}+[sv@]|\$?\{|\#\{|\\+\(|[$%][A-Za-z_(]|[ \t]*+(?:\r?\n|$)|\\++(?:\r?\n|n)"
_BREAK = rb"[%=&$+)\]\\\\\"'`\r\n<|?{}\xe2\xc2\xef\xcd\xf3\x1b]"

MIN_LAST_PART = 12
"""If a token is divided into two string literals, the second one has at least this many characters."""

Pattern: TypeAlias = regex.Pattern[bytes]
Match: TypeAlias = regex.Match[bytes]


class TokenPatterns(NamedTuple):
    """The patterns that match a token of one format in each encoding.

    Attributes:
        plain: The token without any encoding.
        units: The token with escapes such as `\\x5f`, or with separators such as `" + "`.
        end_of_word: Markup that ends a word, such as `<p>`.
        hexadecimal: Hexadecimal digits, such as `72385f`.
        hex_list: Hexadecimal numbers, such as `0x72, 0x38, 0x5f`.
        decimal_list: Decimal numbers, such as `114, 56, 95`.
        wide_hexadecimal: UTF-16 in hexadecimal digits, such as `720038005f`.
        utf16: UTF-16 of either byte order, without the outer zero byte.
        utf32: UTF-32 of either byte order, without the outer zero bytes.
        decimal_escapes: Decimal escapes, such as `r8\\95`.
        wide_hex_list: UTF-16 as hexadecimal bytes, such as `72,00,38,00`.
        lone_prefix: The prefix at the end of a string literal, such as `r8_"`.
        first_part: The beginning of a token at the end of a string literal, such as `r8_Ab12"`.
        marked_end: The token with the high bit set in its last letter.
        escaped: The beginning of a token with escapes or separators.
        hex_list_start: The first number of a `hex_list`. A search for it is five times as fast.
        decimal_list_start: The first number of a `decimal_list`.
    """

    form: TokenFormat
    plain: Pattern
    units: Pattern
    end_of_word: re.Pattern[bytes]
    hexadecimal: Pattern
    wide_hexadecimal: Pattern
    hex_list: Pattern
    decimal_list: Pattern
    utf16: Pattern
    utf32: Pattern
    decimal_escapes: Pattern
    wide_hex_list: Pattern
    lone_prefix: Pattern
    first_part: Pattern
    marked_end: Pattern
    escaped: Pattern
    hex_list_start: re.Pattern[bytes]
    decimal_list_start: re.Pattern[bytes]


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
        end_of_word=re.compile(end_of_word_expression(form)),
        hexadecimal=regex.compile(b"".join(map(hex_code, prefix)) + hex_body + count),
        wide_hexadecimal=regex.compile(b"00".join(map(hex_code, prefix)) + rb"(?:00" + hex_body + rb")" + count),
        hex_list=regex.compile(rb"(?:0x)?" + hex_list + count),
        decimal_list=regex.compile(decimal_list + count),
        utf16=regex.compile(rb"\x00".join(map(_escape, prefix)) + rb"(?:\x00" + letters + rb")" + count),
        utf32=regex.compile(rb"\x00{3}".join(map(_escape, prefix)) + rb"(?:\x00{3}" + letters + rb")" + count),
        decimal_escapes=regex.compile(decimal_units_expression(form)),
        wide_hex_list=regex.compile(
            _WIDE_GAP.join(map(hex_code, prefix)) + rb"(?:" + _WIDE_GAP + rb"(?P<unit>" + hex_body + rb"))" + count
        ),
        lone_prefix=regex.compile(_escape(prefix) + rb"(?:" + _LITERAL_END + rb")"),
        first_part=regex.compile(
            _escape(prefix) + rb"(?P<part>" + letters + rb"{1,%d}+)\\*+[\"'`]" % (form.body_length - MIN_LAST_PART)
        ),
        marked_end=regex.compile(
            _escape(prefix) + letters + rb"{%d}[\xad-\xfa](?![\x80-\xbf])" % (form.body_length - 1)
        ),
        escaped=_escaped_start(form),
        hex_list_start=_list_start(hex_code(prefix[0]), hex_list + count),
        decimal_list_start=_list_start(decimal_code(prefix[0]), decimal_list + count),
    )


def _list_start(first: bytes, numbers: bytes) -> re.Pattern[bytes]:
    """Return a pattern of the first number of a list. It matches only if the whole list follows."""
    # A lookahead is not part of the match, so `finditer` also finds a list that begins inside another one.
    return re.compile(first + rb"(?=" + numbers.removeprefix(first).replace(b"?P<unit>", b"?:") + rb")")


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
        + rb"|"
        + _escape(form.prefix)
        + rb"[ ]|"
        + _escape(form.prefix.partition("_")[0])
        + rb"_x005[fF]_|(?:%(?:25)*+(?:u00)?+|=|\\(?:x\{?(?:00)?|u\{?0*+|U0+|N\{U\+(?:00)?|0000|')|`u\{|&\#[xX]|_x00)"
        + hex_code(first)
        + rb"|&\#0*+"
        + decimal_code(first)
        + rb"|\\(?:o\{?%o|%o|%d)" % (ord(first), ord(first), ord(first))
        + rb"|\xf3\xa0\x%02x\x%02x" % (0x80 | ord(first) >> 6, 0x80 | ord(first) & 0x3F)
    )


def _escape(text: str) -> bytes:
    return regex.escape(text.encode(), special_only=True)


@derived_from_formats
def token_patterns() -> tuple[TokenPatterns, ...]:
    """Return the patterns of each active token format."""
    return tuple(map(_patterns_of, active_formats()))


@derived_from_formats
def plain_prefixes() -> tuple[bytes, ...]:
    """Return the prefix of each active format."""
    return tuple(map(str.encode, prefixes()))


def plain_matches(content: bytes) -> Iterator[Match]:
    """Yield every token in plain text, one format after the other."""
    for patterns in token_patterns():
        yield from patterns.plain.finditer(content)

"""Patterns of text that ends a word. If such a text follows a letter of a token, the token does not continue there.

They reject most places cheaply. The patterns of tokens are several times slower, because they try every kind of joint
(the characters that may separate two letters of a token). A pattern here must reject no token that those accept.
"""

from __future__ import annotations

import re

from scanner.detection.patterns.joints import INLINE_TAG
from scanner.detection.patterns.token_formats import LETTERS_AND_DIGITS, MAX_TOKEN_LENGTH, TokenFormat

MAX_SEPARATED = 2 * MAX_TOKEN_LENGTH
"""The maximum number of bytes from the token's beginning to the end of the string literal or list."""
_MAX_SKIPPED = 8
"""Tags and line breaks that are skipped. Between two letters of a token, there are at most five joints."""

# A tag that is no INLINE_TAG, such as `<p>`, ends a word. A joint may begin with `<` and a zero byte, which are a
# length.
_OTHER_TAG = rb"<(?!\x00)"
# No joint and no escape begins with these characters. A space begins a joint only at the end of a line, before the
# border of a table, or before an escaped carriage return. A full stop begins one only where psql divides a cell.
_PUNCTUATION = (
    rb"[ \t]{1,40}[^\s|\\\xe2]|[(,;:#>$~]|\](?!\]>)|\}(?!\s{0,4}[{\\])|[!@](?!\s{0,2}\\)|\?(?!=)"
    rb"|\.(?![ ]{0,2}(?:\||\r?\n(?:[ ]?[.\xe2]|[^|.\n]{0,80}+\|)))|\)(?![ ]{0,2}-?[0-9.]{1,8}[ ]{0,2}\()"
    rb"|&(?=[a-z])(?!amp;|shy;|Zero|zwn|zwj|lt;)|\xc2(?!\xad)"
)
# The beginning of a line, with the mark of a list item or a comment.
_LINE_BREAK = rb"[ \t]*+\r?\n[ \t]*+(?:(?:[>#*|+;-]|//|--)[ \t]*+)?+"
# After a line break, a hexadecimal number may be the offset of a trace or the length of an HTTP chunk.
_AFTER_BREAK = rb"[g-zG-Z](?!\r)|[a-fA-F](?![0-9A-Fa-f]{0,3}[:;\r])|[(,:$~]|[ \t]{1,40}[^\s|\\\xe2]|[!@](?!\s{0,2}\\)"
# A string literal whose next literal does not follow at once.
_AFTER_QUOTE = rb"[\"'](?:[ \t,()+\[\].&]{1,8}+(?![bBuUrRfFL]{1,2}[\\\"'`])[A-Za-z]|(?!%b)[0-9A-Za-z](?!\r)|[/=:])"


def end_of_word_expression(form: TokenFormat) -> bytes:
    """Return a pattern of text after the first letter of a prefix. If it matches, no token begins with that letter."""
    if len(form.prefix) < 2 or form.prefix[1] not in LETTERS_AND_DIGITS:
        return rb"(?!)"
    second = form.prefix[1].encode()
    after_break = rb"(?:%b|%b|\*{1,3}+){1,%d}+(?:%b|(?!%b)(?:%b))" % (
        INLINE_TAG,
        _LINE_BREAK,
        _MAX_SKIPPED,
        _OTHER_TAG,
        second,
        _AFTER_BREAK,
    )
    after_tag = rb"%b|%b|(?!%b)[0-9A-Za-z](?!\r)|%b" % (_OTHER_TAG, _PUNCTUATION, second, after_break)
    return rb"(?=[<\\&])(?:%b){0,%d}+(?:%b)|" % (INLINE_TAG, _MAX_SKIPPED, after_tag) + _AFTER_QUOTE % second


def other_word_expression(form: TokenFormat) -> bytes:
    """Return a pattern of a prefix and a word that is too short for a token. If it matches, no token begins there."""
    others = "".join(letter for letter in "_-" if letter in form.alphabet).encode()
    ending = _PUNCTUATION + rb"|/(?![\s\\])|=(?!\r?\n|[0-9A-Fa-f])"
    ending += b"".join(rest for letter, rest in ((b"_", rb"|_(?!x00)"), (b"-", rb"|-")) if letter not in others)
    # CLIXML and OOXML write an underscore as `_x005F_`.
    body = rb"(?!x005[fF]_)[0-9A-Za-z%b]{1,%d}+" % (others, form.body_length - 2)
    prefix = re.escape(form.prefix.encode())
    return rb"(?<![\s(\[{</|!])%b(?![^\"'`\r\n]{1,%d}[\"'`])%b(?:%b)" % (prefix, MAX_SEPARATED, body, ending)

"""Search for tokens that are written backwards, in programs that reverse them: `"…_8r"[::-1]`."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from scanner.detection.findings import Finding
from scanner.detection.patterns.needles import plain_needle
from scanner.detection.patterns.token_formats import TokenFormat
from scanner.detection.patterns.token_patterns import token_patterns

_SPAN = 120
"""The maximum distance in bytes between the token and the expression that reverses it."""
_REVERSAL = re.compile(rb"\[::-1\]|[Rr]evers|strrev|\brev\b")


def reversed_tokens_at(content: bytes, start: int) -> Iterator[Finding]:
    """Yield the token whose first bytes, in reverse order, are at offset `start`."""
    for patterns in token_patterns():
        end = start + len(plain_needle(patterns.form.prefix.encode()))
        begin = end - patterns.form.length
        if begin >= 0 and _backwards(patterns.form).fullmatch(content, begin, end):
            yield from _if_reversed(content, begin, end)


def reversed_tokens_in(content: bytes, begin: int, end: int) -> Iterator[Finding]:
    """Yield the tokens whose first bytes, in reverse order, begin in `content[begin:end]`."""
    for patterns in token_patterns():
        first = max(0, begin - patterns.form.length)
        for match in _backwards(patterns.form).finditer(content, first, min(len(content), end + patterns.form.length)):
            yield from _if_reversed(content, *match.span())


def _if_reversed(content: bytes, begin: int, end: int) -> Iterator[Finding]:
    """Yield the token that is written backwards in `content[begin:end]`, if code nearby reverses a text.

    Without this condition, random text could count as a token that is written backwards.
    """
    if _REVERSAL.search(content, max(0, begin - _SPAN), end + _SPAN):
        yield Finding(content[begin:end][::-1], begin, end, ("reversed",))


@functools.cache
def _backwards(form: TokenFormat) -> re.Pattern[bytes]:
    return re.compile(
        rb"%b{%d}%b" % (form.character_class.encode(), form.body_length, re.escape(form.prefix[::-1].encode()))
    )

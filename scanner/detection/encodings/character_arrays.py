"""Search for tokens in arrays of characters, such as `'r', '8', '_'`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from scanner.detection.patterns.token_formats import derived_from_formats
from scanner.detection.patterns.token_patterns import token_patterns

_MAX_GAP = 60
"""The maximum number of bytes between two elements of an array."""
# Another element between the first and the second letter. It is not one of `[bBfFlLrRuU]`: they may be prefixes of
# literals, as in `b'x'`.
_OTHER_ELEMENT = re.compile(rb"[0-9ac-eg-km-qstv-zAC-EG-KM-QSTV-Z_][\"']")


def array_starts_at(content: bytes, second: int) -> Iterator[int]:
    """Yield each offset at which a token may begin, given the offset of the quote before its second letter."""
    quote = content[second : second + 1]
    for first in _first_bytes():
        start = content.rfind(first + quote, max(0, second - _MAX_GAP), second)
        if 0 <= start < second - 2 and not _OTHER_ELEMENT.search(content, start + 2, second):
            yield start


def array_starts_in(content: bytes, begin: int, end: int) -> Iterator[int]:
    """Yield each offset in `content[begin:end]` at which a token in an array of characters may begin."""
    for match in _first_letters().finditer(content, begin, min(len(content), end + _MAX_GAP)):
        if match.start() < end:
            yield match.start()


@derived_from_formats
def _first_bytes() -> tuple[bytes, ...]:
    return tuple(sorted({patterns.form.prefix[0].encode() for patterns in token_patterns()}))


@derived_from_formats
def _first_letters() -> re.Pattern[bytes]:
    """Return the pattern of a token's first two letters in an array literal, such as `["r", "8"`."""
    pairs = {(patterns.form.prefix[0], patterns.form.prefix[1]) for patterns in token_patterns()}
    ways = (
        rb"%b(?=%b[^0-9A-Za-z\"']{1,%d}+[bBuUL]?%b%b%b)"
        % (re.escape(one.encode()), quote, _MAX_GAP, quote, re.escape(two.encode()), quote)
        for one, two in sorted(pairs)
        for quote in (b'"', b"'")
    )
    return re.compile(rb"|".join(ways))

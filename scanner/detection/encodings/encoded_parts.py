"""Search for tokens that are encoded in several parts, such as `atob("…") + atob("…")` or `s += "…"; s += "…";`."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from scanner.detection.encodings.base64_tokens import base64_findings_at
from scanner.detection.findings import Finding
from scanner.detection.limits import Meter
from scanner.detection.patterns.token_formats import TokenFormat, max_token_length
from scanner.detection.patterns.token_patterns import token_patterns

_STEPS = 5_000
"""An encoded part of a token counts as this many steps of work, of ten nanoseconds each."""
_SPAN = 1024
"""The maximum number of bytes between the beginnings of the first and the last part."""
_MIN_PART = 4
"""The minimum number of characters in each part of a token after the first part."""
_END = rb"(?=\\*[\"'`]|\s|\Z)"
_STARTS = frozenset(b"\"'`=: ")


class _Encoding(NamedTuple):
    """An encoding in which the parts of a token may be written."""

    name: str
    first: re.Pattern[bytes]
    part: re.Pattern[bytes]
    decode: Callable[[bytes], bytes]


def _from_base64(part: bytes) -> bytes:
    return binascii.a2b_base64(part.rstrip(b"=") + b"=" * (-len(part.rstrip(b"=")) % 4), strict_mode=True)


_LITERAL_REST = re.compile(rb"([0-9A-Za-z+/_-]{3,200}+)\\*[\"'`]")
_LITERAL = re.compile(rb"[\"'`]([0-9A-Za-z+/_-]{1,200}+={0,2})\\*[\"'`]")
_BASE64 = rb"[0-9A-Za-z+/]{6,200}+={0,2}"
_HEX = rb"(?:[0-9A-Fa-f]{2}){4,200}+"
_ENCODINGS = {
    name: _Encoding(name, re.compile(letters + _END), re.compile(rb"[\"'`=:\s](" + letters + rb")" + _END), decode)
    for name, letters, decode in (("base64", _BASE64, _from_base64), ("hex", _HEX, binascii.a2b_hex))
}


def encoded_parts_at(content: bytes, start: int, name: str, meter: Meter | None = None) -> Iterator[Finding]:
    """Yield the token whose first encoded part begins at `start` and whose other parts follow.

    Args:
        name: `base64` or `hex`.
    """
    encoding = _ENCODINGS[name]
    yield from _divided(content, start, encoding, meter)
    first = encoding.first.match(content, start) if start and content[start - 1] in _STARTS else None
    head = _decoded(first[0], encoding) if first is not None else b""
    for patterns in token_patterns() if head else ():
        prefix = patterns.form.prefix.encode()
        body = head[len(prefix) :]
        if head.startswith(prefix) and _MIN_PART <= len(body) < patterns.form.body_length:
            if meter is not None:
                meter.spend(_STEPS)
            yield from _joined(content, start, start + len(first[0] if first else b""), body, patterns.form, encoding)


def _joined(
    content: bytes, start: int, end: int, body: bytes, form: TokenFormat, encoding: _Encoding
) -> Iterator[Finding]:
    """Yield the token whose first part is encoded in `content[start:end]`."""
    for word in encoding.part.finditer(content, end, min(len(content), start + _SPAN)):
        letters = _decoded(word[1], encoding)
        if len(letters) < _MIN_PART or letters.translate(None, form.alphabet.encode()):
            continue
        body, end = body + letters, word.end()
        if len(body) >= form.body_length:
            break
    if form.may_be_body(body):
        yield Finding(form.prefix.encode() + body, start, end, ("split-literal", encoding.name))


def _divided(content: bytes, start: int, encoding: _Encoding, meter: Meter | None) -> Iterator[Finding]:
    """Yield the token whose encoded text begins at `start` and is divided into several literals."""
    first = _LITERAL_REST.match(content, start)
    if first is None:
        return
    if meter is not None:
        meter.spend(_STEPS)
    text, missing, end = first[1], 2 * max_token_length(), first.end()
    for literal in _LITERAL.finditer(content, end, min(len(content), start + _SPAN)):
        if content.count(b"\n", end, literal.start()) > 1:
            break
        text, end = text + literal[1], literal.end()
        if len(text) >= missing:
            break
    found = base64_findings_at(text, 0) if encoding.name == "base64" else _hexadecimal(text)
    for finding in found:
        yield finding._replace(start=start, end=end, encoding=("split-literal", encoding.name))


def _hexadecimal(digits: bytes) -> Iterator[Finding]:
    for patterns in token_patterns():
        match = patterns.hexadecimal.match(digits)
        if match is not None and patterns.plain.fullmatch(token := binascii.a2b_hex(match[0])):
            yield Finding(token, 0, match.end())


def _decoded(word: bytes, encoding: _Encoding) -> bytes:
    try:
        return encoding.decode(word)
    except ValueError:
        return b""

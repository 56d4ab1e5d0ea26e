"""Readers of draw.io diagrams and of recorded HTTP traffic, two text formats with compressed data in base64."""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import regex

from scanner.detection.containers.brotli_streams import is_brotli
from scanner.detection.containers.compressed import Inflated, raw_deflate
from scanner.detection.containers.decompressors import brotli_codec
from scanner.detection.containers.members import Container, Member, whole

if TYPE_CHECKING:
    from ahocorasick_rs import BytesAhoCorasick

_HEAD_BYTES = 4096
# In an exported picture, the diagram is an attribute, so its angle brackets are escaped (`&lt;`).
_DIAGRAM = regex.compile(rb"(?:<|&lt;)diagram(?:[ ][^<>]{0,300}?)?(?:>|&gt;)([0-9A-Za-z+/]{20,}+)={0,2}(?:<|&lt;)")
_FIELDS = (b'"encoding": "base64"', b'"encoding":"base64"')
_SEARCHED_AT_ONCE = 256 << 10
"""The content is searched in pieces of this many bytes, up to the first match. One search would list all matches."""
_BODY = regex.compile(rb'"(?:text|body|content|data|response)": ?"([0-9A-Za-z+/]{20,}+)={0,2}"')


def has_diagram(content: bytes) -> bool:
    """Return whether the content is a draw.io file, or a picture that contains a draw.io diagram."""
    return b"diagram" in content[:_HEAD_BYTES] and b"mxfile" in content[:_HEAD_BYTES]


def has_http_bodies(content: bytes) -> bool:
    """Return whether the content has the JSON field `"encoding": "base64"`, which marks a recorded HTTP body."""
    find = _fields().find_matches_as_indexes
    if len(content) <= _SEARCHED_AT_ONCE:
        return bool(find(content))
    view, size = memoryview(content), _SEARCHED_AT_ONCE + max(map(len, _FIELDS)) - 1
    return any(find(view[begin : begin + size]) for begin in range(0, len(content), _SEARCHED_AT_ONCE))


@cache
def _fields() -> BytesAhoCorasick:
    """Return an object that searches for `"encoding": "base64"`, ten times faster than `bytes.find`."""
    from ahocorasick_rs import BytesAhoCorasick, MatchKind

    return BytesAhoCorasick(list(_FIELDS), matchkind=MatchKind.LeftmostFirst)


def diagram_members(container: Container) -> Iterator[Member]:
    """Yield each diagram of a draw.io file. In a PNG picture, the draw.io file is percent-encoded."""
    content = whole(container)
    if content.startswith(b"%3C"):
        content = unquote_to_bytes(content)
        container.meter.take(len(content))
        container.meter.enter()
        yield Member("diagram", content)
        return
    for match in _DIAGRAM.finditer(content):
        stream = Container("diagram", _decoded(match[1]), container.meter)
        container.meter.enter()
        yield Member("diagram", raw_deflate(stream))


def http_body_members(container: Container) -> Iterator[Member]:
    """Yield the bodies in recorded HTTP traffic (HAR, nock) that are compressed with Brotli."""
    for match in _BODY.finditer(whole(container)):
        decoded = _decoded(match[1])
        container.meter.decode(len(decoded))
        if is_brotli(decoded):
            container.meter.enter()
            yield Member("body", Inflated(Container("body", decoded, container.meter), brotli_codec()))


def _decoded(letters: bytes) -> bytes:
    rest = len(letters) % 4
    return binascii.a2b_base64(letters[:-1] if rest == 1 else letters + b"=" * (-rest % 4))

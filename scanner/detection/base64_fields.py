"""Readers of files that hold streams in base64 in fields of known names: diagrams of draw.io, recordings of HTTP."""

from __future__ import annotations

import binascii
from collections.abc import Iterator

import regex

from scanner.detection.brotli_streams import is_brotli
from scanner.detection.compressed import Inflated, raw_deflate
from scanner.detection.decompressors import brotli_codec
from scanner.detection.members import Container, Member, whole

_HEAD_BYTES = 4096
# In an exported picture, the diagram is in an attribute with escaped brackets.
_DIAGRAM = regex.compile(rb"(?:<|&lt;)diagram(?:[ ][^<>]{0,300}?)?(?:>|&gt;)([0-9A-Za-z+/]{20,}+)={0,2}(?:<|&lt;)")
_FIELDS = (b'"encoding": "base64"', b'"encoding":"base64"')
_BODY = regex.compile(rb'"(?:text|body|content|data|response)": ?"([0-9A-Za-z+/]{20,}+)={0,2}"')


def has_diagram(content: bytes) -> bool:
    """Return whether the head of a file of draw.io, or of a picture made by it, names a diagram."""
    return b"diagram" in content[:_HEAD_BYTES] and b"mxfile" in content[:_HEAD_BYTES]


def has_http_bodies(content: bytes) -> bool:
    """Return whether a file in JSON has a body of HTTP in base64."""
    return any(field in content for field in _FIELDS)


def diagram_members(container: Container) -> Iterator[Member]:
    """Yield each diagram of a file of draw.io: base64 of deflate of text with percent escapes."""
    for match in _DIAGRAM.finditer(whole(container)):
        stream = Container("diagram", _decoded(match[1]), container.meter)
        container.meter.enter()
        yield Member("diagram", raw_deflate(stream))


def http_body_members(container: Container) -> Iterator[Member]:
    """Yield the bodies of a recording of HTTP (HAR, nock) that are Brotli streams. Other bodies have needles."""
    for match in _BODY.finditer(whole(container)):
        decoded = _decoded(match[1])
        container.meter.decode(len(decoded))
        if is_brotli(decoded):
            container.meter.enter()
            yield Member("body", Inflated(Container("body", decoded, container.meter), brotli_codec()))


def _decoded(letters: bytes) -> bytes:
    rest = len(letters) % 4
    return binascii.a2b_base64(letters[:-1] if rest == 1 else letters + b"=" * (-rest % 4))

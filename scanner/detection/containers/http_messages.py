"""Reader of recorded HTTP messages whose bodies were sent in chunks (RFC 9112, section 7.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from scanner.detection.containers.embedded import embedded_members
from scanner.detection.containers.members import Container, Member, whole

_CHUNKED = re.compile(rb"(?i)\ntransfer-encoding:[ \t]{0,8}(?:[a-z-]{1,20},[ ]?)?chunked[ \t]{0,8}\r\n")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,7})[ \t]{0,8}(?:;[^\r\n]{0,200})?\r\n")
_MAX_HEADERS_BYTES = 64 << 10


def has_chunks(content: bytes) -> bool:
    """Return whether the content is a recorded HTTP message whose first headers declare a chunked body."""
    return _CHUNKED.search(content, 0, _MAX_HEADERS_BYTES) is not None


def chunked_members(container: Container) -> Iterator[Member]:
    """Yield each body that was sent in chunks, with its chunks joined. Then yield other compressed streams."""
    content, meter = whole(container), container.meter
    begin = done = 0
    others: list[bytes] = []
    while (field := _CHUNKED.search(content, begin)) is not None:
        end = content.find(b"\r\n\r\n", field.end() - 2, field.end() + _MAX_HEADERS_BYTES)
        chunks, begin = _chunks(content, end + 4) if end >= 0 else ([], field.end())
        meter.step(1 + len(chunks))
        if chunks:
            others.append(content[done : end + 4])
            done = begin
            meter.enter()
            meter.take(sum(map(len, chunks)))
            yield Member("body", b"".join(chunks))
    # Search the rest of the content, without the chunked bodies, for compressed streams.
    others.append(content[done:])
    yield from embedded_members(container._replace(source=b"".join(others)))


def _chunks(content: bytes, at: int) -> tuple[list[bytes], int]:
    """Return the chunks of the HTTP body at offset `at`, and the offset after them."""
    chunks: list[bytes] = []
    while (size := _SIZE.match(content, at)) is not None:
        length = int(size[1], 16)
        at = min(len(content), size.end() + length)
        if length == 0:
            break
        chunks.append(content[size.end() : at])
        at += 2 * content.startswith(b"\r\n", at)
    return chunks, at

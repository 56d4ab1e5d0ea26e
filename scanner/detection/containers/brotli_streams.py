"""Recognition and decompression of Brotli streams (RFC 7932), which have no magic number."""

from __future__ import annotations

import re
from collections.abc import Iterator

from scanner.detection.containers.compressed import Inflated, inner_name
from scanner.detection.containers.decompressors import brotli_codec
from scanner.detection.containers.members import Container, Member, whole

_TEXT = bytes((*b"\b\t\n\f\r\x1b", *range(0x20, 0x7F), *range(0x80, 0xC0), *range(0xC2, 0xF5)))
_FIRST_BYTES = 64
_HEAD_BYTES = 2048
_PROOF_BYTES = 256
"""Content whose beginning decompresses to this many bytes of text counts as a Brotli stream."""
_MIN_TEXT = 24
"""If the content is exactly one stream, this many bytes of text are enough to recognize it."""

_CHROME_END = b"\xd8\x41\x0d\x97\x45\x6f\xfa\xf4"
_CHROME_HEADERS = (20, 24)
"""The number of bytes before the key in an entry of Chrome's cache, without and with the padding of compilers."""
_MAX_CHROME_KEY = 8 << 10
_CHROME_KEY = re.compile(rb"[!-~]{8,}+")
"""The key of an entry in Chrome's cache, which is a URL."""
_FIREFOX_CHUNK = 256 << 10
_MAX_NUMBER_BYTES = 5
"""The maximum number of bytes of an integer in the directory of a WOFF2 font."""


def is_brotli(content: bytes) -> bool:
    """Return whether the content is a single Brotli stream that decompresses to text."""
    import brotli

    for size in (_FIRST_BYTES, _HEAD_BYTES):
        decompressor = brotli.Decompressor()
        try:
            text = decompressor.process(content[:size], output_buffer_limit=_PROOF_BYTES)
        except brotli.error:
            return False
        if text.translate(None, _TEXT):
            return False
        if decompressor.is_finished():
            return len(content) <= size and len(text) >= _MIN_TEXT
    return len(text) >= _PROOF_BYTES


def brotli_members(container: Container) -> Iterator[Member]:
    """Yield the content of a Brotli stream."""
    container.meter.enter()
    yield Member(inner_name(container.name), Inflated(container, brotli_codec()), encoding="brotli")


def chrome_cache_members(container: Container) -> Iterator[Member]:
    """Yield the body of an entry of Chrome's cache.

    The format: https://chromium.googlesource.com/chromium/src/+/main/net/disk_cache/simple/simple_entry_format.h
    """
    content = whole(container)
    key = int.from_bytes(content[12:16], "little")
    end = content.find(_CHROME_END)
    begins = [header + key for header in _CHROME_HEADERS]
    written = _CHROME_KEY.search(content, _CHROME_HEADERS[0], _MAX_CHROME_KEY)
    if written is not None and written.end() not in begins:
        begins.append(written.end())
    bodies = [content[begin : end if end >= 0 else None] for begin in begins]
    chosen = next((body for body in bodies if body and is_brotli(body)), None)
    if chosen is not None:
        yield _body(chosen, container)
        return
    for body in bodies:
        container.meter.enter()
        yield Member("body", body)


def is_firefox_cache(content: bytes) -> bool:
    """Return whether the content is an entry of Firefox's cache whose body is compressed with Brotli.

    The format: https://searchfox.org/mozilla-central/source/netwerk/cache2/CacheFileMetadata.h
    """
    size = int.from_bytes(content[-4:], "big")
    version = size + 4 + 2 * -(-size // _FIREFOX_CHUNK)
    if not _MIN_TEXT < size < len(content) - 40 or int.from_bytes(content[version : version + 4], "big") > 3:
        return False
    return is_brotli(content[:size])


def firefox_cache_members(container: Container) -> Iterator[Member]:
    """Yield the body of an entry of Firefox's cache."""
    content = whole(container)
    yield _body(content[: int.from_bytes(content[-4:], "big")], container)


def _body(body: bytes, container: Container) -> Member:
    container.meter.enter()
    return Member("body", Inflated(Container("body", body, container.meter), brotli_codec()))


def woff2_members(container: Container) -> Iterator[Member]:
    """Yield the decompressed tables of a WOFF2 font as one member: https://www.w3.org/TR/WOFF2/."""
    content = whole(container)
    at = 48
    for _ in range(int.from_bytes(content[12:14], "big")):
        if at >= len(content):
            break
        flags = content[at]
        at += 5 if flags & 63 == 63 else 1
        is_glyphs = flags & 63 in (10, 11)
        # Only a transformed font table has a second length. A table of glyphs is transformed unless its version is 3,
        # any other table unless its version is 0.
        numbers = 1 + ((flags >> 6 != 3) if is_glyphs else (flags >> 6 != 0))
        for _ in range(numbers):
            end = min(len(content), at + _MAX_NUMBER_BYTES - 1)
            while at < end and content[at] & 0x80:
                at += 1
            at += 1
    container.meter.enter()
    size = int.from_bytes(content[20:24], "big") or len(content)
    body = Container("tables", content[at : at + size], container.meter)
    yield Member("tables", Inflated(body, brotli_codec()))

"""Functions that build files with compressed streams that are hard to recognise, for example without a magic number."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import lzma
import struct
import zlib
from collections.abc import Callable, Iterator

import brotli
import zstandard

Builder = Callable[[bytes], bytes]
_PROSE = b"a line of a script that comes before the token\n" * 8


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def brotli_compressed(content: bytes) -> bytes:
    return bytes(brotli.compress(_PROSE + content))


def chrome_cache(body: bytes, *, has_key_length: bool = True) -> bytes:
    """Return an entry of Chrome's cache: a padded header, the key, the body, and an end record."""
    key = b"1/0/https://app.example/main.js"
    header = b"\x30\x5c\x72\xa7\x1b\x6d\xfb\xfc" + struct.pack("<III", 5, len(key) * has_key_length, 7) + bytes(4)
    return header + key + body + b"\xd8\x41\x0d\x97\x45\x6f\xfa\xf4" + struct.pack("<IIII", 1, 0, len(body), 0)


def firefox_cache(body: bytes) -> bytes:
    """Return an entry of Firefox's cache: the body, its metadata, and the size of the body."""
    known = bytes(6) + struct.pack(">IIIIIIII", 3, 1, 1, 1, 0, 20, 0, 0) + b"response-head\0HTTP/2 200 OK\r\n\0"
    return body + known + struct.pack(">I", len(body))


def woff2(content: bytes) -> bytes:
    """Return a WOFF2 font with two tables."""
    body = brotli_compressed(content)
    directory = bytes((63 | 1 << 6,)) + b"Meta" + b"\x84\x00" + b"\x20" + bytes((5,)) + b"\x81\x00"
    head = b"wOF2\0\1\0\0" + bytes(4) + struct.pack(">HHII", 2, 0, 0, len(body))
    return head.ljust(48, b"\0") + directory + body


def diagram(content: bytes) -> bytes:
    packed = base64.b64encode(deflated(b"%3CmxGraphModel%3E" + content + b"%3C%2FmxGraphModel%3E"))
    return b'<mxfile host="a"><diagram name="Page-1" id="x">' + packed + b"</diagram></mxfile>"


def http_recording(content: bytes) -> bytes:
    body = {"mimeType": "text/html", "text": base64.b64encode(brotli_compressed(content)).decode()}
    return json.dumps({"log": {"entries": [{"response": {"content": {**body, "encoding": "base64"}}}]}}).encode()


def php_archive(content: bytes) -> bytes:
    """Return a PHP archive: a program, a compressed file with the content, and an uncompressed file."""
    bodies = ((b"a/key.php", deflated(content), 0x11A4), (b"b.php", b"<?php", 0x1A4))
    entries = b"".join(
        struct.pack("<I", len(name)) + name + struct.pack("<IIIIII", 9, 0, len(body), 0, flags, 0)
        for name, body, flags in bodies
    )
    manifest = struct.pack("<IHII", len(bodies), 0x1100, 0x10000, 0) + bytes(4) + entries
    stub = b"#!/usr/bin/env php\n<?php\n" + b"// a comment\n" * 500 + b"__HALT_COMPILER(); ?>\r\n"
    packed = stub + struct.pack("<I", len(manifest)) + manifest + b"".join(body for _, body, _ in bodies)
    return packed + hashlib.sha1(packed).digest() + b"\2\0\0\0GBMB"


def blosc_chunk(content: bytes, element: int = 4) -> bytes:
    """Return a Blosc chunk of one block with the shuffle filter.

    `element` is the size in bytes of an element, the unit of the filter.
    """
    plain = content.ljust(-(-len(content) // 512) * 512, b" ")
    shuffled = b"".join(plain[byte::element] for byte in range(element))
    literal = bytes((0xF0,)) + b"\xff" * ((len(shuffled) - 15) // 255) + bytes(((len(shuffled) - 15) % 255,)) + shuffled
    packed = struct.pack("<I", len(literal)) + literal
    flags = 1 | 16 | 1 << 5
    return struct.pack("<BBBBIIII", 2, 1, flags, element, len(plain), len(plain), 20 + len(packed), 20) + packed


def shuffled_hdf5(content: bytes, element: int = 8) -> bytes:
    """Return the parts of an HDF5 file that the detector reads: the name of the shuffle filter, and a chunk of data.

    `element` is the size in bytes of an element, the unit of the filter.
    """
    plain = content.ljust(-(-len(content) // element) * element, b" ") * element
    shuffled = b"".join(plain[byte::element] for byte in range(element))
    message = b"\2\0\x08\0\1\0\1\0shuffle\0" + struct.pack("<II", element, 0)
    return b"\x89HDF\r\n\x1a\n" + bytes(88) + message + bytes(40) + zlib.compress(shuffled) + bytes(16)


def installer(content: bytes) -> bytes:
    """Return a shell script followed by a gzip stream, as the tool makeself writes it."""
    return (
        b"#!/bin/sh\n" + b"# a line of the script that unpacks the rest\n" * 300 + b"exit 0\n" + gzip.compress(content)
    )


def seven_zip_after_a_program(content: bytes) -> bytes:
    import py7zr

    buffer = io.BytesIO()
    with py7zr.SevenZipFile(buffer, "w") as archive:
        archive.writestr(content, "b/c.txt")
    return b"MZ" + bytes(600) + buffer.getvalue()


def rare_lzma(content: bytes) -> bytes:
    """Return a `.lzma` file with unusual properties."""
    chain = [{"id": lzma.FILTER_LZMA1, "lc": 1, "lp": 2, "pb": 3, "dict_size": 5000}]
    return lzma.compress(content, lzma.FORMAT_ALONE, filters=chain)


def magicless_zstandard(content: bytes) -> bytes:
    form = zstandard.ZstdCompressionParameters(format=zstandard.FORMAT_ZSTD1_MAGICLESS)
    return zstandard.ZstdCompressor(compression_params=form).compress(_PROSE + content)


def _matches(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the steps of an LZ compressor: literal bytes, and the distance and length of a copy."""
    text = b" ".join(content[at : at + 10] for at in range(0, len(content), 10)) + b"\n" + content
    seen: dict[bytes, int] = {}
    at = begun = 0
    while at < len(text) - 12:
        known = seen.get(text[at : at + 4], -1)
        seen[text[at : at + 4]] = at
        if known < 0 or at - known > 65_535:
            at += 1
            continue
        length = 4
        while length < 18 and text[known + length] == text[at + length] and at + length < len(text) - 5:
            length += 1
        yield text[begun:at], at - known, length
        at += length
        begun = at
    yield text[begun:], 0, 4


def arrow(content: bytes) -> bytes:
    """Return the beginning of a Feather file with one column, which Arrow compressed to an LZ4 frame."""
    block = b"".join(
        _lz4_literals(literals, length - 4) + (distance.to_bytes(2, "little") if distance else b"")
        for literals, distance, length in _matches(content)
    )
    frame = b"\x04\x22\x4d\x18\x60\x40\x82" + struct.pack("<I", len(block)) + block + bytes(4)
    return b"ARROW1\0\0" + bytes(80) + struct.pack("<q", 1000) + frame + bytes(20) + b"ARROW1"


def _lz4_literals(literals: bytes, match: int) -> bytes:
    size = len(literals)
    more = b"\xff" * ((size - 15) // 255) + bytes(((size - 15) % 255,)) if size >= 15 else b""
    return bytes((min(size, 15) << 4 | match,)) + more + literals


def embedded_snappy(content: bytes) -> bytes:
    """Return an unknown header, and then a Snappy stream of one chunk."""
    block, size = b"", 0
    for literals, distance, length in _matches(content):
        block += b"\xf4" + (len(literals) - 1).to_bytes(2, "little") + literals if literals else b""
        block += bytes(((length - 1) << 2 | 2,)) + distance.to_bytes(2, "little") if distance else b""
        size += len(literals) + (length if distance else 0)
    block = bytes((size & 127 | 128, size >> 7)) + block
    chunk = b"\0" + (len(block) + 4).to_bytes(3, "little") + bytes(4) + block
    return b"\x01DATA\0" * 20 + b"\xff\x06\0\0sNaPpY" + chunk


def lzop(content: bytes) -> bytes:
    """Return a file of the program `lzop` with one block and checksums of zero."""
    block, size = bytearray(), 0
    for literals, distance, length in _matches(content):
        count = len(literals)
        if not block:
            block += bytes((17 + count,)) if count < 238 else b"\0" + _lzo_rest(count - 18)
        elif count > 3:
            block += bytes((count - 3,)) if count <= 18 else b"\0" + _lzo_rest(count - 18)
        else:
            block[-2] |= count
        block += literals
        if distance:
            block += bytes((32 | length - 2,)) + ((distance - 1) << 2).to_bytes(2, "little")
        size += count + (length if distance else 0)
    block += b"\x11\0\0"
    head = struct.pack(">HHHBBIIII", 0x1030, 0x20A0, 0x0940, 1, 5, 0x03000001, 0o100644, 0, 0) + b"\x05a.txt" + bytes(4)
    return b"\x89LZO\0\r\n\x1a\n" + head + struct.pack(">III", size, len(block), 0) + bytes(block) + bytes(4)


def _lzo_rest(size: int) -> bytes:
    zeros, rest = divmod(size - 1, 255)
    return bytes(zeros) + bytes((rest + 1,))


STREAMS: dict[str, Builder] = {
    "Brotli": brotli_compressed,
    "Brotli in a recording of HTTP (HAR)": http_recording,
    "Brotli in Chrome's cache": lambda content: chrome_cache(brotli_compressed(content)),
    "gzip in Chrome's cache": lambda content: chrome_cache(gzip.compress(content)),
    "Brotli in Chrome's cache, length of the key missing": lambda content: chrome_cache(
        brotli_compressed(content), has_key_length=False
    ),
    "Brotli in Firefox's cache": lambda content: firefox_cache(brotli_compressed(content)),
    "WOFF2 font": woff2,
    "diagram of draw.io": diagram,
    "PHP archive": php_archive,
    "Blosc chunk": blosc_chunk,
    "Blosc in HDF5": lambda content: (
        b"\x89HDF\r\n\x1a\n" + bytes(50) + b"blosc\0\0\0" + blosc_chunk(content) + bytes(9)
    ),
    "shuffled chunk of HDF5": shuffled_hdf5,
    "archive after a long script": installer,
    "lzma, unusual properties": rare_lzma,
    "Zstandard without its magic number": magicless_zstandard,
    "Feather (Arrow), LZ4": arrow,
    "embedded Snappy": embedded_snappy,
    "lzop": lzop,
    "7z after a program": seven_zip_after_a_program,
}
"""Functions that build files with compressed streams, by the file's name in the table of docs/detection.md."""

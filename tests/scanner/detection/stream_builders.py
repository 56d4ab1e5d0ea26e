"""Builders of files that contain compressed streams without a magic number, or far from the beginning."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import struct
import zlib
from collections.abc import Callable

import brotli

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
    """Return a WOFF2 font with two tables. One of them has a non-standard name and is marked as transformed."""
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
    """Return a PHP archive: a long program, and after it a compressed file with the content and a file that is
    stored.
    """
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
    """Return a Blosc chunk of one shuffled block, which LZ4 stores as one literal. `element` is the item size in
    bytes.
    """
    plain = content.ljust(-(-len(content) // 512) * 512, b" ")
    shuffled = b"".join(plain[byte::element] for byte in range(element))
    literal = bytes((0xF0,)) + b"\xff" * ((len(shuffled) - 15) // 255) + bytes(((len(shuffled) - 15) % 255,)) + shuffled
    packed = struct.pack("<I", len(literal)) + literal
    flags = 1 | 16 | 1 << 5
    return struct.pack("<BBBBIIII", 2, 1, flags, element, len(plain), len(plain), 20 + len(packed), 20) + packed


def shuffled_hdf5(content: bytes, element: int = 8) -> bytes:
    """Return the parts of an HDF5 file that the detector reads: the message of the shuffle filter, and a shuffled
    chunk.
    """
    plain = content.ljust(-(-len(content) // element) * element, b" ") * element
    shuffled = b"".join(plain[byte::element] for byte in range(element))
    message = b"\2\0\x08\0\1\0\1\0shuffle\0" + struct.pack("<II", element, 0)
    return b"\x89HDF\r\n\x1a\n" + bytes(88) + message + bytes(40) + zlib.compress(shuffled) + bytes(16)


def installer(content: bytes) -> bytes:
    """Return a shell script with a gzip stream after it, as makeself writes installers."""
    return (
        b"#!/bin/sh\n" + b"# a line of the script that unpacks the rest\n" * 300 + b"exit 0\n" + gzip.compress(content)
    )


def seven_zip_after_a_program(content: bytes) -> bytes:
    import py7zr

    buffer = io.BytesIO()
    with py7zr.SevenZipFile(buffer, "w") as archive:
        archive.writestr(content, "b/c.txt")
    return b"MZ" + bytes(600) + buffer.getvalue()


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
    "7z after a program": seven_zip_after_a_program,
}
"""Builders of these files, by the file's name in the table of docs/detection.md."""

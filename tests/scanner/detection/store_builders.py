"""Functions that build files in which a program stores mails, records, messages or rows."""

from __future__ import annotations

import contextlib
import gzip
import lzma
import sqlite3
import struct

from scanner.detection.containers.outlook_files import PLAIN_BYTES
from tests.scanner.detection.stream_builders import deflated

_SUBSTITUTED = bytes(PLAIN_BYTES.index(byte) for byte in range(256))


def outlook_store(content: bytes, *, version: int = 23, method: int = 1) -> bytes:
    """Return an Outlook mail store: a header, and the encoded content."""
    header = bytearray(564)
    header[:4], header[8:10], header[10:12] = b"!BDN", b"SM", struct.pack("<H", version)
    header[513 if version >= 23 else 461] = method
    return bytes(header) + content.translate(_SUBSTITUTED if method == 1 else None)


def record_log(content: bytes, start: bytes = b"") -> bytes:
    """Return a LevelDB log in which the content continues from one block into the next."""
    first = b"v" * (32_768 - len(start) - 14 - 50 - len(content) // 2)
    log = bytearray(start)
    for record in (b"k" * 50, first + content + b"w" * 99):
        left, kind = record, 0
        while left or not kind:
            room = 32_768 - len(log) % 32_768 - 7
            piece, left = left[:room], left[room:]
            kind = (3 if left else 4) if kind else (2 if left else 1)
            log += struct.pack("<IHB", 0xA1B2C3D4, len(piece), kind) + piece
    return bytes(log)


def chunked_response(content: bytes, size: int = 20) -> bytes:
    """Return a recorded HTTP response with the content in gzip, in chunks of `size` bytes."""
    body = gzip.compress(content * 2)
    chunks = (body[at : at + size] for at in range(0, len(body), size))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def figma_canvas(content: bytes) -> bytes:
    parts = (deflated(b"schema " * 20), deflated(content * 2))
    return b"fig-kiwi" + struct.pack("<I", 15) + b"".join(struct.pack("<I", len(part)) + part for part in parts)


def deleted_row(content: bytes) -> bytes:
    """Return a SQLite database with a deleted row of two copies of the content, compressed with gzip."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("CREATE TABLE cache (body BLOB)")
        rows = (b"first" * 9, gzip.compress(content * 2), b"last" * 9)
        connection.executemany("INSERT INTO cache VALUES (?)", [(row,) for row in rows])
        connection.commit()
        connection.execute("DELETE FROM cache WHERE rowid = 2")
        connection.commit()
        return connection.serialize()


def deleted_overflow(content: bytes) -> bytes:
    """Return a SQLite database with a deleted row, in which each of nine copies of the content crosses a page's end."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("PRAGMA page_size = 512")
        connection.execute("CREATE TABLE settings (value TEXT)")
        value = "".join("x" * (508 - len(content)) + content.decode("latin-1") for _ in range(9))
        connection.execute("INSERT INTO settings VALUES (?)", ("y" * 40 + value,))
        connection.execute("INSERT INTO settings VALUES ('last')")
        connection.commit()
        connection.execute("DELETE FROM settings WHERE rowid = 1")
        connection.commit()
        return connection.serialize()


def firmware(content: bytes) -> bytes:
    """Return a firmware image: a header, a `.lzma` stream, and other bytes after the stream."""
    return b"\x27\x05\x19\x56" + bytes(60) + lzma.compress(content * 2, lzma.FORMAT_ALONE) + b"tail" * 9


STORES = {
    "Outlook (PST), compressible encryption": outlook_store,
    "Outlook (PST), older form": lambda content: outlook_store(content, version=15),
    "LevelDB log, record over two blocks": record_log,
    "Weights & Biases, record over two blocks": lambda content: record_log(content, b":W&B\xbe\xe1\0"),
    "HTTP response in chunks": chunked_response,
    "Figma": figma_canvas,
    "SQLite, deleted row with gzip": deleted_row,
    "embedded lzma": firmware,
}
"""Functions that build files of programs' stores, by the file's name in the table of docs/detection.md."""

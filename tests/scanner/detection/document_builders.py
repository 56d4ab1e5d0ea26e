"""Functions that build documents, pictures, databases and dumps with a given content."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import sqlite3
import struct
import zlib
from collections.abc import Callable

from tests.scanner.detection.compression_builders import lzf, lzw


def png(content: bytes, kind: bytes = b"tEXt") -> bytes:
    chunk = {
        b"tEXt": b"Comment\0" + content,
        b"zTXt": b"Comment\0\0" + zlib.compress(content),
        b"iTXt": b"Comment\0\1\0en\0\0" + zlib.compress(content),
    }[kind]
    ihdr = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", ihdr), (kind, chunk), (b"IDAT", zlib.compress(b"\0\0")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def pdf(content: bytes, name: str = "FlateDecode") -> bytes:
    filters: dict[str, Callable[[bytes], bytes]] = {
        "FlateDecode": zlib.compress,
        "ASCII85Decode": lambda text: base64.a85encode(text) + b"~>",
        "ASCIIHexDecode": lambda text: text.hex().encode() + b">",
        "LZWDecode": lzw,
    }
    packed = filters[name](b"BT (" + content + b") Tj ET")
    return (
        b"%%PDF-1.7\n1 0 obj\n<< /Length %d /Filter /%s >>\nstream\n" % (len(packed), name.encode())
        + packed
        + b"\nendstream\nendobj\n%%EOF\n"
    )


def pdf_with_kerning(content: bytes) -> bytes:
    text = b"[" + b" -20 ".join(b"(" + content[at : at + 5] + b")" for at in range(0, len(content), 5)) + b"] TJ"
    packed = zlib.compress(text)
    return b"%PDF-1.4\n1 0 obj\n<</Filter[/FlateDecode]>>stream\r\n" + packed + b"\r\nendstream\n"


def pdf_with_glyph_numbers(content: bytes) -> bytes:
    """Return a PDF page whose text consists of glyph numbers, with a table that maps them to letters."""
    letters = list(dict.fromkeys(content.decode("latin-1")))
    codes = "".join(f"{letters.index(letter) + 1:04X}" for letter in content.decode("latin-1"))
    page = f"BT /F1 9 Tf <{codes[:64]}> Tj 10 0 Td [<{codes[64:]}>] TJ ET".encode()
    pairs = "".join(f"<{number:04X}> <{ord(letter):04X}>\n" for number, letter in enumerate(letters, 1))
    cmap = (
        f"1 begincodespacerange <0000> <FFFF> endcodespacerange {len(letters)} beginbfchar\n{pairs}endbfchar".encode()
    )
    streams = b"".join(
        b"obj<</Filter/FlateDecode>>stream\n" + zlib.compress(body) + b"\nendstream\n" for body in (page, cmap)
    )
    return b"%PDF-1.7\n" + streams


def pdf_form(content: bytes) -> bytes:
    """Return a PDF with a filled-in form field."""
    wide = (b"\xfe\xff" + content.decode("latin-1").encode("utf-16-be")).replace(b"\0", b"\\000")
    packed = zlib.compress(b"5 0 <</FT/Tx/V(" + wide.replace(b"\xfe\xff", b"\\376\\377", 1) + b")>>")
    return b"%PDF-1.7\n1 0 obj<</Type/ObjStm/Filter/FlateDecode>>stream\n" + packed + b"\nendstream\n"


def sqlite_database(content: bytes) -> bytes:
    """Return a SQLite database with three values. Each contains the content and spans several pages."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute("CREATE TABLE settings (name TEXT, value TEXT)")
        for shift in range(0, 60, 20):
            value = "x" * (440 + shift) + content.decode("latin-1") + "y" * 600
            connection.execute("INSERT INTO settings VALUES (?, ?)", ("key", value))
        connection.commit()
        return connection.serialize()


def sqlite_with_gzip(content: bytes) -> bytes:
    """Return a SQLite database whose only value is two copies of the content, compressed with gzip."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE cache (body BLOB)")
        connection.execute("INSERT INTO cache VALUES (?)", (gzip.compress(content * 2),))
        connection.commit()
        return connection.serialize()


def sqlite_in_utf16(content: bytes) -> bytes:
    """Return a SQLite database in UTF-16 with a table WITHOUT ROWID. The content is at the end of a long value."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16le'")
        connection.execute("PRAGMA page_size = 1024")
        connection.execute("CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        connection.execute("INSERT INTO settings VALUES (?, ?)", ("x" * 500, "y" * 900 + content.decode("latin-1")))
        connection.commit()
        return connection.serialize()


def redis_dump(content: bytes) -> bytes:
    def length(value: int) -> bytes:
        return bytes((0x40 | value >> 8, value & 255))

    packed = lzf(content)
    value = b"\xc3" + length(len(packed)) + length(101 + len(content)) + packed
    return b"REDIS0010\xfa\tredis-ver\x067.0.15\xfe\0\0\x03key" + value + b"\xff" + bytes(8)


def postgresql_dump(content: bytes) -> bytes:
    """Return a PostgreSQL dump in custom format with one table."""
    packed = zlib.compress(content)
    chunks = [packed[:20], packed[20:], b""]
    data = b"".join(b"\0" + struct.pack("<I", len(chunk)) + chunk for chunk in chunks)
    return b"PGDMP\x01\x0e\0\x04\x08\x01" + bytes(100) + b"\x01\0" + struct.pack("<I", 214) + data


def avro(content: bytes, codec: bytes = b"deflate") -> bytes:
    """Return an Avro file whose only record is a string with the content."""
    record = _zigzag(len(content)) + content
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(record) + packer.flush() if codec == b"deflate" else record
    schema = b'"string"'
    metadata = b"".join(_zigzag(len(text)) + text for text in (b"avro.codec", codec, b"avro.schema", schema))
    marker = bytes(range(16))
    return (
        b"Obj\x01" + _zigzag(2) + metadata + _zigzag(0) + marker + _zigzag(1) + _zigzag(len(packed)) + packed + marker
    )


def _zigzag(number: int) -> bytes:
    value, written = number << 1, bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*written, value))


def compound_file(content: bytes) -> bytes:
    """Return an OLE file with one stream, whose sectors are in reverse order."""
    data = content.ljust(4096 + 512, b" ")
    sectors = [data[at : at + 512].ljust(512, b" ") for at in range(0, len(data), 512)]
    count = len(sectors)
    # Sector 0 is the table of sectors, and sector 1 is the directory. The sectors of the content come next, in reverse
    # order.
    places = [2 + count - 1 - number for number in range(count)]
    table = [0xFFFFFFFD, 0xFFFFFFFE] + [0xFFFFFFFF] * 126
    for at, place in enumerate(places):
        table[place] = places[at + 1] if at + 1 < count else 0xFFFFFFFE
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(10)
    header += struct.pack("<IIIIIIII", 1, 1, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0)
    header += struct.pack("<109I", 0, *[0xFFFFFFFF] * 108)
    directory = _directory_entry("Root Entry", 5, 0xFFFFFFFE, 0) + _directory_entry("Contents", 2, places[0], len(data))
    body = {0: struct.pack("<128I", *table), 1: directory.ljust(512, b"\0"), **dict(zip(places, sectors, strict=True))}
    return header + b"".join(body[number] for number in range(2 + count))


def _directory_entry(name: str, kind: int, start: int, size: int) -> bytes:
    text = name.encode("utf-16-le") + b"\0\0"
    return text.ljust(64, b"\0") + struct.pack("<HBB", len(text), kind, 1) + bytes(48) + struct.pack("<IQ", start, size)


def json_stream(content: bytes) -> bytes:
    """Return the content as a chat model's answer from Ollama: lines of JSON with three letters each."""
    text = content.decode("latin-1")
    pieces = [text[at : at + 3] for at in range(0, len(text), 3)]
    events = [{"model": "m", "message": {"content": piece}, "done": False} for piece in pieces]
    return "".join(f"{json.dumps(event, separators=(',', ':'))}\n" for event in events).encode()


def event_stream(content: bytes) -> bytes:
    """Return the content as a chat model's answer in `text/event-stream`: events with three letters each."""
    text = content.decode("latin-1")
    pieces = [text[at : at + 3] for at in range(0, len(text), 3)]
    events = [{"id": "x", "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + b"data: [DONE]\n\n"

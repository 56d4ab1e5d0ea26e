"""Builders of containers with a given content. The tests and the tables in docs/detection.md use them."""

from __future__ import annotations

import base64
import bz2
import contextlib
import gzip
import io
import json
import lzma
import pickle
import sqlite3
import struct
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from tests.scanner.detection.stream_builders import STREAMS

Builder = Callable[[bytes], bytes]


def zipped(content: bytes, name: str = "b/c.txt", method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def tarred(content: bytes, name: str = "b/c.txt", form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def old_tar(content: bytes) -> bytes:
    """Return a tar archive in the form from before POSIX: its header has a checksum and no magic number."""
    archive = bytearray(tarred(content, form=tarfile.USTAR_FORMAT))
    archive[257:512] = bytes(255)
    archive[148:156] = b" " * 8
    archive[148:156] = b"%06o\0 " % sum(archive[:512])
    return bytes(archive)


def docx_in_runs(content: bytes) -> bytes:
    """Return a Word document whose text is divided into formatted runs of seven letters."""
    pieces = [content[at : at + 7] for at in range(0, len(content), 7)]
    runs = b"".join(b"<w:r><w:rPr><w:b/></w:rPr><w:t>" + piece + b"</w:t></w:r>" for piece in pieces)
    return zipped(b'<?xml version="1.0"?><w:document><w:p>' + runs + b"</w:p></w:document>", "word/document.xml")


def seven_zipped(content: bytes) -> bytes:
    import py7zr

    buffer = io.BytesIO()
    with py7zr.SevenZipFile(buffer, "w") as archive:
        archive.writestr(content, "b/c.txt")
    return buffer.getvalue()


def zstandard_compressed(content: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(content)


def ar(*members: tuple[bytes, bytes]) -> bytes:
    """Return an ar archive. Each member is a pair of name and content."""
    parts = [b"!<arch>\n"]
    for name, content in members:
        parts.append(b"%-16s%-12d%-6d%-6d%-8s%-10d`\n" % (name, 0, 0, 0, b"100644", len(content)))
        parts.append(content + b"\n" * (len(content) % 2))
    return b"".join(parts)


def deb(content: bytes) -> bytes:
    return ar((b"debian-binary", b"2.0\n"), (b"data.tar.xz", lzma.compress(tarred(content))))


def cpio(content: bytes, name: bytes = b"./b/c.txt") -> bytes:
    parts = []
    for entry, body in ((name, content), (b"TRAILER!!!", b"")):
        numbers = (1, 0o100644, 0, 0, 1, 0, len(body), 0, 0, 0, 0, len(entry) + 1, 0)
        header = b"070701" + b"".join(b"%08X" % number for number in numbers)
        parts.append(header + entry + b"\0" + b"\0" * (-(110 + len(entry) + 1) % 4) + body + b"\0" * (-len(body) % 4))
    return b"".join(parts)


def rpm(content: bytes) -> bytes:
    header = b"\x8e\xad\xe8\x01" + bytes(4) + struct.pack(">II", 1, 5) + bytes(16) + b"name\0"
    lead = b"\xed\xab\xee\xdb" + bytes(92)
    return lead + header + bytes(-len(header) % 8) + header + zstandard_compressed(cpio(content))


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


def lzw(content: bytes) -> bytes:
    """Return the content in LZW as PDF uses it. Each code stands for one byte."""
    codes: list[tuple[int, int]] = [(256, 9)]
    for at, byte in enumerate(content):
        if at and at % 200 == 0:
            codes.append((256, 9))
        codes.append((byte, 9))
    bits = "".join(format(code, f"0{width}b") for code, width in [*codes, (257, 9)])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


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
    """Return a PDF page whose text is written in glyph numbers, which count the letters in the order of their first
    use.

    The table from glyph numbers to letters follows the page.
    """
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
    """Return a PDF with a form field in an object stream. The field's value is a string in UTF-16 with octal
    escapes.
    """
    wide = (b"\xfe\xff" + content.decode("latin-1").encode("utf-16-be")).replace(b"\0", b"\\000")
    packed = zlib.compress(b"5 0 <</FT/Tx/V(" + wide.replace(b"\xfe\xff", b"\\376\\377", 1) + b")>>")
    return b"%PDF-1.7\n1 0 obj<</Type/ObjStm/Filter/FlateDecode>>stream\n" + packed + b"\nendstream\n"


def sqlite_database(content: bytes) -> bytes:
    """Return a SQLite database in which the value spans two pages."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA page_size = 512")
        connection.execute("CREATE TABLE settings (name TEXT, value TEXT)")
        for shift in range(0, 60, 20):
            value = "x" * (440 + shift) + content.decode("latin-1") + "y" * 600
            connection.execute("INSERT INTO settings VALUES (?, ?)", ("key", value))
        connection.commit()
        return connection.serialize()


def sqlite_with_gzip(content: bytes) -> bytes:
    """Return a SQLite database with a value that is compressed with gzip."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE cache (body BLOB)")
        connection.execute("INSERT INTO cache VALUES (?)", (gzip.compress(content * 2),))
        connection.commit()
        return connection.serialize()


def git_repository(folder: Path, content: bytes) -> None:
    """Write a repository with two versions of a file, and pack it. Git then stores one version as a delta of the
    other.
    """

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)

    git("init", "-q")
    lines = b"".join(b"line %d of a file that is long enough for a delta\n" % number for number in range(200))
    for body in (lines, lines + content + b"\n"):
        (folder / "settings.txt").write_bytes(body)
        git("add", ".")
        git("commit", "-q", "-m", "change")
    git("repack", "-adq")


def git_pack(content: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        git_repository(Path(folder), content)
        return next(Path(folder).glob(".git/objects/pack/*.pack")).read_bytes()


def git_bundle(content: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        git_repository(Path(folder), content)
        subprocess.run(
            ["git", "bundle", "create", "-q", "all.bundle", "--all"], cwd=folder, check=True, capture_output=True
        )
        return Path(folder, "all.bundle").read_bytes()


def loose_object(content: bytes) -> bytes:
    return zlib.compress(b"blob %d\0" % len(content) + content)


def cpio_in_octal(content: bytes, name: bytes = b"./b/c.txt") -> bytes:
    """Return a cpio archive in the octal format `odc`, which macOS packages use."""
    parts = []
    for entry, body in ((name, content), (b"TRAILER!!!", b"")):
        numbers = b"%06o" * 7 % (0, 1, 0o100644, 0, 0, 1, 0) + b"%011o%06o%011o" % (0, len(entry) + 1, len(body))
        parts.append(b"070707" + numbers + entry + b"\0" + body)
    return b"".join(parts)


def lzip(content: bytes) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}]
    packed = lzma.compress(content, lzma.FORMAT_ALONE, filters=filters)[13:]
    trailer = struct.pack("<IQQ", zlib.crc32(content), len(content), len(packed) + 26)
    return b"LZIP\x01\x10" + packed + trailer


def lz4_block(content: bytes) -> bytes:
    """Return an LZ4 block that stores the content as one literal, without references to earlier bytes."""
    length = len(content)
    head = bytes((min(length, 15) << 4,))
    if length >= 15:
        head += b"\xff" * ((length - 15) // 255) + bytes(((length - 15) % 255,))
    return head + content


def lz4_frame(content: bytes) -> bytes:
    block = lz4_block(content)
    return b"\x04\x22\x4d\x18\x60\x40\x82" + struct.pack("<I", len(block)) + block + bytes(4)


def mozilla_lz4(content: bytes) -> bytes:
    return b"mozLz40\0" + struct.pack("<I", len(content)) + lz4_block(content)


def snappy_stream(content: bytes) -> bytes:
    """Return a Snappy stream. Each of its chunks stores up to 60 bytes as one literal."""
    parts = [b"\xff\x06\0\0sNaPpY"]
    for at in range(0, len(content), 60):
        piece = content[at : at + 60]
        block = bytes((len(piece), (len(piece) - 1) << 2)) + piece
        parts.append(b"\0" + (len(block) + 4).to_bytes(3, "little") + bytes(4) + block)
    return b"".join(parts)


def unix_compressed(content: bytes) -> bytes:
    """Return the content as the program `compress` writes it: in codes of 9 to 16 bits, in groups of eight equally wide
    codes.
    """
    table = {bytes((byte,)): byte for byte in range(256)}
    group: list[int] = []
    width, output, prefix = 9, bytearray(b"\x1f\x9d\x90"), b""

    def flush() -> None:
        bits = sum(code << (width * at) for at, code in enumerate(group))
        output.extend(bits.to_bytes(width, "little"))
        group.clear()

    following = 257
    for at in range(len(content)):
        longer = prefix + content[at : at + 1]
        if longer in table:
            prefix = longer
            continue
        group.append(table[prefix])
        if len(group) == 8:
            flush()
        if following < 1 << 16:
            table[longer] = following
            following += 1
            if following > (1 << width) and width < 16:
                if group:
                    flush()
                width += 1
        prefix = content[at : at + 1]
    if prefix:
        group.append(table[prefix])
        bits = sum(code << (width * at) for at, code in enumerate(group))
        output.extend(bits.to_bytes(-(-width * len(group) // 8), "little"))
    return bytes(output)


def sqlite_in_utf16(content: bytes) -> bytes:
    """Return a SQLite database in UTF-16 with a table WITHOUT ROWID, which SQLite stores as an index. The value spans
    pages.
    """
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("PRAGMA encoding = 'UTF-16le'")
        connection.execute("PRAGMA page_size = 1024")
        connection.execute("CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        connection.execute("INSERT INTO settings VALUES (?, ?)", ("x" * 500, "y" * 900 + content.decode("latin-1")))
        connection.commit()
        return connection.serialize()


def lzf(content: bytes) -> bytes:
    """Return the content in LZF after a run of zeros, so that the compressed form is shorter than the plain one."""
    parts = [b"\0\0", bytes((0xE0, 91, 0))]
    parts += [bytes((len(content[at : at + 32]) - 1,)) + content[at : at + 32] for at in range(0, len(content), 32)]
    return b"".join(parts)


def redis_dump(content: bytes) -> bytes:
    def length(value: int) -> bytes:
        return bytes((0x40 | value >> 8, value & 255))

    packed = lzf(content)
    value = b"\xc3" + length(len(packed)) + length(101 + len(content)) + packed
    return b"REDIS0010\xfa\tredis-ver\x067.0.15\xfe\0\0\x03key" + value + b"\xff" + bytes(8)


def postgresql_dump(content: bytes) -> bytes:
    """Return a PostgreSQL dump in custom format, with the data of one table in two chunks."""
    packed = zlib.compress(content)
    chunks = [packed[:20], packed[20:], b""]
    data = b"".join(b"\0" + struct.pack("<I", len(chunk)) + chunk for chunk in chunks)
    return b"PGDMP\x01\x0e\0\x04\x08\x01" + bytes(100) + b"\x01\0" + struct.pack("<I", 214) + data


def behind_a_header(stream: bytes) -> bytes:
    """Return a file of an unknown format that contains the stream between a header and a trailer."""
    return b"ACME\x01\0\0\0" + bytes(range(24)) + stream + b"\0trailer"


def raw_deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(b"response: " + content) + packer.flush()


def avro(content: bytes, codec: bytes = b"deflate") -> bytes:
    """Return an Avro file of one block with one record. The record is a string."""
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
    """Return an OLE file with one stream. The stream's 512-byte sectors are stored in reverse order."""
    data = content.ljust(4096 + 512, b" ")
    sectors = [data[at : at + 512].ljust(512, b" ") for at in range(0, len(data), 512)]
    count = len(sectors)
    # Sector 0 is the table of sectors, and sector 1 the directory. The stream's sectors follow in reverse order.
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


def event_stream(content: bytes) -> bytes:
    """Return the answer of a chat model as its API streams it, in events of three letters each."""
    text = content.decode("latin-1")
    pieces = [text[at : at + 3] for at in range(0, len(text), 3)]
    events = [{"id": "x", "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + b"data: [DONE]\n\n"


CONTAINERS: dict[str, Builder] = {
    "zip": zipped,
    "zip, stored": lambda content: zipped(content, method=zipfile.ZIP_STORED),
    "zip, bzip2": lambda content: zipped(content, method=zipfile.ZIP_BZIP2),
    "zip, LZMA": lambda content: zipped(content, method=zipfile.ZIP_LZMA),
    "zip after a program": lambda content: b"#!/bin/sh\nexec java -jar $0\n" + zipped(content),
    "zip without its directory": lambda content: zipped(content)[:-60],
    "zip in a zip": lambda content: zipped(zipped(content), "inner.zip"),
    "docx, text split over runs": docx_in_runs,
    "tar": tarred,
    "tar, old form": old_tar,
    "tar.gz": lambda content: gzip.compress(tarred(content)),
    "gzip": gzip.compress,
    "gzip, several streams": lambda content: gzip.compress(b"first\n") + gzip.compress(content),
    "gzip, cut off": lambda content: gzip.compress(content + bytes(100_000), 1)[:-200],
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
    "Zstandard": zstandard_compressed,
    "zlib (loose git object)": loose_object,
    "lzip": lzip,
    "lz4": lz4_frame,
    "lz4 of Mozilla": mozilla_lz4,
    "Snappy": snappy_stream,
    "compress (.Z)": unix_compressed,
    "7z": seven_zipped,
    "ar": lambda content: ar((b"a.o", gzip.compress(content))),
    "deb": deb,
    "cpio, compressed": lambda content: gzip.compress(cpio(content)),
    "cpio, older form": lambda content: gzip.compress(cpio_in_octal(content)),
    "rpm": rpm,
    "PDF, Flate": pdf,
    "PDF, ASCII85": lambda content: pdf(content, "ASCII85Decode"),
    "PDF, ASCIIHex": lambda content: pdf(content, "ASCIIHexDecode"),
    "PDF, LZW": lambda content: pdf(content, "LZWDecode"),
    "PDF, kerned text": pdf_with_kerning,
    "PDF, glyph numbers": pdf_with_glyph_numbers,
    "PDF, form value in UTF-16": pdf_form,
    "SQLite, value over two pages": sqlite_database,
    "SQLite, gzip in a value": sqlite_with_gzip,
    "SQLite in UTF-16, table without row ids": sqlite_in_utf16,
    "Redis dump, LZF": redis_dump,
    "PostgreSQL dump, custom format": postgresql_dump,
    "PNG tEXt": png,
    "PNG zTXt": lambda content: png(content, b"zTXt"),
    "PNG iTXt": lambda content: png(content, b"iTXt"),
    "git pack": git_pack,
    "git bundle": git_bundle,
    "pickle": lambda content: pickle.dumps({"key": content.decode("latin-1")}),
    "Python bytecode": lambda content: b"\xa7\r\r\n" + bytes(12) + b"\xda\x28" + content,
    "Avro, deflate": avro,
    "OLE (old Office, Outlook)": compound_file,
    "event stream of a chat model": event_stream,
    "raw deflate": raw_deflated,
    "embedded zlib": lambda content: behind_a_header(zlib.compress(content)),
    "embedded gzip": lambda content: behind_a_header(gzip.compress(content)),
    "embedded bzip2": lambda content: behind_a_header(bz2.compress(content)),
    "embedded xz": lambda content: behind_a_header(lzma.compress(content)),
    "embedded Zstandard": lambda content: behind_a_header(zstandard_compressed(content)),
    "embedded zip": lambda content: behind_a_header(zipped(content) + bytes(70_000)),
    **STREAMS,
    "zip in base64": lambda content: b'{"file": "' + base64.b64encode(zipped(content)) + b'"}',
    "tar.gz in base64": lambda content: base64.encodebytes(gzip.compress(tarred(content))),
}
"""Builders of the containers that the detector must open, by the container's name."""

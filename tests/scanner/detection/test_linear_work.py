"""Tests that twice the input causes at most about twice the work in each reader of a file format."""

from __future__ import annotations

import gzip
import io
import lzma
import random
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable

import brotli
import pytest

from scanner.detection.containers.signatures import ContainerKind
from scanner.detection.limits import Limits, Meter
from tests.scanner.detection.archive_builders import ar, cpio, tarred
from tests.scanner.detection.compression_builders import lz4_block, snappy_stream, unix_compressed, zstandard_compressed
from tests.scanner.detection.document_builders import png, sqlite_database
from tests.scanner.detection.export_builders import array_of_answers, compressed_rtf, excalidraw_svg, text_events
from tests.scanner.detection.fuzz_targets import read_all
from tests.scanner.detection.line_counts import executed_lines
from tests.scanner.detection.store_builders import chunked_response, outlook_store
from tests.scanner.detection.stream_builders import chrome_cache, firefox_cache

ROOMY = Limits(seconds=3_600.0, entries=10**6, ratio=10**6)


def _work(kind: ContainerKind, content: bytes) -> tuple[int, Meter]:
    """Read a container. Return the number of executed lines of `scanner.detection`, and the meter that counted the
    work.
    """
    return executed_lines(lambda: read_all(kind, content, ROOMY))


def _many_cells_to_one_chain(size: int) -> bytes:
    """Return a SQLite database in which all rows use the same overflow pages."""
    connection = sqlite3.connect(":memory:")
    connection.execute("PRAGMA page_size = 512")
    connection.execute("CREATE TABLE t (a BLOB)")
    for _ in range(size):
        connection.execute("INSERT INTO t VALUES (zeroblob(20000))")
    connection.commit()
    content = bytearray(connection.serialize())
    connection.close()
    first = None
    for page in range(512, len(content), 512):
        if content[page] != 13:
            continue
        for at in range(page + 8, page + 8 + 2 * content[page + 4], 2):
            cell = page + int.from_bytes(content[at : at + 2], "big")
            # Find the last part of a cell, which is the number of the first overflow page. Before it, a cell has the
            # payload's size in three bytes, the row id in one or two bytes, and the first part of the payload.
            local = 39 + (20_004 - 39) % 508
            local = local if local <= 477 else 39
            number = cell + 3 + (1 if content[cell + 3] < 128 else 2) + local
            first = first or content[number : number + 4]
            content[number : number + 4] = first
    return bytes(content)


def _overlapping_cells(size: int) -> bytes:
    """Return a SQLite database in which each row begins one byte after the previous row."""
    content = bytearray(sqlite_database(b"x" * 40))
    page = bytearray(512)
    count = 200
    page[0] = 13
    page[3:5] = count.to_bytes(2, "big")
    for number in range(count):
        page[8 + 2 * number : 10 + 2 * number] = (408 + number % 90).to_bytes(2, "big")
    page[408:512] = b"\x60" * 104
    return bytes(content + bytes(page) * size)


def _overlapping_entries(size: int) -> bytes:
    """Return a zip archive whose directory lists the same compressed file `size` times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(10_000))
    content = buffer.getvalue()
    begin, end = content.index(b"PK\x01\x02"), content.index(b"PK\x05\x06")
    record = content[begin:end]
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 0, 0, len(record) * size, begin, 0)
    return content[:begin] + record * size + tail


def _digits_in_pax(size: int) -> bytes:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 512 * size
    return info.tobuf(tarfile.USTAR_FORMAT) + b"1" * info.size + bytes(1024)


def _pax_records(size: int) -> bytes:
    return tarred(b"", name="d/" + "x" * 200) * size


def _headers_of_names(size: int) -> bytes:
    return tarred(b"", name="x" * 150, form=tarfile.GNU_FORMAT) * size


def _seven_zip_of_folders(size: int) -> bytes:
    def number(value: int) -> bytes:
        return b"\xff" + struct.pack("<Q", value)

    header = b"\x01\x04\x06" + number(0) + number(size) + b"\x09" + number(1) * size + b"\0"
    header += b"\x07\x0b" + number(size) + b"\0" + b"\x01\x01\x00" * size + b"\x0c" + number(1) * size + b"\0\0\0"
    start = struct.pack("<QQL", size, len(header), zlib.crc32(header))
    return b"7z\xbc\xaf\x27\x1c\0\4" + struct.pack("<L", zlib.crc32(start)) + start + b"x" * size + header


def _text_chunks(size: int) -> bytes:
    picture = png(b"word")
    begin, end = picture.index(b"tEXt") - 4, picture.index(b"IDAT") - 4
    return picture[:begin] + picture[begin:end] * size + picture[end:]


def _pdf_streams(body: bytes) -> Callable[[int], bytes]:
    return lambda size: b"%PDF-1.4\n" + body * size


def _pdf_filter(name: bytes, body: bytes) -> Callable[[int], bytes]:
    return lambda size: b"%PDF-1.4\n<</Filter/" + name + b">>stream\n" + body * size + b"\nendstream"


def _tiny_brotli_blocks(size: int) -> bytes:
    packer = brotli.Compressor()
    parts: list[bytes] = [part for _ in range(size) for part in (packer.process(b"a"), packer.flush())]
    return b"".join([*parts, packer.finish()])


def _blosc_blocks_of_one_part(size: int) -> bytes:
    """Return a Blosc chunk whose blocks all refer to the same long compressed part."""
    table = struct.pack("<I", 16 + 4 * size) * size
    part = zlib.compress(random.Random(1).randbytes(50 * size), 0)
    packed = table + struct.pack("<I", len(part)) + part
    return struct.pack("<BBBBIII", 2, 1, 16 | 3 << 5, 1, size, 1, 16 + len(packed)) + packed


def _blosc_blocks(size: int) -> bytes:
    """Return a Blosc chunk whose blocks all refer to the same uncompressed part."""
    packed = struct.pack("<I", 16 + 4 * size) * size + struct.pack("<I", 8) + b"abcdefgh"
    return struct.pack("<BBBBIII", 2, 1, 16 | 1 << 5, 1, 8 * size, 8, 16 + len(packed)) + packed


def _php_files_without_content(size: int) -> bytes:
    entries = bytes(28) * size
    manifest = struct.pack("<IHII", size, 0x1100, 0x10000, 0) + bytes(4) + entries
    return b"<?php __HALT_COMPILER(); ?>\r\n" + struct.pack("<I", len(manifest)) + manifest


def _hexadecimal(size: int) -> bytes:
    return random.Random(1).randbytes(size).hex().encode()


def _free_blocks(size: int) -> bytes:
    """Return a SQLite database whose pages have the highest possible number of free blocks."""
    page = bytearray(512)
    page[0], page[2] = 13, 8
    for at in range(8, 504, 4):
        page[at : at + 4] = struct.pack(">HH", at + 4, 4)
    return sqlite_database(b"x" * 40) + bytes(page) * size


def _chained_free_pages(size: int) -> bytes:
    """Return a SQLite database whose free pages each refer to the page before."""
    content = sqlite_database(b"x" * 40)
    first = len(content) // 512
    return content + b"".join(struct.pack(">I", first + number).ljust(512, b"z") for number in range(size))


CASES: dict[str, tuple[ContainerKind, Callable[[int], bytes], int]] = {
    "SQLite, cells of one chain": ("sqlite", _many_cells_to_one_chain, 20),
    "SQLite, overlapping cells": ("sqlite", _overlapping_cells, 20),
    "zip, overlapping entries": ("zip", _overlapping_entries, 100),
    "zip, local headers only": ("zip", lambda size: b"PK\x03\x04" * 10 * size, 100),
    "zip, end records": ("zip", lambda size: b"PK\x03\x04" + b"PK\x05\x06" * 10 * size, 100),
    "tar, digits": ("tar", _digits_in_pax, 100),
    "tar, PAX headers": ("tar", _pax_records, 50),
    "tar, long names": ("tar", _headers_of_names, 50),
    "tar, broken headers": ("tar", lambda size: tarred(b"x") + random.Random(1).randbytes(512 * size), 100),
    "gzip, false starts": ("gzip", lambda size: b"\x1f\x8b\x08" * 100 * size, 100),
    "gzip, tiny streams": ("gzip", lambda size: gzip.compress(b"a") * size, 100),
    "gzip, zeros behind": ("gzip", lambda size: gzip.compress(b"a") + bytes(100_000 * size), 10),
    "xz, tiny streams": ("xz", lambda size: lzma.compress(b"a") * size, 50),
    "xz, false starts": ("xz", lambda size: b"\xfd7zXZ\0" * 100 * size, 100),
    "bzip2, false starts": ("bzip2", lambda size: b"BZh91AY&SY" * 100 * size, 100),
    "Zstandard, tiny frames": ("zstd", lambda size: zstandard_compressed(b"a") * size, 50),
    "Zstandard, false starts": ("zstd", lambda size: b"\x28\xb5\x2f\xfd" * 100 * size, 100),
    "7z, solid blocks": ("7z", _seven_zip_of_folders, 50),
    "ar, tiny members": ("ar", lambda size: ar(*((b"a", b"b"),) * size), 50),
    "cpio, tiny members": ("cpio", lambda size: cpio(b"x")[:124] * size, 50),
    "PNG, tiny chunks": ("png", _text_chunks, 50),
    "PDF, streams without filters": ("pdf", _pdf_streams(b"/F[/F[stream\nendstream"), 200),
    "PDF, no end of streams": ("pdf", _pdf_streams(b"stream\n"), 200),
    "PDF, open strings": ("pdf", _pdf_filter(b"ASCIIHexDecode", b"28 5c28".replace(b" ", b"") * 10 + b"546a"), 100),
    "PDF, maps without an end": (
        "pdf",
        lambda size: b"%PDF-1.4\n<</Filter/FlateDecode>>stream\n" + zlib.compress(b"beginbfchar" * 10 * size),
        100,
    ),
    "PDF, maps": ("pdf", _pdf_streams(b"stream\nbeginbfchar<0001><0041>endbfchar\nendstream (Tj) Tj endstream"), 100),
    "PDF, ASCII85 zeros": ("pdf", _pdf_filter(b"ASCII85Decode", b"z" * 100), 200),
    "PDF, ASCII85 zeros and groups": ("pdf", _pdf_filter(b"ASCII85Decode", b"z!!!!!" * 10), 200),
    "PDF, hex": ("pdf", _pdf_filter(b"ASCIIHexDecode", b"41" * 100), 200),
    "PDF, run lengths": ("pdf", _pdf_filter(b"RunLengthDecode", b"\xffa" * 100), 50),
    "PDF, LZW": ("pdf", _pdf_filter(b"LZWDecode", bytes(range(200))), 10),
    "Redis, false starts": ("redis", lambda size: b"REDIS0010\xfa" + b"\xc3\x05\x20\x01a\x01b" * 10 * size, 100),
    "PostgreSQL, false starts": ("postgresql", lambda size: b"PGDMP\x01" + b"\0\x05\0\0\0x\x9c" * 10 * size, 100),
    "lz4, blocks": (
        "lz4",
        lambda size: b"\x04\x22\x4d\x18\x60\x40\x82" + (struct.pack("<I", 11) + lz4_block(b"x" * 10)) * size + bytes(4),
        100,
    ),
    "Snappy, chunks": ("snappy", lambda size: snappy_stream(b"x" * 60 * size), 100),
    "Brotli, tiny blocks": ("brotli", _tiny_brotli_blocks, 500),
    "Brotli, text": ("brotli", lambda size: brotli.compress(_hexadecimal(100 * size)), 100),
    "Brotli, bytes behind its end": ("brotli", lambda size: brotli.compress(b"a" * 99) + bytes(100 * size), 100),
    "Chrome's cache, no body": ("chrome_cache", lambda size: chrome_cache(b"", has_key_length=False) * size, 100),
    "Chrome's cache, long key": ("chrome_cache", lambda size: chrome_cache(b"k" * 100 * size), 100),
    "Firefox's cache, body": (
        "firefox_cache",
        lambda size: firefox_cache(brotli.compress(_hexadecimal(100 * size))),
        100,
    ),
    "WOFF2, tables": ("woff2", lambda size: b"wOF2".ljust(12, b"\0") + b"\xff\xff" + b"\x80" * 100 * size, 100),
    "WOFF2, short directory": ("woff2", lambda size: b"wOF2".ljust(12, b"\0") + b"\xff\xff" + b"\0" * size, 4_000),
    "draw.io, open diagrams": ("diagram", lambda size: b"<mxfile>" + b"<diagram " * 10 * size, 100),
    "draw.io, diagrams": ("diagram", lambda size: b"<mxfile>" + b"<diagram>%b</diagram>" % (b"A" * 24) * size, 100),
    "HAR, bodies": ("http_bodies", lambda size: b'"encoding":"base64","text":"%b",' % (b"A" * 24) * size, 100),
    "HAR, open bodies": ("http_bodies", lambda size: b'"encoding":"base64"' + b'"text":"AAAA' * 10 * size, 100),
    "PHP, empty files": ("phar", _php_files_without_content, 100),
    "PHP, ends of programs": ("phar", lambda size: b"__HALT_COMPILER();" * 10 * size, 100),
    "Blosc, blocks of one part": ("blosc", _blosc_blocks, 500),
    "Blosc, blocks of one long part": ("blosc", _blosc_blocks_of_one_part, 500),
    "Blosc, false starts": (
        "embedded",
        lambda size: b"\x89HDF\r\n\x1a\nblosc" + b"\x02\x01\x21\x04" * 10 * size,
        100,
    ),
    "Outlook's RTF, headers that overlap": (
        "embedded",
        lambda size: b"\0" + b"".join(struct.pack("<II4sI", 16 * at, 9, b"LZFu", 0) for at in range(50 * size, 1, -1)),
        20,
    ),
    "Outlook's RTF, letters": ("embedded", lambda size: compressed_rtf(b"x" * 100 * size), 20),
    "Excalidraw, long drawing": ("excalidraw", lambda size: excalidraw_svg(_hexadecimal(100 * size)), 50),
    "Gemini, tiny answers": ("event_stream", lambda size: array_of_answers(b"x" * 100 * size), 20),
    "Replicate, tiny events": ("event_stream", lambda size: text_events(b"x" * 100 * size), 50),
    "Outlook, substituted bytes": ("outlook", lambda size: outlook_store(b"x" * 1_000 * size), 20),
    "LevelDB log, tiny records": ("record_log", lambda size: (bytes(4) + b"\1\0\1x") * 100 * size, 100),
    "LevelDB log, no records": ("record_log", lambda size: bytes(1_000 * size), 100),
    "HTTP, tiny chunks": ("chunked", lambda size: chunked_response(_hexadecimal(50 * size), 1), 20),
    "HTTP, headers without chunks": ("chunked", lambda size: b"\ntransfer-encoding: chunked\r\n" * 10 * size, 50),
    "Figma, tiny parts": ("figma", lambda size: b"fig-kiwi".ljust(12, b"\0") + b"\1\0\0\0x" * size, 200),
    "SQLite, free blocks": ("sqlite", _free_blocks, 20),
    "SQLite, chains of free pages": ("sqlite", _chained_free_pages, 200),
    "lzma, false starts": ("embedded", lambda size: b"\0" + b"]\0\0\x80\0" * 100 * size, 20),
    "compress, random bytes": ("compress", lambda size: unix_compressed(random.Random(1).randbytes(100 * size)), 20),
}


@pytest.mark.parametrize("name", CASES)
def test_twice_the_input_is_at_most_about_twice_the_work(name: str) -> None:
    kind, build, size = CASES[name]
    small, large = build(size), build(2 * size)
    lines, meter = _work(kind, small)
    more_lines, more_meter = _work(kind, large)
    assert more_lines <= 2.3 * lines + 200
    assert more_meter.expanded <= 2.3 * meter.expanded + 200_000
    assert more_meter.decoded <= 2.3 * meter.decoded + 200
    assert lines <= 40 * len(small)

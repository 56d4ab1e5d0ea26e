"""Functions that build hostile PDF, SQLite and PNG files."""

from __future__ import annotations

import base64
import sqlite3
import struct
import zlib

from tests.hostile.registry import hostile, hostile_with_leak

MIB = 1 << 20


def pdf_stream(body: bytes, filters: bytes) -> bytes:
    """Return a PDF with one stream that declares the given filters."""
    head = b"%%PDF-1.4\n1 0 obj\n<</Length %d/Filter%s>>\nstream\n" % (len(body), filters)
    return head + body + b"\nendstream\nendobj\n"


@hostile("PDF", "48 MB of ASCII85 'z', each for four zero bytes", large=True)
def pdf_zeros() -> bytes:
    return pdf_stream(b"z" * (48 * MIB), b"/ASCII85Decode")


@hostile("PDF", "100 streams of 300 kB of ASCII85 'z'")
def pdf_zeros_in_streams() -> bytes:
    return pdf_stream(b"z" * 300_000, b"/ASCII85Decode") * 100


@hostile("PDF", "an LZW stream in which each code doubles the text")
def pdf_lzw() -> bytes:
    codes, bits, width, following = [256, 0], [], 9, 258
    codes += list(range(258, 4096))
    for code in codes * 40:
        bits.append(format(code, f"0{width}b"))
        if code == 256:
            width, following = 9, 258
        else:
            following += 1
            width = 12 if following >= 2047 else 11 if following >= 1023 else 10 if following >= 511 else 9
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return pdf_stream(int(text, 2).to_bytes(len(text) // 8, "big"), b"/LZWDecode")


@hostile("PDF", "50 filters, each of which grows the data")
def pdf_filter_chain() -> bytes:
    return pdf_stream(b"z" * 4096, b"[" + b"/ASCII85Decode" * 25 + b"/FlateDecode/ASCII85Decode" * 12 + b"]")


@hostile("PDF", "Flate in Flate in Flate, 300 MB")
def pdf_flate_layers() -> bytes:
    body = zlib.compress(zlib.compress(zlib.compress(bytes(300 * MIB), 9), 9), 9)
    return pdf_stream(body, b"[/FlateDecode/FlateDecode/FlateDecode]")


@hostile("PDF", "100,000 objects with streams")
def pdf_objects() -> bytes:
    body = zlib.compress(b"BT (x) Tj ET")
    return b"%PDF-1.4\n" + b"".join(
        b"%d 0 obj<</Filter/FlateDecode/Length %d>>stream\n%s\nendstream endobj\n" % (number, len(body), body)
        for number in range(100_000)
    )


@hostile("PDF", "100,000 streams without an end")
def pdf_unterminated() -> bytes:
    return b"%PDF-1.4\n" + b"1 0 obj<</Filter/FlateDecode>>stream\n" * 100_000


@hostile("PDF", "dictionaries nested and opened 200,000 times, closed never")
def pdf_dictionaries() -> bytes:
    return b"%PDF-1.4\n1 0 obj" + b"<</A" * 200_000 + b"/Filter/FlateDecode>>stream\nx\nendstream"


@hostile("PDF", "text operators with 1,000,000 pieces and brackets that never close")
def pdf_text_operators() -> bytes:
    text = b"[" + b"(a) -20 " * 500_000 + b"((((((((" * 50_000
    return pdf_stream(zlib.compress(text), b"/FlateDecode")


@hostile_with_leak("PDF", "the leak, then the bomb")
def pdf_leak_before_bomb(leak: bytes) -> bytes:
    bomb = pdf_stream(b"z" * (8 * MIB), b"/ASCII85Decode")
    return pdf_stream(zlib.compress(b"BT (" + leak + b") Tj ET"), b"/FlateDecode") + bomb


def database_of(columns: list[str], rows: int = 1) -> bytes:
    """Return a SQLite database with one table. Its rows have values only in the column `a`.

    Args:
        columns: The SQL definitions of the other columns.
        rows: The number of rows.
    """
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute("PRAGMA page_size=512")
        connection.execute("CREATE TABLE t(a)")
        connection.executemany("INSERT INTO t(a) VALUES(?)", [(1,)] * rows)
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET sql=?", (f"CREATE TABLE t(a,{','.join(columns)})",))
        return connection.serialize()
    finally:
        connection.close()


@hostile("SQLite", "1 kB: a generated column that searches 12 MB in 24 MB")
def sqlite_generated_search() -> bytes:
    search = "instr(CAST(hex(zeroblob({0})) AS BLOB), CAST(hex(zeroblob({1}))||'1' AS BLOB))"
    return database_of([f"b AS ({search.format(24_000_000, 12_000_000)})"])


@hostile("SQLite", "2.5 kB: 60 generated columns of 48 MB in one row")
def sqlite_generated_row() -> bytes:
    return database_of([f"c{number} AS (zeroblob(48000000))" for number in range(60)])


@hostile("SQLite", "a generated column that matches a pattern of 2,000 stars")
def sqlite_generated_glob() -> bytes:
    stars = "*a" * 2_000
    return database_of([f"b AS (CAST(hex(zeroblob(200000)) AS TEXT) GLOB '{stars}b')"])


@hostile("SQLite", "a view, a trigger and a virtual table under the names of tables")
def sqlite_views() -> bytes:
    recursive = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c"
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute("CREATE TABLE t(a)")
        connection.execute(f"CREATE VIEW v AS {recursive}")
        connection.execute("CREATE TRIGGER x AFTER INSERT ON t BEGIN SELECT * FROM v; END")
        connection.execute("PRAGMA writable_schema=ON")
        connection.execute("UPDATE sqlite_master SET type='table', rootpage=2 WHERE name='v'")
        return connection.serialize()
    finally:
        connection.close()


def _database_with_overflow(rows: int) -> bytearray:
    """Return a SQLite database whose rows of 200 kB continue on overflow pages."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute("PRAGMA page_size=512")
        connection.execute("CREATE TABLE t(a)")
        connection.executemany("INSERT INTO t(a) VALUES(?)", [("x" * 200_000,) for _ in range(rows)])
        return bytearray(connection.serialize())
    finally:
        connection.close()


@hostile("SQLite", "a chain of overflow pages that leads back to its beginning")
def sqlite_overflow_loop() -> bytes:
    data = _database_with_overflow(1)
    pages = [at for at in range(512, len(data), 512) if data[at + 4 : at + 12] == b"x" * 8]
    for page, following in zip(pages, [*pages[1:], pages[0]], strict=True):
        data[page : page + 4] = struct.pack(">I", following // 512 + 1)
    return bytes(data)


@hostile("SQLite", "3,200 rows that all claim one chain of 40 MB", large=True)
def sqlite_shared_chain() -> bytes:
    """Return a SQLite database in which thousands of rows share one chain of overflow pages."""
    size, leaves, links, local = 4096, 400, 10_000, 489
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute("PRAGMA page_size=4096")
        connection.execute("CREATE TABLE t(a)")
        first = connection.serialize()[:size]
    finally:
        connection.close()
    # SQLite stores the first 489 bytes of each row in a leaf page, and the rest in overflow pages with 4,092 bytes
    # each.
    payload = local + links * (size - 4)
    record = (_varint(6) + _varint(13 + 2 * (payload - 6))).ljust(local, b"x")
    cells = [_varint(payload) + _varint(row) + record + struct.pack(">I", leaves + 3) for row in range(1, 9)]
    children = [struct.pack(">I", page + 3) + _varint(page * 8 + 8) for page in range(leaves - 1)]
    root = _page(size, b"\x05", children, struct.pack(">I", leaves + 2))
    following = [leaves + 4 + number if number + 1 < links else 0 for number in range(links)]
    chain = b"".join(struct.pack(">I", page) + b"x" * (size - 4) for page in following)
    data = bytearray(first + root + _page(size, b"\x0d", cells) * leaves + chain)
    data[28:32] = struct.pack(">I", len(data) // size)
    return bytes(data)


def _page(size: int, kind: bytes, cells: list[bytes], rightmost: bytes = b"") -> bytes:
    """Return a page of a SQLite table with these cells."""
    page = bytearray(size)
    at, pointers = size, b""
    for cell in cells:
        at -= len(cell)
        page[at : at + len(cell)] = cell
        pointers += struct.pack(">H", at)
    head = kind + struct.pack(">HHHB", 0, len(cells), at, 0) + rightmost + pointers
    page[: len(head)] = head
    return bytes(page)


def _varint(value: int) -> bytes:
    digits = [value & 0x7F]
    while value := value >> 7:
        digits.append(value & 0x7F | 0x80)
    return bytes(reversed(digits))


@hostile("SQLite", "interior pages that are each other's children", unread=True)
def sqlite_page_loop() -> bytes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute("PRAGMA page_size=512")
        connection.execute("CREATE TABLE t(a)")
        connection.executemany("INSERT INTO t(a) VALUES(?)", [("x" * 100,) for _ in range(20_000)])
        data = bytearray(connection.serialize())
    finally:
        connection.close()
    interior = [at for at in range(512, len(data), 512) if data[at] == 5]
    for at in interior:
        count = struct.unpack(">H", data[at + 3 : at + 5])[0]
        pointers = [struct.unpack(">H", data[at + 12 + 2 * n : at + 14 + 2 * n])[0] for n in range(count)]
        for number, pointer in enumerate(pointers):
            target = interior[(number + at // 512) % len(interior)]
            data[at + pointer : at + pointer + 4] = struct.pack(">I", target // 512 + 1)
    return bytes(data)


@hostile("SQLite", "10,000 tables over one page")
def sqlite_tables() -> bytes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute("CREATE TABLE t(a)")
        connection.execute("INSERT INTO t VALUES(?)", ("y" * 3_000,))
        connection.execute("PRAGMA writable_schema=ON")
        rows = [(f"t{number}", f"CREATE TABLE t{number}(a)") for number in range(10_000)]
        connection.executemany("INSERT INTO sqlite_master VALUES('table', ?1, ?1, 2, ?2)", rows)
        return connection.serialize()
    finally:
        connection.close()


@hostile_with_leak("SQLite", "the leak in one table, the generated column in another")
def sqlite_leak_beside_generated(leak: bytes) -> bytes:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute("CREATE TABLE keys(a, b)")
        connection.execute("INSERT INTO keys VALUES(?, ?)", ("x" * 500, leak.decode()))
        connection.execute("CREATE TABLE t(a)")
        connection.execute("INSERT INTO t VALUES(1)")
        connection.execute("PRAGMA writable_schema=ON")
        sql = "CREATE TABLE t(a, b AS (replace(hex(zeroblob(20000000)), '0', 'aaaaaaaaaa')))"
        connection.execute("UPDATE sqlite_master SET sql=? WHERE name='t'", (sql,))
        return connection.serialize()
    finally:
        connection.close()


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a PNG chunk of this kind with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


PNG_HEAD = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))


@hostile("PNG", "20 compressed texts of 100 MB", unread=True)
def png_texts() -> bytes:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100 * MIB), 9))
    return PNG_HEAD + text * 20 + chunk(b"IEND", b"")


@hostile("PNG", "1,000,000 chunks of text", large=True, unread=True)
def png_chunks() -> bytes:
    return PNG_HEAD + chunk(b"tEXt", b"a\0b") * 1_000_000


@hostile("PNG", "a chunk that claims 4 GB", unread=True)
def png_chunk_size() -> bytes:
    return PNG_HEAD + b"\xff\xff\xff\xfftEXt" + b"a\0b" * 1000


@hostile("PDF", "a compressed SQLite database in base64 in a stream")
def pdf_of_everything() -> bytes:
    inner = base64.b64encode(zlib.compress(sqlite_generated_search()))
    return pdf_stream(zlib.compress(b"BT (" + inner + b") Tj ET"), b"/FlateDecode")

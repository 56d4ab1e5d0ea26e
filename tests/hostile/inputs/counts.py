"""Functions that build small files that are costly to read, for example with huge counts or long chains."""

from __future__ import annotations

import lzma
import struct
import zlib

from tests.hostile.inputs.documents import pdf_stream
from tests.hostile.registry import hostile, hostile_with_leak

MIB = 1 << 20
FIFTY_THOUSAND = b"\xc0\x50\xc3"
"""The number 50,000 as 7z encodes it: the limit for the number of entries in an archive."""


def number(value: int) -> bytes:
    """Return a number as a 7z header encodes it in nine bytes."""
    return b"\xff" + struct.pack("<Q", value)


def seven_zip(header: bytes) -> bytes:
    """Return a 7z archive whose header is compressed."""
    packed = lzma.compress(
        header, format=lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 24, "preset": 1}]
    )
    encoded = b"\x17\x06" + number(0) + number(1) + b"\x09" + number(len(packed)) + b"\0"
    encoded += b"\x07\x0b" + number(1) + b"\0" + number(1) + b"\x21\x21" + number(1)
    encoded += b"\x18\x0c" + number(len(header)) + b"\0\0"
    start = struct.pack("<QQL", len(packed), len(encoded), zlib.crc32(encoded))
    return b"7z\xbc\xaf\x27\x1c\0\4" + struct.pack("<L", zlib.crc32(start)) + start + packed + encoded


@hostile("7z", "2,000,000 lists of 50,000 files each, in five bytes each", unread=True)
def seven_zip_lists() -> bytes:
    return seven_zip(b"\x01" + (b"\x05" + FIFTY_THOUSAND + b"\0") * 2_000_000 + b"\0")


@hostile("7z", "2,500 fields of 50,000 bits for one list of files", large=True, unread=True)
def seven_zip_bits() -> bytes:
    field = b"\x0e" + number(6_250) + b"\xaa" * 6_250
    return seven_zip(b"\x01\x05" + FIFTY_THOUSAND + field * 2_500 + b"\0\0")


@hostile("7z", "8,000,000 empty properties", large=True, unread=True)
def seven_zip_properties() -> bytes:
    return seven_zip(b"\x01\x02" + b"\x01\x00" * 7_900_000 + b"\0\0")


def map_of_font(ranges: bytes, width: bytes = b"<0000> <FFFF>") -> bytes:
    """Return a PDF stream that maps a font's character codes to letters.

    Args:
        ranges: The lines of the map.
        width: The lowest and the highest code.
    """
    text = b"begincodespacerange " + width + b" endcodespacerange beginbfrange " + ranges + b" endbfrange"
    return pdf_stream(zlib.compress(text, 9), b"/FlateDecode")


@hostile("PDF", "a font's map that gives the same 32,768 codes 200,000 times", large=True)
def pdf_map_ranges() -> bytes:
    return map_of_font(b"<0000><7FFF><0041> " * 200_000)


@hostile("PDF", "64 maps of 65,536 codes, each code with 60 letters", large=True, unread=True)
def pdf_map_letters() -> bytes:
    return b"".join(map_of_font(b"<0000><FFFF><" + b"4E%02X" % number * 60 + b">") for number in range(64))


@hostile_with_leak("PDF", "the leak, then a map that makes 63 letters of each of 8,000,000 codes", large=True)
def pdf_map_growth(leak: bytes) -> bytes:
    codes = zlib.compress(b"BT (" + b"a" * (4 * MIB - 100) + b") Tj ET", 9)
    text = zlib.compress(b"BT (" + leak + b") Tj ET")
    maps = map_of_font(b"<00><FF><" + b"4E00" * 63 + b">", b"<00> <FF>")
    return pdf_stream(text, b"/FlateDecode") + maps + pdf_stream(codes, b"/FlateDecode") * 2


@hostile("OLE", "sectors that are their own successors, in streams of 2 ** 40 bytes", unread=True)
def ole_chains() -> bytes:
    size, first = 4096, 20
    head = bytearray(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(size, b"\0"))
    struct.pack_into("<HHH", head, 28, 0xFFFE, 12, 6)
    struct.pack_into("<IIIIII", head, 48, first, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE)
    struct.pack_into("<109I", head, 76, *range(first), *([0xFFFFFFFF] * (109 - first)))
    table = struct.pack(f"<{1024 * first}I", *range(1024 * first))
    entries = [_entry("Root", 5, first + 1), *(_entry(f"s{index}", 2, first + 2) for index in range(31))]
    return bytes(head) + table + b"".join(entries) + b"x" * size * 100


def _entry(name: str, kind: int, sector: int) -> bytes:
    raw = name.encode("utf-16-le")
    fields = struct.pack("<HB", len(raw) + 2, kind) + bytes(49) + struct.pack("<IQ", sector, 1 << 40)
    return raw.ljust(64, b"\0") + fields


@hostile("SQLite", "a row of 40,000,000 empty columns", large=True, unread=True)
def sqlite_columns() -> bytes:
    page, header = 65_536, 40 * MIB
    size = bytes((header >> 21 | 0x80, header >> 14 & 0x7F | 0x80, header >> 7 & 0x7F | 0x80, header & 0x7F))
    record = size + b"\x81\x55" + b"\x0c" * (header - 6) + b"x" * 100
    least = (page - 12) * 32 // 255 - 23
    local = least + (len(record) - least) % (page - 4)
    local = local if local <= page - 35 else least
    rest = [record[at : at + page - 4] for at in range(local, len(record), page - 4)]
    following = [*range(3, len(rest) + 2), 0]
    whole = len(record)
    length = bytes((whole >> 21 | 0x80, whole >> 14 & 0x7F | 0x80, whole >> 7 & 0x7F | 0x80, whole & 0x7F))
    cell = length + b"\1" + record[:local] + (2).to_bytes(4)
    first = bytearray(page)
    first[:24] = b"SQLite format 3\0\0\1\1\1\0\x40\x20\x20"
    first[56:60] = (1).to_bytes(4)
    begin = page - len(cell)
    first[begin:] = cell
    first[100:110] = b"\x0d\0\0\0\1" + begin.to_bytes(2) + b"\0" + begin.to_bytes(2)
    return bytes(first) + b"".join(
        (at.to_bytes(4) + part).ljust(page, b"\0") for at, part in zip(following, rest, strict=True)
    )


@hostile("LZ4", "8,000,000 blocks of one byte that is not compressed", large=True, unread=True)
def lz4_blocks() -> bytes:
    return b"\x04\x22\x4d\x18\x40\x40\xc0" + b"\x01\0\0\x80x" * 8_000_000


@hostile("Snappy", "12,000,000 chunks to skip, each of no bytes", large=True, unread=True)
def snappy_chunks() -> bytes:
    return b"\xff\x06\0\0sNaPpY" + b"\xfe\0\0\0" * 12_000_000


@hostile_with_leak("event stream", "names of 500 kB over 30,000 fields, and the leak")
def event_stream_names(leak: bytes) -> bytes:
    key = b'"' + b"k" * 250_000 + b'":{'
    fields = b",".join(b'"a%d":"x"' % index for index in range(30_000))
    return (b"data: {" + key + key + fields + b"}}}\n") * 2 + b"data: " + leak


@hostile("WOFF2", "a directory of numbers without an end, 48 MB", large=True)
def woff_numbers() -> bytes:
    return b"wOF2" + bytes(8) + b"\xff\xff" + bytes(34) + b"\x80" * (48 * MIB)

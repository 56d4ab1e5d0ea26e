"""Reader of the streams of PDF files; fonts with their own glyph numbers and encrypted files stay closed."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

from scanner.detection.compressed import zlib_stream
from scanner.detection.limits import Meter
from scanner.detection.members import Container, Member, UnreadableError, read_up_to, whole

_STREAM = re.compile(rb"(?<!end)stream(?:\r\n|\n|\r)")
_FILTERS = re.compile(rb"/(?:Filter|F)\s*(\[[^\]]{0,200}\]|/\w{1,30})")
_NAME = re.compile(rb"/(\w+)")
_KERNING = re.compile(rb"\)\s{0,8}(?:-?[0-9.]{1,12})?\s{0,8}\(|>\s{0,8}(?:-?[0-9.]{1,12})?\s{0,8}<")
_DICTIONARY = 2048
_OPAQUE = frozenset((b"DCTDecode", b"DCT", b"JPXDecode", b"CCITTFaxDecode", b"CCF", b"JBIG2Decode"))


def pdf_members(container: Container) -> Iterator[Member]:
    """Every stream, its filters undone, and text that kerning splits put together again."""
    content = whole(container)
    if b"/Encrypt" in content:
        raise UnreadableError("encrypted")
    at = 0
    number = 0
    while match := _STREAM.search(content, at):
        container.meter.enter()
        number += 1
        begin = match.end()
        end = content.find(b"endstream", begin)
        at = end if end >= 0 else len(content)
        before = content[max(0, match.start() - _DICTIONARY) : match.start()]
        before = before[before.rfind(b" obj") + 1 :]
        filters = _filters(before)
        if not filters or _OPAQUE.intersection(filters):
            continue
        decoded = _decoded(content[begin:at], filters, container.meter)
        if decoded is None:
            container.meter.note("pdf_filter")
            continue
        name = f"stream {number}"
        yield Member(name, decoded)
        joined = _KERNING.sub(b"", decoded) if b"TJ" in decoded else decoded
        if joined != decoded:
            yield Member(name, joined)


def _filters(dictionary: bytes) -> list[bytes]:
    match = _FILTERS.search(dictionary)
    return _NAME.findall(match[1]) if match else []


def _decoded(raw: bytes, filters: list[bytes], meter: Meter) -> bytes | None:
    """The stream without its filters, None if one of them is not known here."""
    for name in filters:
        if name in (b"FlateDecode", b"Fl"):
            raw = read_up_to(zlib_stream(Container("", raw, meter)), meter.limits.member_bytes + 1)
            if len(raw) > meter.limits.member_bytes:
                meter.note("member_size")
        elif name in (b"ASCII85Decode", b"A85"):
            raw = _ascii85(raw)
        elif name in (b"ASCIIHexDecode", b"AHx"):
            digits = re.sub(rb"[^0-9A-Fa-f]", b"", raw.partition(b">")[0])
            raw = bytes.fromhex((digits + b"0" * (len(digits) % 2)).decode("ascii"))
        elif name in (b"LZWDecode", b"LZW"):
            raw = _lzw(raw, meter)
        elif name in (b"RunLengthDecode", b"RL"):
            raw = _run_length(raw, meter)
        else:
            return None
    return raw


def _ascii85(raw: bytes) -> bytes:
    body = re.sub(rb"[^!-uz]", b"", raw.partition(b"~>")[0])
    try:
        return base64.a85decode(body)
    except ValueError:
        return b""


def _run_length(raw: bytes, meter: Meter) -> bytes:
    pieces = []
    at = 0
    while at < len(raw) and raw[at] != 128:
        length = raw[at]
        literal = length < 128
        pieces.append(raw[at + 1 : at + 2 + length] if literal else raw[at + 1 : at + 2] * (257 - length))
        meter.take(len(pieces[-1]))
        at += 2 + length if literal else 2
    return b"".join(pieces)


def _lzw(raw: bytes, meter: Meter) -> bytes:
    """LZW as in PDF 32000-1, 7.4.4: codes of 9 to 12 bits, 256 clears, 257 ends, widths change one code early."""
    table: list[bytes] = []
    pieces: list[bytes] = []
    previous = b""
    bits = width = 0
    size = 9
    for byte in raw:
        bits = ((bits << 8) | byte) & 0xFFFFFF
        width += 8
        if width < size:
            continue
        width -= size
        code = (bits >> width) & ((1 << size) - 1)
        if code == 257:
            break
        if code == 256:
            table, previous, size = [], b"", 9
            continue
        if code < 256:
            entry = bytes((code,))
        elif code - 258 < len(table):
            entry = table[code - 258]
        elif previous and code - 258 == len(table):
            entry = previous + previous[:1]
        else:
            break
        if previous and len(table) < 4096 - 258:
            table.append(previous + entry[:1])
        size = 9 + sum(len(table) + 259 >= edge for edge in (512, 1024, 2048))
        meter.take(len(entry))
        pieces.append(entry)
        previous = entry
    return b"".join(pieces)

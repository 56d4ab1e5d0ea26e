"""Decoders of the filters (encodings and compressions) of PDF streams (ISO 32000-1, 7.4)."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator

from scanner.detection.containers.compressed import zlib_stream
from scanner.detection.containers.members import Container, Readable
from scanner.detection.limits import Meter

_CHUNK = 64 << 10
# Read run-length encoded data in pieces that decode to at most 256 kB. Two bytes decode to at most 128.
_RUNS_CHUNK = 4 << 10
_NO_ASCII85 = re.compile(rb"[^!-uz]+")
_ZEROS = re.compile(rb"(z+)")
_DIGITS = bytes(max(0, letter - 33) for letter in range(256))
_NO_HEX = re.compile(rb"[^0-9A-Fa-f]+")
_MAX_FILTERS = 8

OPAQUE = frozenset((b"DCTDecode", b"DCT", b"JPXDecode", b"CCITTFaxDecode", b"CCF", b"JBIG2Decode"))
"""The PDF filters for pictures. They are not decoded."""


def undone(stream: Readable, filters: list[bytes], meter: Meter) -> Readable | None:
    """Return a stream that undoes the filters of `stream`, or None if a filter is unknown or there are too many."""
    if len(filters) > _MAX_FILTERS:
        return None
    for name in filters:
        if name in (b"FlateDecode", b"Fl"):
            stream = zlib_stream(Container("", stream, meter))
        elif name in _PIECEWISE:
            stream = _Decoded(_PIECEWISE[name](stream, meter), meter)
        elif name != b"Crypt":
            return None
    return stream


class _Decoded:
    """A stream of the bytes that a decoder yields."""

    def __init__(self, pieces: Iterator[bytes], meter: Meter) -> None:
        self._pieces = pieces
        self._meter = meter
        self._ready = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        while not self._ready:
            piece = next(self._pieces, None)
            if piece is None:
                return b""
            self._meter.take(len(piece))
            self._ready = memoryview(piece)
        piece, self._ready = bytes(self._ready[:size]), self._ready[size:]
        return piece


def _ascii85(stream: Readable, meter: Meter) -> Iterator[bytes]:
    """Yield the bytes that are encoded in ASCII85."""
    held = b""
    ended = False
    while not ended and (chunk := stream.read(_CHUNK)):
        body, tilde, _rest = chunk.partition(b"~")
        ended = bool(tilde)
        held += _NO_ASCII85.sub(b"", body)
        # A `z` occurs only between groups of five letters, so the letters before a `z` are whole groups.
        whole, held = _whole_groups(held)
        yield from _groups(whole, meter)
    if held:
        yield from _groups(held, meter)


def _whole_groups(letters: bytes) -> tuple[bytes, bytes]:
    """Split ASCII85 letters into the complete groups of five and the rest."""
    last = letters.rfind(b"z") + 1
    end = len(letters) - (len(letters) - last) % 5
    return letters[:end], letters[end:]


def _groups(letters: bytes, meter: Meter) -> Iterator[bytes]:
    """Yield the bytes that groups of five ASCII85 letters encode. Stop at an invalid group."""
    pieces: list[bytes] = []
    for part in _ZEROS.split(letters):
        if part.startswith(b"z"):
            pieces.append(bytes(4 * len(part)))
            continue
        missing = -len(part) % 5
        digits = iter((part + b"u" * missing).translate(_DIGITS))
        numbers = [
            a * 52_200_625 + b * 614_125 + c * 7_225 + d * 85 + e
            for a, b, c, d, e in zip(digits, digits, digits, digits, digits, strict=True)
        ]
        meter.step(1 + len(numbers))
        if max(numbers, default=0) >= 1 << 32:
            break
        decoded = struct.pack(f">{len(numbers)}I", *numbers)
        pieces.append(decoded[: len(decoded) - missing])
    yield b"".join(pieces)


def _ascii_hex(stream: Readable, _: Meter) -> Iterator[bytes]:
    held = b""
    ended = False
    while not ended and (chunk := stream.read(_CHUNK)):
        body, end, _rest = chunk.partition(b">")
        ended = bool(end)
        held += _NO_HEX.sub(b"", body)
        even = len(held) & ~1
        yield bytes.fromhex(held[:even].decode("ascii"))
        held = held[even:]
    if held:
        yield bytes.fromhex((held + b"0").decode("ascii"))


def _run_length(stream: Readable, meter: Meter) -> Iterator[bytes]:
    buffer, at = b"", 0
    ended = False
    while not ended:
        chunk = stream.read(_RUNS_CHUNK)
        buffer, at = buffer[at:] + chunk, 0
        # A run has at most 129 encoded bytes, so a run that begins at `last` or before is complete.
        last = len(buffer) - 129 if chunk else len(buffer) - 1
        pieces: list[bytes] = []
        while at <= last:
            length = buffer[at]
            if length == 128:
                break
            literal = length < 128
            pieces.append(buffer[at + 1 : at + 2 + length] if literal else buffer[at + 1 : at + 2] * (257 - length))
            at += 2 + length if literal else 2
        meter.step(len(pieces))
        ended = not chunk or (at <= last and buffer[at] == 128)
        yield b"".join(pieces)


def _lzw(stream: Readable, meter: Meter) -> Iterator[bytes]:
    """Yield the decoded bytes of LZW codes of 9 to 12 bits (ISO 32000-1, 7.4.4)."""
    table: list[bytes] = []
    pieces: list[bytes] = []
    previous = b""
    bits = width = held = 0
    size = 9
    while chunk := stream.read(_CHUNK):
        meter.step(len(chunk))
        for byte in chunk:
            bits = ((bits << 8) | byte) & 0xFFFFFF
            width += 8
            if width < size:
                continue
            width -= size
            code = (bits >> width) & ((1 << size) - 1)
            if code == 256:
                table, previous, size = [], b"", 9
                continue
            entry = _entry(code, table, previous)
            if entry is None:
                yield b"".join(pieces)
                return
            if previous and len(table) < 4096 - 258:
                table.append(previous + entry[:1])
                size = min(12, (len(table) + 259).bit_length())
            pieces.append(entry)
            held += len(entry)
            previous = entry
            if held >= _CHUNK:
                yield b"".join(pieces)
                pieces, held = [], 0
    yield b"".join(pieces)


def _entry(code: int, table: list[bytes], previous: bytes) -> bytes | None:
    """Return the string that an LZW code stands for, or None if the code is invalid."""
    if code < 256:
        return bytes((code,))
    if 0 <= code - 258 < len(table):
        return table[code - 258]
    if previous and code - 258 == len(table):
        return previous + previous[:1]
    return None


_PIECEWISE: dict[bytes, Callable[[Readable, Meter], Iterator[bytes]]] = {
    b"ASCII85Decode": _ascii85,
    b"A85": _ascii85,
    b"ASCIIHexDecode": _ascii_hex,
    b"AHx": _ascii_hex,
    b"LZWDecode": _lzw,
    b"LZW": _lzw,
    b"RunLengthDecode": _run_length,
    b"RL": _run_length,
}

"""Decoder of dumps that show bytes as characters or as octal, decimal or binary numbers, such as `od` and `xxd -b`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from scanner.detection.encodings.encoded_lines import EncodedLines
from scanner.detection.encodings.hex_dumps import begins_whole_dump, whole_dumps_at
from scanner.detection.limits import Meter
from scanner.detection.patterns.needles import DUMP_OFFSETS, WHOLE_DUMP_OFFSET

MAX_DUMP_BYTES = 16 << 20
"""The maximum number of letters of one dump that are decoded."""

_MAX_LINE = 256
_FIELD = 4
"""The width of one character in the output of `od -c`."""
_LINE = re.compile(rb"[0-9A-Fa-f]{7,8}:?(?=[ \t])")
_FIRST_LINE = re.compile(rb"0{7,8}:?[ \t]")
_OTHER_FORMAT = re.compile(rb" {7}")
_MAX_FORMATS = 4
_LINE_STEPS, _STEPS_PER_LETTER, _STEPS_PER_FIELD = 200, 5, 40
"""The work counted for a line of a dump, for each letter in it, and for each number."""
_AFTER_OFFSET = (b":", b" ", b"\t", b"|", b"\xe2")
"""The bytes that may follow an offset. The last one begins a thin vertical line."""
_END = re.compile(rb"(?:[0-9A-Fa-f]{7,8}|\*)[ \t\r]*+$")
_Parser = Callable[[bytes], bytes]


class _Numbers(NamedTuple):
    """The way in which one kind of dump writes its numbers."""

    field: re.Pattern[bytes]
    base: int
    size: int = 1

    def bytes_of(self, line: bytes) -> bytes:
        """Return the bytes that the numbers in a line of a dump stand for. The line's offset is already removed."""
        found = b""
        for field in line.split():
            value = int(field, self.base) if self.field.fullmatch(field) else -1
            if value < 0 or value >> 8 * self.size:
                break
            found += value.to_bytes(self.size, "little")
        return found


def _characters(line: bytes) -> bytes:
    """Return the bytes that a line of `od -c` or `od -a` shows. The line's offset is already removed."""
    fields = (line[at : at + _FIELD].strip() for at in range(0, len(line.rstrip(b"\r")), _FIELD))
    # A field of several letters, such as `\n`, is no character of a token. Return a zero byte for it.
    return bytes(field[0] if len(field) == 1 else 0 if field else 0x20 for field in fields)


_HEXADECIMAL: tuple[_Parser, ...] = (
    _Numbers(re.compile(rb"[0-9a-f]{2}"), 16).bytes_of,
    _Numbers(re.compile(rb"[0-9a-f]{4}"), 16, 2).bytes_of,
)
"""The parsers of `od -t x1` and `od -x`."""
_PARSERS: tuple[_Parser, ...] = (
    _characters,
    _Numbers(re.compile(rb"[0-3][0-7]{2}"), 8).bytes_of,
    _Numbers(re.compile(rb"[01][0-7]{5}"), 8, 2).bytes_of,
    _Numbers(re.compile(rb"[0-9]{1,3}"), 10).bytes_of,
    _Numbers(re.compile(rb"[0-9]{1,5}"), 10, 2).bytes_of,
    _Numbers(re.compile(rb"[01]{8}"), 2).bytes_of,
)


def dumps_at(content: bytes, second: int, meter: Meter) -> Iterator[EncodedLines]:
    """Decode the dump whose second line begins at `second`. Yield one result for each possible meaning of its numbers,
    such as bytes or two-byte words.
    """
    if content.startswith(WHOLE_DUMP_OFFSET, second):
        if _ends_offset(content, second):
            yield from whole_dumps_at(content, second, meter)
        return
    first = _first_line(content, second)
    for parse in first.parsers if first is not None else ():
        meter.spend(_steps_of(first.line) if first is not None else 0)
        if first is not None and len(parse(first.line)) in _line_lengths(content, second):
            yield _decoded(content, first.begin, parse, meter)


def begins_dump(content: bytes, second: int) -> bool:
    """Return whether the second line of a dump begins at offset `second`."""
    if content.startswith(WHOLE_DUMP_OFFSET, second):
        return _ends_offset(content, second) and begins_whole_dump(content, second)
    first = _first_line(content, second)
    lengths = _line_lengths(content, second)
    return first is not None and any(len(parse(first.line)) in lengths for parse in first.parsers)


def _line_lengths(content: bytes, second: int) -> Sequence[int]:
    """Return the possible numbers of bytes in a line of the dump whose second line begins at offset `second`."""
    return next((lengths for offset, lengths in DUMP_OFFSETS.items() if content.startswith(offset, second)), ())


def _ends_offset(content: bytes, second: int) -> bool:
    """Return whether the offset at `second` is not a part of a longer number, as in tables."""
    end = second + len(WHOLE_DUMP_OFFSET)
    return content[end : end + 1] in _AFTER_OFFSET


class _First(NamedTuple):
    """The first line of a dump: its offset in the content, its text, and the parsers that may read it."""

    begin: int
    line: bytes
    parsers: tuple[_Parser, ...]


def _first_line(content: bytes, second: int) -> _First | None:
    """Return the first line of the dump whose second line begins at `second`, or None."""
    end, parsers = second - 1, _PARSERS
    for _ in range(_MAX_FORMATS):
        begin = content.rfind(b"\n", max(0, end - _MAX_LINE), end) + 1
        head = _FIRST_LINE.match(content, begin, end)
        if head is not None and end - begin < _MAX_LINE:
            return _First(begin, content[head.end() - 1 : end], parsers)
        if not begin or _OTHER_FORMAT.match(content, begin, end) is None:
            return None
        end, parsers = begin - 1, (*_HEXADECIMAL, *_PARSERS)
    return None


def _steps_of(line: bytes) -> int:
    """Return the steps of work for which parsing a line of a dump counts."""
    return _STEPS_PER_LETTER * len(line) + _STEPS_PER_FIELD * line.count(b" ")


def _decoded(content: bytes, begin: int, parse: _Parser, meter: Meter) -> EncodedLines:
    pieces: list[bytes] = []
    at, last = begin, min(len(content), begin + MAX_DUMP_BYTES)
    while at < last:
        newline = content.find(b"\n", at, min(last, at + _MAX_LINE))
        end = newline if newline >= 0 else min(last, at + _MAX_LINE)
        line = content[at:end]
        meter.spend(_LINE_STEPS + _steps_of(line))
        offset = _LINE.match(line)
        if offset is not None:
            pieces.append(parse(line[offset.end() :]))
        elif _END.match(line) is not None:
            # An asterisk stands for repeated lines, over which no token continues. Add a zero byte in their place.
            pieces.append(b"\0")
        elif _OTHER_FORMAT.match(line) is None:
            break
        at = end + 1
    return EncodedLines(b"".join(pieces), "number-list", min(at, len(content)), is_cut=at >= begin + MAX_DUMP_BYTES)

"""Decoder of dumps that show each byte as a character or as an octal, decimal or binary number: `od` and `xxd -b`.

The needle for a dump is the offset at the beginning of its second line. So a dump is found whatever bytes it shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from scanner.detection.encodings.encoded_lines import EncodedLines
from scanner.detection.patterns.needles import DUMP_OFFSETS

MAX_DUMP_BYTES = 16 << 20
"""Letters of one dump that are decoded. The rest of a longer dump is not decoded."""

_MAX_LINE = 256
_FIELD = 4
"""Columns of a character in the output of `od -c`."""
_LINE = re.compile(rb"[0-9A-Fa-f]{7,8}:?(?=[ \t])")
_FIRST_LINE = re.compile(rb"0{7,8}:?[ \t]")
_END = re.compile(rb"(?:[0-9A-Fa-f]{7,8}|\*)[ \t\r]*+$")
_Parser = Callable[[bytes], bytes]


class _Numbers(NamedTuple):
    """The way in which one kind of dump writes its numbers.

    Attributes:
        field: The pattern of one number.
        base: The base of the numbers.
        size: The number of bytes that each number stands for. They are in little-endian order, as on nearly all
            machines.
    """

    field: re.Pattern[bytes]
    base: int
    size: int = 1

    def bytes_of(self, line: bytes) -> bytes:
        """Return the bytes of a line whose offset was removed. Stop at the first field that does not match."""
        found = b""
        for field in line.split():
            value = int(field, self.base) if self.field.fullmatch(field) else -1
            if value < 0 or value >> 8 * self.size:
                break
            found += value.to_bytes(self.size, "little")
        return found


def _characters(line: bytes) -> bytes:
    """Return the characters of a line of `od -c` or `od -a` whose offset was removed."""
    fields = (line[at : at + _FIELD].strip() for at in range(0, len(line.rstrip(b"\r")), _FIELD))
    # A field of several letters, such as `\n` or `nul`, is not a character of a token. Return a zero byte for it.
    return bytes(field[0] if len(field) == 1 else 0 if field else 0x20 for field in fields)


_PARSERS: tuple[_Parser, ...] = (
    _characters,
    _Numbers(re.compile(rb"[0-3][0-7]{2}"), 8).bytes_of,
    _Numbers(re.compile(rb"[01][0-7]{5}"), 8, 2).bytes_of,
    _Numbers(re.compile(rb"[0-9]{1,3}"), 10).bytes_of,
    _Numbers(re.compile(rb"[0-9]{1,5}"), 10, 2).bytes_of,
    _Numbers(re.compile(rb"[01]{8}"), 2).bytes_of,
)


def dumps_at(content: bytes, second: int) -> Iterator[EncodedLines]:
    """Yield the decoded dump whose second line begins at `second`, once for each way in which its numbers can be read.

    For example, the same digits may be octal or decimal. The work is linear in the dump's size.
    """
    begin = content.rfind(b"\n", max(0, second - 1 - _MAX_LINE), second - 1) + 1
    head = _FIRST_LINE.match(content, begin, second)
    if head is None or second - begin > _MAX_LINE:
        return
    size = 6 if content.startswith(DUMP_OFFSETS[1], second) else 16
    first = content[head.end() - 1 : second - 1]
    for parse in _PARSERS:
        if len(parse(first)) == size:
            yield _decoded(content, begin, parse)


def begins_dump(content: bytes, second: int) -> bool:
    """Return whether the second line of a dump begins at offset `second`."""
    begin = content.rfind(b"\n", max(0, second - 1 - _MAX_LINE), second - 1) + 1
    head = _FIRST_LINE.match(content, begin, second)
    return head is not None and any(len(parse(content[head.end() - 1 : second - 1])) in (6, 16) for parse in _PARSERS)


def _decoded(content: bytes, begin: int, parse: _Parser) -> EncodedLines:
    pieces: list[bytes] = []
    at, last = begin, min(len(content), begin + MAX_DUMP_BYTES)
    while at < last:
        newline = content.find(b"\n", at, min(last, at + _MAX_LINE))
        end = newline if newline >= 0 else min(last, at + _MAX_LINE)
        line = content[at:end]
        offset = _LINE.match(line)
        if offset is None and _END.match(line) is None:
            break
        # A line without an offset is an asterisk, which stands for repeated lines.
        pieces.append(parse(line[offset.end() :]) if offset is not None else b"\0")
        at = end + 1
    return EncodedLines(b"".join(pieces), "number-list", min(at, len(content)), is_cut=at >= begin + MAX_DUMP_BYTES)

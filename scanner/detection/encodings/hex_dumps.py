"""Search for tokens in hex dumps."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator

import regex

from scanner.detection.encodings.encoded_lines import MAX_BLOCK_BYTES, EncodedLines
from scanner.detection.findings import Finding
from scanner.detection.limits import Meter
from scanner.detection.patterns.token_formats import derived_from_formats, max_token_length
from scanner.detection.patterns.token_patterns import Match, Pattern, plain_matches

MAX_LINE = 256
"""The maximum number of letters to read of each line of a hex dump."""

LINE_STEPS = 1_000
"""Each line of a hex dump counts as this many steps of work. It takes up to eight microseconds."""

_DIGITS = rb"[0-9A-Fa-f]"
_OFFSET = (
    rb"(?:(?:0x)?(?P<offset>%(d)s{4,16}):[ \t]+"
    rb"|[|\xe2\x94\x82]{1,3}(?P<boxed>%(d)s{8})[|\xe2\x94\x82]{1,3}[ \t]+"
    rb"|(?:%(d)s{8}`)?(?:0x)?(?P<wide>%(d)s{6,16})[ \t]+"
    rb"|(?P<short>%(d)s{4,5})(?:[ \t]{2,}|\t|[ ]-[ ]|[ ](?=%(d)s{8}[ ]))"
    rb"|:(?P<record>%(d)s{2})(?P<address>%(d)s{4})00"
    rb"|S(?P<type>[123])(?P<srecord>%(d)s{2})(?:(?<=1..)%(d)s{4}|(?<=2..)%(d)s{6}|(?<=3..)%(d)s{8}))"
) % {b"d": _DIGITS}
# The bytes in a line of a dump. Two spaces, a hyphen or a thin vertical line may be in the middle. `hexdump -x` writes
# four spaces between words.
_WIDE_WORDS = rb"(?:%(d)s{4}[ ]{4}){1,7}+%(d)s{4}(?!\S)[ ]{0,4}+" % {b"d": _DIGITS}
_BYTES = rb"(?P<bytes>" + _WIDE_WORDS + rb"|(?:(?:0x)?" + _DIGITS + rb"{2}(?:[ ]\xe2\x94\x8a[ ]|[ \t]{1,2}|[-:_])?)++)"
_LINE = regex.compile(rb"[ \t]*" + _OFFSET + rb"?" + _BYTES)
# A line of a dump without an offset. The pattern contains the named groups of an offset, because the caller reads them,
# but they never match.
_LINE_WITHOUT_OFFSET = regex.compile(rb"[ \t]*(?:(?!)" + _OFFSET + rb")?" + _BYTES)
# A line of a dump in a log, where other text precedes the line's offset.
_LINE_INSIDE = regex.compile(rb"(?<![0-9A-Fa-f])" + _OFFSET + _BYTES)
_WORD = re.compile(rb"0x(%b{8}(?:%b{8})?)" % (_DIGITS, _DIGITS))
_WORD_ARRAY = regex.compile(_WORD.pattern + rb"(?:[uUlL]{0,3}+,\s{0,40}+" + _WORD.pattern + rb"){2,40}+")
_STEPS_PER_LETTER = 30
"""Each letter that encodes the bytes of a line counts as this many steps of work."""
_NEEDLE_DIGITS = 6
_NO_DIGITS = bytes(byte for byte in range(256) if byte not in b"0123456789abcdefABCDEF")
_FEW_DIGITS = 12
_PAIR = re.compile(_DIGITS + rb"{2}")
_WORDS = tuple(
    (size // 2, regex.compile(rb"(?:(?:0x)?%b{%d}[ \t]++)*+(?:(?:0x)?%b{%d})?+" % (_DIGITS, size, _DIGITS, size)))
    for size in (4, 8, 16)
)
"""For words of 16, 32 and 64 bits: the bytes per word, and the pattern of a line."""


@derived_from_formats
def max_lines() -> int:
    """Return the maximum number of lines of a hex dump that one token takes."""
    return max_token_length() // 8 + 7


class _Block:
    """Consecutive lines of one hex dump: the bytes, and the offset of each byte in the content."""

    def __init__(self) -> None:
        self._digits: list[bytes] = []
        self._words: list[bytes] = []
        self._places: list[int] = []

    def add(self, line: Match, size: int) -> None:
        """Add the first `size` bytes that a line of the dump shows."""
        first = line.start("bytes")
        pairs = [(pair[0], first + pair.start()) for pair in _PAIR.finditer(line["bytes"])][:size]
        here = [pair for pair, _ in pairs]
        self._places += [place for _, place in pairs]
        end = (pairs[-1][1] + 2 - first) if pairs else 0
        digits = line["bytes"][:end]
        self._digits += here
        size = next((count for count, words in _WORDS if words.fullmatch(digits)), 1)
        for at in range(0, len(here), size):
            self._words += reversed(here[at : at + size])

    def findings(self) -> Iterator[Finding]:
        """Yield the tokens in the dumped bytes, in either byte order."""
        orders = [self._digits]
        if self._words != self._digits:
            orders.append(self._words)
        for pairs in orders:
            matches = list(plain_matches(bytes.fromhex(b"".join(pairs).decode("ascii"))))
            for match in matches:
                yield Finding(match[0], self._places[match.start()], self._places[match.end() - 1] + 2, ("hex-list",))
            if matches:
                return


def line_start(content: bytes, start: int) -> int:
    """Return the offset at which the line around `start` begins. In a very long line, return a nearer offset."""
    newline = content.rfind(b"\n", max(0, start - MAX_LINE), start)
    return newline + 1 if newline >= 0 or start < MAX_LINE else start - MAX_LINE // 2


def dump_findings_at(content: bytes, start: int) -> Iterator[Finding]:
    """Yield the tokens in the hex dump around offset `start`, where the digits of a token's prefix begin."""
    line = line_start(content, start)
    before = content.rfind(b"\n", max(0, line - MAX_LINE), max(0, line - 1)) + 1
    # Begin with the previous line, because the token may begin at its end.
    begin = before if content[line - 1 : line] == b"\n" and line - before <= MAX_LINE else line
    following = _line_at(content, line, min(len(content), line + MAX_LINE))
    if following is None or len(following["bytes"]) < _FEW_DIGITS:
        return
    count = max_lines()
    begin, end = max(begin, start - 2 * MAX_LINE), start + MAX_LINE * count
    yield from _found(_lines(content, begin, end, count))
    # If the token begins in what looks like an offset, read the lines again as a dump without offsets. Skip this for a
    # zero, with which most real offsets begin.
    if following.start() <= start < following.start("bytes") and content[start] != ord("0"):
        yield from _found(_lines(content, begin, end, count, _LINE_WITHOUT_OFFSET))


def word_findings_at(content: bytes, start: int) -> Iterator[Finding]:
    """Yield the tokens in a C array of little-endian hexadecimal words, whose first word is around offset `start`."""
    for digits in (8, 16):
        begin = start + _NEEDLE_DIGITS - digits - 2
        words = _WORD_ARRAY.match(content, begin) if begin >= 0 else None
        if words is not None and len(words[1]) == digits:
            pairs = _WORD.findall(words[0])
            text = b"".join(bytes.fromhex(word.decode("ascii"))[::-1] for word in pairs)
            for match in plain_matches(text):
                yield Finding(match[0], begin, words.end(), ("hex-list",))


def dump_findings_in(content: bytes, begin: int, end: int, meter: Meter) -> Iterator[Finding]:
    """Yield the tokens in every hex dump that begins in `content[begin:end]`."""
    first = content.rfind(b"\n", max(0, begin - MAX_LINE), begin) + 1 or begin
    yield from _found(_paid(_lines(content, first, end + MAX_LINE * max_lines(), None), meter))


def whole_dumps_at(content: bytes, second: int, meter: Meter) -> Iterator[EncodedLines]:
    """Yield the decoded bytes of the hex dump whose second line contains offset `second`.

    If the byte order is unknown, yield the bytes in both orders.
    """
    first = _first_line(content, second, meter)
    if first is None:
        return
    digits: list[bytes] = []
    begin = line_start(content, second)
    line: Match | None = first
    at, last = begin, min(len(content), begin + MAX_BLOCK_BYTES)
    while line is not None:
        meter.spend(LINE_STEPS)
        end = content.find(b"\n", at, min(last, at + MAX_LINE))
        following = _line_at(content, at, end if end >= 0 else min(last, at + MAX_LINE)) if at < last else None
        if following is not None and _number(following) <= _number(line):
            following = None
        digits.append(line["bytes"].translate(None, _NO_DIGITS)[: 2 * _size(line, following)])
        line, at = following, end + 1 if end >= 0 else last
    decoded = bytes.fromhex(b"".join(row[: len(row) // 2 * 2] for row in digits).decode("ascii"))
    is_cut = at >= begin + MAX_BLOCK_BYTES
    yield EncodedLines(decoded, "hex-list", min(at, len(content)), is_cut=is_cut)
    size = next((count for count, words in _WORDS if words.fullmatch(first["bytes"].rstrip())), 1)
    if size > 1 and next(plain_matches(decoded), None) is None:
        words = array({2: "H", 4: "I", 8: "Q"}[size], decoded.ljust(-(-len(decoded) // size) * size, b"\0"))
        words.byteswap()
        yield EncodedLines(words.tobytes(), "hex-list", min(at, len(content)), is_cut=is_cut)


def begins_whole_dump(content: bytes, second: int) -> bool:
    """Return whether the line that contains offset `second` is the second line of a hex dump."""
    return _first_line(content, second) is not None


def _first_line(content: bytes, second: int, meter: Meter | None = None) -> Match | None:
    """Return the first line of the hex dump whose second line contains `second`, or None."""
    line = line_start(content, second)
    if content[line - 1 : line] != b"\n":
        return None
    before = content.rfind(b"\n", max(0, line - MAX_LINE), line - 1) + 1
    # The offset in the first line must be zero, in at least four digits.
    if content.find(b"0000", before, line) < 0:
        return None
    if meter is not None:
        meter.spend(2 * LINE_STEPS)
    first = _line_at(content, before, line)
    following = _line_at(content, line, min(len(content), line + MAX_LINE)) if first is not None else None
    are_first = first is not None and following is not None and (_number(first), _number(following)) == (0, 16)
    return first if are_first else None


def _number(line: Match) -> int:
    """Return the number at the beginning of a hex dump's line, or -1 if there is none."""
    offset = _offset(line)
    return int(offset, 16) if offset else -1


def _paid(lines: Iterator[Match | None], meter: Meter) -> Iterator[Match | None]:
    for line in lines:
        meter.spend(LINE_STEPS + (_STEPS_PER_LETTER * len(line["bytes"]) if line is not None else 0))
        yield line


def _lines(content: bytes, begin: int, end: int, count: int | None, pattern: Pattern = _LINE) -> Iterator[Match | None]:
    """Yield a match for each line of a hex dump, or None for a line that is not part of one."""
    at, end = begin, min(end, len(content))
    while at < end and count != 0:
        yield _line_at(content, at, min(at + MAX_LINE, end), pattern)
        newline = content.find(b"\n", at, end)
        at = newline + 1 if newline >= 0 else end
        count = count - 1 if count is not None else None


def _line_at(content: bytes, at: int, end: int, pattern: Pattern = _LINE) -> Match | None:
    newline = content.find(b"\n", at, end)
    end = newline if newline >= 0 else end
    line = pattern.match(content, at, end)
    if line is not None and line.end("bytes") == end:
        return line
    inside = _LINE_INSIDE.finditer(content, at, end)
    return max((*inside, *([] if line is None else [line])), key=_byte_letters, default=None)


def _byte_letters(line: Match) -> int:
    return len(line["bytes"])


def _found(lines: Iterator[Match | None]) -> Iterator[Finding]:
    block = _Block()
    last: Match | None = None
    for line in lines:
        if last is not None:
            block.add(last, _size(last, line))
        if line is None and last is not None:
            yield from block.findings()
            block = _Block()
        last = line
    if last is not None:
        block.add(last, MAX_LINE)
    yield from block.findings()


def _size(line: Match, following: Match | None) -> int:
    """Return the maximum number of bytes that a line of a hex dump shows."""
    if line["record"] is not None:
        return int(line["record"], 16)
    if line["srecord"] is not None:
        # An S-record begins with the number of bytes in its address, data and checksum. The address of type N has N + 1
        # bytes.
        return max(0, int(line["srecord"], 16) - int(line["type"]) - 2)
    begin, end = _offset(line), _offset(following) if following is not None else b""
    # `od` and `hexdump` write offsets of seven digits and no text column, so all other digits are bytes.
    if not begin or not end or len(begin) == 7:
        return MAX_LINE
    size = int(end, 16) - int(begin, 16)
    return size if 0 < size <= MAX_LINE else MAX_LINE


def _offset(line: Match) -> bytes:
    return line["offset"] or line["boxed"] or line["wide"] or line["short"] or b""

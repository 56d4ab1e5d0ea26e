"""Reader of the text on a PDF's pages, including text in fonts with their own character codes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import groupby, islice
from typing import NamedTuple

from scanner.detection.limits import Meter
from scanner.detection.patterns.token_formats import min_token_length

# The pattern also matches a string without an end. Otherwise, the search would begin again at each byte of the string.
_TOKEN = re.compile(rb"\((?:[^()\\]++|\\.)*+\)?|<[0-9A-Fa-f\s]*+>?|ET\b", re.DOTALL)
_OPEN, _OPEN_HEX = b"(<"
_STRINGS_A_STEP = 1000
"""The work is counted once for this many strings."""
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|\r\n|.)", re.DOTALL)
_ESCAPED = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f", b"\n": b"", b"\r": b"", b"\r\n": b""}
_NO_HEX = re.compile(rb"\s+")
_MARK = b"\xfe\xff"
_MARKS = (_MARK, rb"\376\377", b"<FEFF", b"<feff")

_CMAP_WIDTH = re.compile(rb"begincodespacerange\s*+<\s*+([0-9A-Fa-f]{2,8})\s*+>")
_CMAP_ITEM = re.compile(rb"<([0-9A-Fa-f\s]{0,256}+)>|(\[)|(\])")
# A valid character map has at most this many entries, because a code has at most 16 bits.
_MAX_CODES = 65_536
_MAX_CMAPS = 64
_MAX_LETTERS = 8
"""At most this many letters are kept for one code. A ligature has three letters."""
_MAX_CODES_OF_ALL = 500_000
"""The maximum number of codes in all character maps of a PDF. So many codes take about 100 MB of memory."""
_MAX_GLYPH_BYTES = 8 << 20


class _CMap(NamedTuple):
    """A map from a PDF font's character codes to characters. `width` is the number of bytes in a code."""

    width: int
    letters: dict[int, str]


class TextOfDocument:
    """The texts of a PDF, and the character maps of its fonts (from codes to characters)."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._cmaps: dict[frozenset[tuple[int, str]], _CMap] = {}
        self._shown: list[tuple[str, list[bytes]]] = []
        self._held = 0
        self._codes = 0

    def read(self, name: str, content: bytes) -> Iterator[bytes]:
        """Add one decoded stream of the PDF, and yield its texts that need no character map of a font."""
        if b"beginbfchar" in content or b"beginbfrange" in content:
            self._add_cmap(content)
            return
        shows = b"Tj" in content or b"TJ" in content
        if not shows and not any(mark in content for mark in _MARKS):
            return
        strings = _strings(content, self._meter)
        yield from _in_utf16(strings)
        if shows:
            yield b"".join(strings)
            self._held += sum(map(len, strings))
            if self._held > _MAX_GLYPH_BYTES:
                self._meter.note("member_size")
            else:
                self._shown.append((name, strings))

    def texts_by_maps(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and text of each stream, decoded with each font's character map in turn.

        Call this after all streams were added.
        """
        for name, strings in self._shown:
            for cmap in self._cmaps.values():
                self._meter.step(len(strings))
                text = _by_map(strings, cmap).encode("utf-8", "replace")
                self._meter.take(len(text))
                yield name, text

    def _add_cmap(self, content: bytes) -> None:
        if len(self._cmaps) >= _MAX_CMAPS:
            self._meter.note("entries")
            return
        width = _CMAP_WIDTH.search(content)
        letters: dict[int, str] = {}
        at = content.find(b"beginbf")
        while at >= 0 and (end := content.find(b"endbf", at)) >= 0:
            items = list(_CMAP_ITEM.finditer(content, at, end))
            self._meter.step(len(items))
            is_of_characters = content.startswith(b"beginbfchar", at)
            found = _characters(items) if is_of_characters else _ranges(items, self._meter)
            letters.update(islice(found, _MAX_CODES - len(letters)))
            at = content.find(b"beginbf", end)
        self._codes += len(letters)
        if self._codes > _MAX_CODES_OF_ALL:
            self._meter.note("entries")
            return
        self._cmaps[frozenset(letters.items())] = _CMap(len(width[1]) // 2 if width else 2, letters)


def _strings(content: bytes, meter: Meter) -> list[bytes]:
    """Return the strings of a PDF stream in order, with a line feed after each text object."""
    strings: list[bytes] = []
    escapes = paid = 0
    for token in _TOKEN.finditer(content):
        text = token[0]
        if text[0] == _OPEN:
            body = text[1:].removesuffix(b")")
            if b"\\" in body:
                escapes += body.count(b"\\")
                body = _ESCAPE.sub(_unescaped, body)
            strings.append(body)
        elif text[0] == _OPEN_HEX:
            digits = text[1:].translate(None, b"> \t\r\n\f\v")
            if digits:
                strings.append(bytes.fromhex((digits + b"0" * (len(digits) % 2)).decode("ascii")))
        else:
            strings.append(b"\n")
        if escapes + len(strings) - paid > _STRINGS_A_STEP:
            meter.step(escapes + len(strings) - paid)
            paid = escapes + len(strings)
    meter.step(escapes + len(strings) - paid)
    return strings


def _unescaped(escape: re.Match[bytes]) -> bytes:
    letter = escape[1]
    if letter[:1].isdigit() and letter[0] < 0x38:
        return bytes((int(letter, 8) & 255,))
    return _ESCAPED.get(letter, letter)


def _in_utf16(strings: list[bytes]) -> Iterator[bytes]:
    for string in strings:
        if string.startswith(_MARK) and len(string) > 2 * min_token_length():
            yield string[2:].decode("utf-16-be", "replace").encode("utf-8", "replace")


def _by_map(strings: list[bytes], cmap: _CMap) -> str:
    # Decode the strings of a line together, because decoding each separately would take several times as long.
    if cmap.width == 2:
        strings = [codes if len(codes) % 2 == 0 else _whole_codes(codes) for codes in strings]
    lines = (b"".join(line) for is_end, line in groupby(strings, b"\n".__eq__) if not is_end)
    return "\n".join(_mapped(line, cmap) for line in lines)


def _whole_codes(codes: bytes) -> bytes:
    """Replace an incomplete two-byte code at the end by U+FFFD. Return a single line feed unchanged."""
    return codes if codes == b"\n" else codes[:-1] + b"\xff\xfd"


def _mapped(codes: bytes, cmap: _CMap) -> str:
    return codes.decode("utf-16-be" if cmap.width == 2 else "latin-1", "replace").translate(cmap.letters)


def _characters(items: list[re.Match[bytes]]) -> Iterator[tuple[int, str]]:
    codes = [item[1] for item in items if item[1]]
    for code, letter in zip(codes[::2], codes[1::2], strict=False):
        yield _number(code), _letters(letter)


def _ranges(items: list[re.Match[bytes]], meter: Meter) -> Iterator[tuple[int, str]]:
    at = 0
    while at + 2 < len(items):
        first, last, target = (item[1] for item in items[at : at + 3])
        at += 3
        if first is None or last is None:
            return
        count = _number(last) - _number(first) + 1
        # Count this work, because a hostile map may repeat the same codes many times.
        meter.step(max(count, 0))
        if target is not None:
            text = _letters(target)
            # Successive codes stand for texts whose last character counts up, such as AB1, AB2 and AB3. Stop at the
            # last character of Unicode.
            most = sys.maxunicode + 1 - ord(text[-1]) if text else 0
            for step in range(min(count, most)):
                yield _number(first) + step, text[:-1] + chr(ord(text[-1]) + step)
            continue
        step = 0
        while at < len(items) and items[at][3] is None:
            if step < count and items[at][1] is not None:
                yield _number(first) + step, _letters(items[at][1])
            step += 1
            at += 1
        at += 1


def _number(digits: bytes) -> int:
    return int(_NO_HEX.sub(b"", digits) or b"0", 16) & 0xFFFF


def _letters(digits: bytes) -> str:
    digits = _NO_HEX.sub(b"", digits)
    code = bytes.fromhex((digits + b"0" * (len(digits) % 2)).decode("ascii"))
    return code.decode("utf-16-be", "replace")[:_MAX_LETTERS] if len(code) > 1 else code.decode("latin-1")

"""Reader of the streams of PDF files; fonts with their own glyph numbers and encrypted files stay closed."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator

from scanner.detection.members import Bounded, Chained, Container, Member, UnreadableError, read_up_to, whole
from scanner.detection.pdf_filters import OPAQUE, undone

_STREAM = re.compile(rb"(?<!end)stream(?:\r\n|\n|\r)")
_FILTERS = re.compile(rb"/(?:Filter|F)\s*(\[[^\]]{0,200}\]|/\w{1,30})")
_NAME = re.compile(rb"/(\w+)")
_KERNING = re.compile(rb"\)\s{0,8}(?:-?[0-9.]{1,12})?\s{0,8}\(|>\s{0,8}(?:-?[0-9.]{1,12})?\s{0,8}<")
_DICTIONARY = 2048
# The text of a page is far smaller. Larger streams are pictures and fonts, in which no text is put together.
_MAX_TEXT_BYTES = 4 << 20


def pdf_members(container: Container) -> Iterator[Member]:
    """Every stream, its filters undone, and text that kerning splits put together again."""
    content = whole(container)
    if b"/Encrypt" in content:
        raise UnreadableError("encrypted")
    at = 0
    number = last = 0
    while match := _STREAM.search(content, at):
        container.meter.enter()
        number += 1
        begin = match.end()
        end = content.find(b"endstream", begin)
        at = end if end >= 0 else len(content)
        # Never beyond the last stream: the dictionary of one would be read again for the next ones.
        before = content[max(last, match.start() - _DICTIONARY) : match.start()]
        last = at
        before = before[before.rfind(b" obj") + 1 :]
        filters = _filters(before)
        if not filters or OPAQUE.intersection(filters):
            continue
        source = io.BytesIO(content)
        source.seek(begin)
        stream = undone(Bounded(source, at - begin), filters, container.meter)
        if stream is None:
            container.meter.note("pdf_filter")
            continue
        name = f"stream {number}"
        decoded = read_up_to(stream, _MAX_TEXT_BYTES)
        if len(decoded) == _MAX_TEXT_BYTES:
            yield Member(name, Chained(decoded, stream))
            continue
        yield Member(name, decoded)
        joined = _KERNING.sub(b"", decoded) if b"TJ" in decoded else decoded
        if joined != decoded:
            yield Member(name, joined)


def _filters(dictionary: bytes) -> list[bytes]:
    match = _FILTERS.search(dictionary)
    return _NAME.findall(match[1]) if match else []

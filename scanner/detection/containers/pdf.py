"""Reader of PDF files: their streams, and the text on their pages. PDFs that need a password are not read."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from scanner.detection.containers.members import Bounded, Chained, Container, Member, Readable, read_up_to, whole
from scanner.detection.containers.pdf_filters import OPAQUE, undone
from scanner.detection.containers.pdf_text import TextOfDocument

if TYPE_CHECKING:
    from scanner.detection.containers.pdf_encryption import Decryption

_STREAM = re.compile(rb"(?<!end)stream(?:\r\n|\n|\r)")
_FILTERS = re.compile(rb"/(?:Filter|F)\s*(\[[^\]]{0,200}\]|/\w{1,30})")
_NAME = re.compile(rb"/(\w+)")
_IMAGE = re.compile(rb"/Subtype\s*/Image\b")
_DICTIONARY = 2048
# Only PDF streams below this size are searched for text. Larger streams are pictures and fonts.
_MAX_TEXT_BYTES = 4 << 20


def pdf_members(container: Container) -> Iterator[Member]:
    """Yield the decoded streams of a PDF, and the text that each stream shows on a page."""
    content = whole(container)
    decryption = _decryption(content)
    meter = container.meter
    texts = TextOfDocument(meter)
    for number, (dictionary, begin, end) in enumerate(_streams(content), 1):
        meter.enter()
        header = dictionary[dictionary.rfind(b" obj") + 1 :]
        filters = _filters(header)
        if OPAQUE.intersection(filters):
            continue
        source = io.BytesIO(content)
        source.seek(begin)
        raw: Readable = Bounded(source, end - begin)
        if decryption is not None:
            raw = decryption.opened(raw, dictionary)
        stream = undone(raw, filters, meter)
        if stream is None:
            meter.note("pdf_filter")
            continue
        name = f"stream {number}"
        decoded = read_up_to(stream, _MAX_TEXT_BYTES)
        if len(decoded) == _MAX_TEXT_BYTES:
            if filters:
                yield Member(name, Chained(decoded, stream))
            continue
        if filters:
            yield Member(name, decoded)
        # Do not search the pixels of a picture for text, because that would take most of the time.
        for text in texts.read(name, decoded) if _IMAGE.search(header) is None else ():
            yield Member(name, text)
    for name, text in texts.texts_by_maps():
        yield Member(name, text)


def _decryption(content: bytes) -> Decryption | None:
    """Return the key and method to decrypt the document's streams, or None if they are not encrypted.

    Raises:
        UnreadableError: the document needs a password.
    """
    if b"/Encrypt" not in content:
        return None
    from scanner.detection.containers.pdf_encryption import decryption_of

    return decryption_of(content)


def _streams(content: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield, for each stream that is not empty, the bytes before it and its start and end offsets."""
    at = last = 0
    while match := _STREAM.search(content, at):
        begin = match.end()
        end = content.find(b"endstream", begin)
        at = end if end >= 0 else len(content)
        # The stream's dictionary (its properties) is before the stream, but after the end of the previous stream.
        before = content[max(last, match.start() - _DICTIONARY) : match.start()]
        last = at
        if at - begin > 2 or content[begin:at].strip():
            yield before, begin, at


def _filters(dictionary: bytes) -> list[bytes]:
    match = _FILTERS.search(dictionary)
    return _NAME.findall(match[1]) if match else []

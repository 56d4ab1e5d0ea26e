"""Reader of the text chunks of PNG pictures (tEXt, zTXt, iTXt, eXIf)."""

from __future__ import annotations

from collections.abc import Iterator

from scanner.detection.containers.compressed import zlib_stream
from scanner.detection.containers.members import (
    Bounded,
    Container,
    Member,
    UnreadableError,
    read_up_to,
    readable,
    shown_name,
)
from scanner.detection.containers.picture_runs import PNG, TEXTS


def png_members(container: Container) -> Iterator[Member]:
    """Yield each text chunk. The member's name is the chunk's type and keyword."""
    stream = readable(container.source)
    if read_up_to(stream, 8) != PNG:
        raise UnreadableError("damaged")
    while header := read_up_to(stream, 8):
        if len(header) < 8:
            raise UnreadableError("damaged")
        part = Bounded(stream, int.from_bytes(header[:4], "big"))
        if header[4:] in TEXTS:
            container.meter.enter()
            chunk = read_up_to(part, container.meter.limits.member_bytes)
            if part.left:
                container.meter.note("member_size")
            yield _text_member(container, header[4:], chunk)
        if header[4:] == b"IEND":
            return  # bytes after the picture, often a line break, are not a chunk
        part.skip()
        read_up_to(stream, 4)


def _text_member(container: Container, kind: bytes, chunk: bytes) -> Member:
    keyword, _, text = chunk.partition(b"\0")
    name = f"{kind.decode('ascii')}:{shown_name(keyword[:79])}"
    compressed = kind in (b"zTXt", b"iCCP")
    text = text[1:] if compressed else text
    if kind == b"iTXt":
        compressed = text[:1] == b"\1"
        text = text[2:].partition(b"\0")[2].partition(b"\0")[2]
    if kind == b"eXIf":
        return Member(kind.decode("ascii"), chunk)
    if compressed:
        return Member(name, zlib_stream(Container(name, text, container.meter)))
    return Member(name, text)

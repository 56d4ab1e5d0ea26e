"""What a container is made of, and how its readers say what they could not read. No format is known here."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from scanner.detection.limits import Meter


class Readable(Protocol):
    """Bytes that come piece by piece, forwards only."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, fewer only before the end; empty at the end."""


Source = bytes | Readable


class Member(NamedTuple):
    """One part of a container. `source` may be read until the next member is asked for.

    `encoding`: the encoding that was undone to get it, for parts that are no file of their own (a compressed stream).
    `text_of_markup`: XML whose text should be read a second time without its tags.
    """

    name: str
    source: Source
    encoding: str = ""
    text_of_markup: bool = False


class Container(NamedTuple):
    """A container's bytes, the name it goes by, and the meter its reader pays."""

    name: str
    source: Source
    meter: Meter


Reader = Callable[[Container], Iterator[Member]]


class UnreadableError(Exception):
    """The rest of a container cannot be read; `reason` is counted in `ScanResult.unread`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Chained:
    """What was already read of a source, and then the rest of it."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = io.BytesIO(head)
        self._rest = rest

    def read(self, size: int, /) -> bytes:
        head = self._head.read(size)
        return head if len(head) == size else head + self._rest.read(size - len(head))


class Bounded:
    """The next `size` bytes of a stream; `left` of them are not read yet."""

    def __init__(self, stream: Readable, size: int) -> None:
        self._stream = stream
        self.left = size

    def read(self, size: int, /) -> bytes:
        piece = self._stream.read(min(size, self.left))
        self.left -= len(piece)
        return piece

    def skip(self) -> None:
        """Goes past what nobody has read; stops where the stream does."""
        while self.left and self.read(1 << 20):
            continue


class Paid:
    """A stream whose bytes are paid for as they come."""

    def __init__(self, meter: Meter, stream: Readable) -> None:
        self._meter = meter
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        piece = self._stream.read(size)
        self._meter.take(len(piece))
        return piece


def readable(source: Source) -> Readable:
    """The source as a stream (bytes are not copied)."""
    return io.BytesIO(source) if isinstance(source, bytes) else source


def whole(container: Container) -> bytes:
    """All bytes of the container. Raises UnreadableError if they are more than one member may have."""
    if isinstance(container.source, bytes):
        return container.source
    most = container.meter.limits.member_bytes
    content = read_up_to(container.source, most + 1)
    if len(content) > most:
        raise UnreadableError("member_size")
    return content


def read_up_to(stream: Readable, size: int) -> bytes:
    """`size` bytes, fewer only at the end of the stream."""
    pieces: list[bytes] = []
    missing = size
    while missing:
        piece = stream.read(missing)
        if not piece:
            break
        pieces.append(piece)
        missing -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def shown_name(name: str | bytes) -> str:
    """A member's name as text: nothing fails on odd bytes, control characters become spaces, 300 characters at most."""
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(letter if letter.isprintable() else " " for letter in text[:300])

"""The types that all readers of containers (archives and compressed files) share."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from scanner.detection.limits import Meter


class Readable(Protocol):
    """A stream of bytes that is read forwards only."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes. Return no bytes at the end of the stream."""


Source = bytes | Readable


class Member(NamedTuple):
    """One part of a container, such as a file in an archive.

    Attributes:
        source: The bytes, or a stream that must be read before the next member is requested.
        encoding: What the reader has undone, such as `gzip`, or empty.
        text_of_markup: Whether to scan the part a second time without its XML tags.
    """

    name: str
    source: Source
    encoding: str = ""
    text_of_markup: bool = False


class Container(NamedTuple):
    """A file that contains other files or compressed data. `meter` limits the work of reading it."""

    name: str
    source: Source
    meter: Meter


Reader = Callable[[Container], Iterator[Member]]


class UnreadableError(Exception):
    """The rest of a container cannot be read. `reason` says why, for example `damaged`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Chained:
    """A stream that first returns the given bytes, and then the rest of another stream."""

    def __init__(self, head: bytes, rest: Readable) -> None:
        self._head = io.BytesIO(head)
        self._rest = rest

    def read(self, size: int, /) -> bytes:
        head = self._head.read(size)
        return head if len(head) == size else head + self._rest.read(size - len(head))


class Bounded:
    """A stream of the next `size` bytes of another stream. `left` is the number of bytes that are not read yet."""

    def __init__(self, stream: Readable, size: int) -> None:
        self._stream = stream
        self.left = size

    def read(self, size: int, /) -> bytes:
        piece = self._stream.read(min(size, self.left))
        self.left -= len(piece)
        return piece

    def skip(self) -> None:
        """Skip the remaining bytes, or fewer if the stream ends earlier."""
        while self.left and self.read(1 << 20):
            continue


class Paid:
    """A stream that reads another stream and counts the bytes, to limit the work of the scan."""

    def __init__(self, meter: Meter, stream: Readable) -> None:
        self._meter = meter
        self._stream = stream

    def read(self, size: int, /) -> bytes:
        piece = self._stream.read(size)
        self._meter.take(len(piece))
        return piece


def readable(source: Source) -> Readable:
    """Return the source as a stream, without copying bytes."""
    return io.BytesIO(source) if isinstance(source, bytes) else source


def whole(container: Container) -> bytes:
    """Return all bytes of the container.

    Raises:
        UnreadableError: the container is too large.
    """
    if isinstance(container.source, bytes):
        return container.source
    most = container.meter.limits.member_bytes
    content = read_up_to(container.source, most + 1)
    if len(content) > most:
        raise UnreadableError("member_size")
    return content


def read_up_to(stream: Readable, size: int) -> bytes:
    """Read and return `size` bytes of the stream. Return fewer bytes only at the end of the stream."""
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
    """Return a member's name as text of at most 300 characters.

    Replace invalid bytes, and control characters.
    """
    text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(letter if letter.isprintable() else " " for letter in text[:300])

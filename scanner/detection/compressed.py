"""Readers of single compressed streams: gzip, zlib, bzip2, xz, zstd. They give no more than is asked for."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from scanner.detection.members import Container, Member, Readable, readable

_CHUNK = 64 << 10
_STEP = 256 << 10
_XZ_MEMORY = 96 << 20
_SUFFIX = re.compile(r"\.(?:gz|gzip|bz2|xz|lzma|zst|zstd|Z)$", re.IGNORECASE)
_SHORT_TAR = re.compile(r"\.(?:tgz|tbz2?|txz|tzst)$", re.IGNORECASE)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zlib:
    """zlib's decompressor with the interface of bz2's and lzma's."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits)
        self._tail = b""

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class Inflated:
    """The decompressed bytes of a source, paid for as they come.

    A damaged or cut stream ends where it breaks, and is counted.
    """

    def __init__(
        self,
        container: Container,
        make: Callable[[], _Decompressor],
        errors: tuple[type[Exception], ...],
        *,
        single: bool = False,
    ) -> None:
        """`single`: what follows the end of the stream is none of its business."""
        self._source: Readable = readable(container.source)
        self._meter = container.meter
        self._make = make
        self._errors = errors
        self._single = single
        self._current = make()
        self._pending = b""
        self._started = False
        self._ended = False
        self._ready = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        pieces: list[bytes] = []
        missing = size
        while missing > 0:
            if not self._ready:
                if self._ended:
                    break
                # Never in smaller steps: each copies the input that is left.
                piece = self._more(_STEP)
                self._ready = memoryview(piece)
                self._meter.take(len(piece))
                continue
            pieces.append(bytes(self._ready[:missing]))
            self._ready = self._ready[missing:]
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def _more(self, size: int) -> bytes:
        if self._current.eof:
            return self._next_stream()
        data = self._pending
        if not data and getattr(self._current, "needs_input", True):
            data = self._source.read(_CHUNK)
            if not data:
                self._ended = True
                self._meter.note("damaged")
                return b""
        self._pending = b""
        try:
            return self._current.decompress(data, size)
        except self._errors:
            self._ended = True
            # Bytes after a complete stream are padding as often as they are a broken next one.
            if not self._started:
                self._meter.note("damaged")
            return b""

    def _next_stream(self) -> bytes:
        """Several streams may follow each other in one file."""
        if self._single:
            self._ended = True
            return b""
        self._pending = self._current.unused_data or self._source.read(_CHUNK)
        self._started = True
        if not self._pending.strip(b"\0"):
            self._ended = True
            return b""
        self._meter.enter()
        self._current = self._make()
        return b""


def gzip_members(container: Container) -> Iterator[Member]:
    """The content of a gzip file."""
    yield _member(container, "gzip", lambda: _Zlib(31), (zlib.error,))


def raw_deflate(container: Container) -> Readable:
    """The content of a deflate stream without header, which ends where it ends."""
    return Inflated(container, lambda: _Zlib(-15), (zlib.error,), single=True)


def zlib_stream(container: Container) -> Readable:
    """The content of one zlib stream; what follows it is not looked at."""
    return Inflated(container, lambda: _Zlib(15), (zlib.error,), single=True)


def zlib_members(container: Container) -> Iterator[Member]:
    """The content of a bare zlib stream, a loose git object for example."""
    container.meter.enter()
    yield Member(_inner_name(container.name), zlib_stream(container), spelling="zlib")


def bzip2_members(container: Container) -> Iterator[Member]:
    """The content of a bzip2 file."""
    import bz2

    yield _member(container, "bzip2", bz2.BZ2Decompressor, (OSError, EOFError, ValueError))


def xz_members(container: Container) -> Iterator[Member]:
    """The content of an xz or lzma file; one that needs more than 96 MB of dictionary counts as damaged."""
    import lzma

    yield _member(
        container,
        "xz",
        lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY),
        (lzma.LZMAError, EOFError, ValueError, MemoryError),
    )


class _Zstd:
    """zstandard's stream reader: pulls its own input, bounds its own window."""

    def __init__(self, container: Container) -> None:
        import zstandard

        self._meter = container.meter
        self._error = zstandard.ZstdError
        decompressor = zstandard.ZstdDecompressor(max_window_size=128 << 20)
        self._reader = decompressor.stream_reader(readable(container.source), read_across_frames=True)  # type: ignore[arg-type]  # the stub wants a whole IO, only read() is called

    def read(self, size: int, /) -> bytes:
        try:
            piece = self._reader.read(min(size, _CHUNK * 16))
        except self._error:
            self._meter.note("damaged")
            return b""
        self._meter.take(len(piece))
        return piece


def zstd_members(container: Container) -> Iterator[Member]:
    """The content of a Zstandard file."""
    container.meter.enter()
    yield Member(_inner_name(container.name), _Zstd(container), spelling="zstd")


def _member(
    container: Container, spelling: str, make: Callable[[], _Decompressor], errors: tuple[type[Exception], ...]
) -> Member:
    container.meter.enter()
    return Member(_inner_name(container.name), Inflated(container, make, errors), spelling=spelling)


def _inner_name(name: str) -> str:
    """`a.txt` for `a.txt.gz`, `a.tar` for `a.tgz`, else `content`."""
    for suffix, instead in ((_SUFFIX, ""), (_SHORT_TAR, ".tar")):
        inner = suffix.sub(instead, name)
        if inner not in (name, ""):
            return inner
    return "content"

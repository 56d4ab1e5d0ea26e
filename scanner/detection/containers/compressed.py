"""Readers of files that consist of compressed streams: gzip, zlib, bzip2, xz, lzma, lzip, Zstandard."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator

from scanner.detection.containers import decompressors
from scanner.detection.containers.decompressors import BrokenStreamError, Codec, Decompressor
from scanner.detection.containers.members import Container, Member, Readable, UnreadableError, readable

# Read little at first, because an archive may contain many tiny files.
_FIRST_CHUNK = 4 << 10
_CHUNK = 64 << 10
_STEP = 256 << 10
# Stop after this many damaged streams, because each attempt to decompress allocates memory.
_MAX_RESTARTS = 100
_MAX_RESCUED_BYTES = 4 << 20
"""The maximum output of a damaged stream."""
_REPLAY_STEP = 64
_SUFFIX = re.compile(r"\.(?:gz|gzip|bz2|xz|lzma|lz|lzo|zst|zstd|Z)$", re.IGNORECASE)
_SHORT_TAR = re.compile(r"\.(?:tgz|tbz2?|txz|tzst|tlz)$", re.IGNORECASE)


class Inflated:
    """A stream of the decompressed bytes of a file, which may contain several compressed streams.

    Reading continues after a damaged stream. Bytes between the streams are skipped.
    """

    def __init__(self, container: Container, codec: Codec, *, single: bool = False) -> None:
        """Prepare to decompress `container.source`, or only its first stream if `single` is True."""
        self._source: Readable = readable(container.source)
        self._meter = container.meter
        self._codec = codec
        self._single = single or not codec.magic
        self._current: Decompressor | None = codec.make()
        self._pending = b""
        self._chunk = _FIRST_CHUNK
        self._stream_input: bytes | None = b""
        self._stream_output = 0
        self._restarts = 0
        self._certain = True
        self._ended = False
        self._ready = memoryview(b"")

    @property
    def unused(self) -> int:
        """The number of bytes that were read after the end of the compressed stream."""
        return len(self._pending)

    def read(self, size: int, /) -> bytes:
        pieces: list[bytes] = []
        missing = size
        while missing > 0:
            if not self._ready:
                if self._ended:
                    break
                # Decompress a large piece at a time, because each call of the decompressor copies all the remaining
                # input.
                piece = self._more()
                self._ready = memoryview(piece)
                self._meter.take(len(piece))
                continue
            pieces.append(bytes(self._ready[:missing]))
            self._ready = self._ready[missing:]
            missing -= len(pieces[-1])
        return b"".join(pieces)

    def _more(self) -> bytes:
        if self._current is None:
            self._find_stream()
            return b""
        data = b""
        if self._current.needs_input:
            data = self._pending or self._source.read(self._chunk)
            self._chunk = min(self._chunk * 2, _CHUNK)
            self._pending = b""
            if not data:
                self._ended = True
                if self._codec.closed:
                    self._count_damage()
                return b""
        try:
            piece = self._current.decompress(data, _STEP)
        except BrokenStreamError as error:
            return self._broken(data, error.output)
        except self._codec.errors as error:
            if "limit" in str(error) or "too much memory" in str(error):
                self._ended = True
                raise UnreadableError("unsupported_compression") from error
            return self._broken(data, self._replayed(data))
        self._stream_output += len(piece)
        if self._stream_input is not None:
            self._stream_input = self._stream_input + data if len(self._stream_input) < _CHUNK else None
        if self._current.eof:
            self._pending = self._current.unused_data
            self._current = None
            self._ended = self._single
            self._certain = True
        return piece

    def _replayed(self, data: bytes) -> bytes:
        if self._stream_input is None:
            return b""
        return _output_of_replay(self._codec, self._stream_input + data, self._stream_output)

    def _broken(self, data: bytes, output: bytes) -> bytes:
        """End the current stream after an error, and return `output`, the bytes before the error."""
        self._stream_output += len(output)
        self._count_damage()
        self._current = None
        self._restarts += 1
        self._certain = False
        # Skip the magic number, so that the search for the next stream does not find the damaged stream again.
        first = self._stream_input == b""
        self._pending = data[len(self._codec.magic) :] if first else data
        self._ended = self._single or self._restarts > _MAX_RESTARTS
        return output

    def _count_damage(self) -> None:
        # A magic number after other data may be accidental. Count the stream as damaged only if some of it was
        # decompressed.
        if self._certain or self._stream_output:
            self._meter.note("damaged")

    def _find_stream(self) -> None:
        magic = self._codec.magic
        data = self._pending
        while True:
            data = data.lstrip(b"\0") if self._certain else data
            if len(data) < len(magic):
                more = self._source.read(_CHUNK)
                if not more:
                    self._ended = True
                    return
                data += more
                continue
            at = data.find(magic)
            if at >= 0:
                break
            self._certain = False
            data = data[-len(magic) + 1 :]
            more = self._source.read(_CHUNK)
            if not more:
                self._ended = True
                return
            data += more
        self._certain = self._certain and at == 0
        self._pending = data[at:]
        self._meter.enter()
        self._current = self._codec.make()
        self._stream_input = b""
        self._stream_output = 0


def gzip_members(container: Container) -> Iterator[Member]:
    """Yield the content of a gzip file."""
    yield _member(container, decompressors.gzip_codec())


def raw_deflate(container: Container) -> Readable:
    """Return the content of a deflate stream without a header. Bytes after the stream are ignored."""
    return Inflated(container, decompressors.deflate_codec(), single=True)


def zlib_stream(container: Container) -> Readable:
    """Return the content of one zlib stream. Bytes after the stream are ignored."""
    return Inflated(container, decompressors.zlib_codec(), single=True)


def zlib_members(container: Container) -> Iterator[Member]:
    """Yield the content of a bare zlib stream, for example a loose git object."""
    yield _member(container, decompressors.zlib_codec())


def bzip2_members(container: Container) -> Iterator[Member]:
    """Yield the content of a bzip2 file."""
    yield _member(container, decompressors.bzip2_codec())


def xz_members(container: Container) -> Iterator[Member]:
    """Yield the content of an xz file. A file that needs a dictionary above 64 MB counts as unsupported."""
    yield _member(container, decompressors.xz_codec())


def lzma_members(container: Container) -> Iterator[Member]:
    """Yield the content of a `.lzma` file. A file that needs a dictionary above 64 MB counts as unsupported."""
    yield _member(container, decompressors.lzma_codec())


def lzip_members(container: Container) -> Iterator[Member]:
    """Yield the content of an lzip file. A file that needs a dictionary above 64 MB counts as unsupported."""
    yield _member(container, decompressors.lzip_codec())


def zstd_members(container: Container) -> Iterator[Member]:
    """Yield the content of a Zstandard file. A file that needs a window above 64 MB counts as unsupported."""
    yield _member(container, decompressors.zstd_codec())


def magicless_zstd_members(container: Container) -> Iterator[Member]:
    """Yield the content of a Zstandard frame that has no magic number.

    A frame that needs a window above 64 MB counts as unsupported.
    """
    yield _member(container, decompressors.magicless_zstd_codec())


def _member(container: Container, codec: Codec) -> Member:
    container.meter.enter()
    return Member(inner_name(container.name), Inflated(container, codec), encoding=codec.name)


def inner_name(name: str) -> str:
    """Return the name of a decompressed file, for example `a.txt` for `a.txt.gz`. The default is `content`."""
    for suffix, instead in ((_SUFFIX, ""), (_SHORT_TAR, ".tar")):
        inner = suffix.sub(instead, name)
        if inner not in (name, ""):
            return inner
    return "content"


def _output_of_replay(codec: Codec, data: bytes, delivered: int) -> bytes:
    """Return the bytes that a damaged stream decompresses to before the error, without the first `delivered` bytes.

    Args:
        codec: The compression method of the stream.
        data: The compressed bytes from the beginning of the stream.
        delivered: The number of output bytes that the caller already has.
    """
    # Find the piece that fails. Then pass its bytes one by one, because only the call that fails returns no output.
    steps = [data[at : at + _REPLAY_STEP] for at in range(0, len(data), _REPLAY_STEP)]
    count = sum(1 for _ in _replayed(codec, steps))
    last = [bytes((byte,)) for step in steps[count : count + 1] for byte in step]
    return b"".join(_replayed(codec, [*steps[:count], *last]))[delivered:]


def _replayed(codec: Codec, steps: Iterable[bytes]) -> Iterator[bytes]:
    """Decompress the input piece by piece, until an error, the end of the stream or _MAX_RESCUED_BYTES of output."""
    decompressor = codec.make()
    size = 0
    with contextlib.suppress(*codec.errors):
        for step in steps:
            piece = decompressor.decompress(step, _MAX_RESCUED_BYTES)
            yield piece
            size += len(piece)
            if decompressor.eof or size > _MAX_RESCUED_BYTES:
                return

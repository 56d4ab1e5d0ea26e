"""Reader of 7z archives. It decompresses blocks of files as streams, to save memory."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import Any

from scanner.detection.containers import decompressors
from scanner.detection.containers.compressed import Inflated
from scanner.detection.containers.members import (
    Bounded,
    Container,
    Member,
    Readable,
    UnreadableError,
    read_up_to,
    whole,
)
from scanner.detection.containers.seven_zip_headers import (
    AES,
    ENCODED_HEADER,
    Coder,
    Folder,
    HeaderReader,
    parsed,
    read_streams,
)
from scanner.detection.limits import Meter

_SIGNATURE_HEADER_SIZE = 32
# For 50,000 files with long names, the header is about 10 MB.
_MAX_HEADER_BYTES = 16 << 20
_MAX_ENCODED_HEADERS = 4

_COPY, _LZMA, _LZMA2, _DELTA = b"\0", b"\x03\x01\x01", b"\x21", b"\x03"
_DEFLATE, _DEFLATE64, _BZIP2, _ZSTD = b"\x04\x01\x08", b"\x04\x01\x09", b"\x04\x02\x02", b"\x04\xf7\x11\x01"
# The filters for program code: the id of each, and its decoder in the `bcj` package. The filters in `_PASSED_OVER` are
# ignored, because they do not change text.
_BRANCH_FILTERS = {
    b"\x04": "BCJDecoder",
    b"\x05": "PPCDecoder",
    b"\x06": "IA64Decoder",
    b"\x07": "ARMDecoder",
    b"\x08": "ARMTDecoder",
    b"\x09": "SparcDecoder",
    b"\x03\x03\x01\x03": "BCJDecoder",
    b"\x03\x03\x02\x05": "PPCDecoder",
    b"\x03\x03\x04\x01": "IA64Decoder",
    b"\x03\x03\x05\x01": "ARMDecoder",
    b"\x03\x03\x07\x01": "ARMTDecoder",
    b"\x03\x03\x08\x05": "SparcDecoder",
}
_PASSED_OVER = (b"\x0a", b"\x0b")


def seven_zip_members(container: Container) -> Iterator[Member]:
    """Yield every file of a 7z archive. Damage is counted, and ends only the block of files that contains it."""
    content = whole(container)
    meter = container.meter
    header = _header_of(content, meter)
    streams, names, empty = parsed(header, meter)
    with_data = iter([name for name, is_empty in zip(names, empty, strict=True) if not is_empty])
    for name, is_empty in zip(names, empty, strict=True):
        if is_empty:
            meter.enter()
            yield Member(name, b"")
    at = _SIGNATURE_HEADER_SIZE + streams.position
    packed = iter(streams.packed_sizes)
    for folder, sizes in zip(streams.folders, streams.files, strict=True):
        taken = list(islice(packed, folder.packed_streams))
        block = _Block(content, at, sum(taken), meter)
        at += sum(taken)
        try:
            stream = block.opened(folder)
        except UnreadableError as stop:
            meter.note(stop.reason)
            list(islice(with_data, len(sizes)))
            continue
        damage = meter.unread["damaged"]
        for size in sizes:
            meter.enter()
            part = Bounded(stream, size)
            yield Member(next(with_data, "content"), part)
            part.skip()
            if part.left and meter.unread["damaged"] == damage:
                meter.note("damaged")


def _header_of(content: bytes, meter: Meter) -> HeaderReader:
    """Return a reader of the 7z archive's header, which may be compressed."""
    if len(content) < _SIGNATURE_HEADER_SIZE:
        raise UnreadableError("damaged")
    offset, size = int.from_bytes(content[12:20], "little"), int.from_bytes(content[20:28], "little")
    begin = _SIGNATURE_HEADER_SIZE + offset
    if size > _MAX_HEADER_BYTES:
        raise UnreadableError("entries")
    if begin + size > len(content):
        raise UnreadableError("damaged")
    header = content[begin : begin + size]
    if zlib.crc32(header) != int.from_bytes(content[28:32], "little"):
        raise UnreadableError("damaged")
    for _ in range(_MAX_ENCODED_HEADERS):
        if header[:1] != bytes((ENCODED_HEADER,)):
            return HeaderReader(header, meter)
        streams = read_streams(HeaderReader(header[1:], meter), meter)
        if len(streams.folders) != 1 or not streams.packed_sizes:
            raise UnreadableError("damaged")
        folder = streams.folders[0]
        if folder.sizes[-1] > _MAX_HEADER_BYTES:
            raise UnreadableError("entries")
        at = _SIGNATURE_HEADER_SIZE + streams.position
        block = _Block(content, at, streams.packed_sizes[0], meter)
        header = read_up_to(block.opened(folder), folder.sizes[-1])
    raise UnreadableError("damaged")


class _Block:
    """A block of a 7z archive: compressed bytes that contain one or more files."""

    def __init__(self, content: bytes, at: int, size: int, meter: Meter) -> None:
        self._content, self._at, self._size, self._meter = content, at, size, meter

    def opened(self, folder: Folder) -> Readable:
        """Return a stream of the block's decompressed bytes."""
        if self._at > len(self._content):
            raise UnreadableError("damaged")
        if any(coder.method == AES for coder in folder.coders):
            raise UnreadableError("encrypted")
        if folder.packed_streams != 1 or not folder.coders:
            raise UnreadableError("unsupported_compression")
        source = io.BytesIO(self._content)
        source.seek(self._at)
        stream: Readable = Bounded(source, self._size)
        sizes = iter(folder.sizes)
        coders = list(folder.coders)
        while coders:
            coder, size = coders.pop(0), next(sizes)
            delta: tuple[dict[str, int], ...] = ()
            if coder.method in (_LZMA, _LZMA2) and coders and coders[0].method == _DELTA:
                # Undo the delta filter and LZMA in one step, because liblzma cannot undo a delta filter alone.
                delta, size = _delta(coders.pop(0)), next(sizes)
            stream = Bounded(self._undone(coder, delta, stream, size), size)
        return stream

    def _undone(self, coder: Coder, delta: tuple[dict[str, int], ...], stream: Readable, size: int) -> Readable:
        method, properties = coder
        if method == _COPY or method in _PASSED_OVER:
            return stream
        if method in _BRANCH_FILTERS:
            return _Branches(stream, _BRANCH_FILTERS[method], size)
        if method == _LZMA:
            codec = decompressors.raw_lzma(properties, delta)
        elif method == _LZMA2:
            codec = decompressors.raw_lzma2(properties, delta)
        elif method in _SIMPLE_CODECS:
            codec = _SIMPLE_CODECS[method]()
        else:
            # For example PPMd: its library decompresses in a thread, and a confined process may start none.
            raise UnreadableError("unsupported_compression")
        return Inflated(Container("", stream, self._meter), codec, single=True)


_SIMPLE_CODECS = {
    _DEFLATE: decompressors.deflate_codec,
    _DEFLATE64: decompressors.deflate64_codec,
    _BZIP2: decompressors.bzip2_codec,
    _ZSTD: decompressors.zstd_codec,
}


def _delta(coder: Coder) -> tuple[dict[str, int], ...]:
    import lzma

    return ({"id": lzma.FILTER_DELTA, "dist": (coder.properties[0] if coder.properties else 0) + 1},)


class _Branches:
    """A stream of executable code that undoes a branch filter (BCJ)."""

    def __init__(self, stream: Readable, decoder: str, size: int) -> None:
        import bcj

        self._stream = stream
        self._inner: Any = getattr(bcj, decoder)(size)
        self._ready = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        while not self._ready:
            data = self._stream.read(1 << 16)
            if not data:
                return b""
            self._ready = memoryview(self._inner.decode(data))
        piece, self._ready = bytes(self._ready[:size]), self._ready[size:]
        return piece

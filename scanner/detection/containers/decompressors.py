"""Decompressors of many formats with the same interface. They limit their memory, and the output of each call."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple, Protocol

from scanner.detection.containers.members import UnreadableError

MAX_DICTIONARY_BYTES = 64 << 20
"""The largest dictionary or window that a decompressor may allocate, as needed by `xz -9`."""

_MAX_LZMA_MEMORY = MAX_DICTIONARY_BYTES + (4 << 20)
# Four bytes of Zstandard can expand to 128 kB. So pass only 64 bytes per call, which expand to at most two megabytes.
_UNBOUNDED_STEP = 64


class Decompressor(Protocol):
    """The interface of all decompressors, including `bz2.BZ2Decompressor` and `lzma.LZMADecompressor`."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class Codec(NamedTuple):
    """A compression method.

    Attributes:
        magic: The first bytes of each stream. Empty if a file can contain only one stream.
        closed: Whether a complete stream always has an end mark.
    """

    name: str
    make: Callable[[], Decompressor]
    errors: tuple[type[Exception], ...]
    magic: bytes = b""
    closed: bool = True


class _Zlib:
    """A decompressor of zlib, gzip and deflate that also returns the output before an error."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits)

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
        data = self._inner.unconsumed_tail + data
        before = self._inner.copy()
        try:
            return self._inner.decompress(data, max_length)
        except zlib.error as error:
            raise BrokenStreamError(_output_before_error(before, data)) from error


def _output_before_error(inner: zlib._Decompress, data: bytes) -> bytes:
    """Return everything that `inner` decompresses from `data` before it fails."""
    pieces: list[bytes] = []
    for step in (1 << 14, 1 << 10, 1 << 6, 1 << 3, 1):
        while True:
            before = inner.copy()
            try:
                piece = inner.decompress(data, step)
            except zlib.error:
                inner = before
                break
            data = inner.unconsumed_tail
            pieces.append(piece)
            if not piece:
                break
    # Pass one byte per call. If the checksum is wrong, zlib would otherwise discard the last byte of output.
    try:
        pieces.extend(inner.decompress(data[at : at + 1]) for at in range(len(data)))
    except zlib.error:
        return b"".join(pieces)
    return b"".join(pieces)


class BrokenStreamError(Exception):
    """A stream is damaged. `output` is what was decompressed before the error."""

    def __init__(self, output: bytes) -> None:
        super().__init__("broken stream")
        self.output = output


class _Stepped:
    """Base class of decompressors whose library cannot limit its output."""

    def __init__(self) -> None:
        self._input = b""
        self._at = 0

    @property
    def needs_input(self) -> bool:
        return self._at >= len(self._input)

    def _next_step(self, data: bytes) -> bytes:
        if data:
            self._input = self._input[self._at :] + data
            self._at = 0
        step = self._input[self._at : self._at + _UNBOUNDED_STEP]
        self._at += len(step)
        return step

    def _rest(self) -> bytes:
        return self._input[self._at :]


class _Zstd(_Stepped):
    """A decompressor of one Zstandard frame (RFC 8878)."""

    def __init__(self, *, has_magic: bool = True) -> None:
        import zstandard

        super().__init__()
        form = zstandard.FORMAT_ZSTD1 if has_magic else zstandard.FORMAT_ZSTD1_MAGICLESS
        self._inner = zstandard.ZstdDecompressor(max_window_size=MAX_DICTIONARY_BYTES, format=form).decompressobj()

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data + self._rest()

    def decompress(self, data: bytes, max_length: int) -> bytes:
        pieces: list[bytes] = []
        step = self._next_step(data)
        while step:
            pieces.append(self._inner.decompress(step))
            max_length -= len(pieces[-1])
            if max_length <= 0 or self._inner.eof:
                break
            step = self._next_step(b"")
        return b"".join(pieces)


class _Deflate64(_Stepped):
    """A decompressor of Deflate64, a variant of deflate in large zip files."""

    def __init__(self) -> None:
        import inflate64

        super().__init__()
        self._inner = inflate64.Inflater()

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return self._rest()

    def decompress(self, data: bytes, max_length: int) -> bytes:
        pieces: list[bytes] = []
        step = self._next_step(data)
        while step:
            pieces.append(self._inner.inflate(step))
            max_length -= len(pieces[-1])
            if max_length <= 0 or self.eof:
                break
            step = self._next_step(b"")
        return b"".join(pieces)


class _Brotli:
    """A decompressor of one Brotli stream."""

    def __init__(self) -> None:
        import brotli

        self._inner = brotli.Decompressor()
        self._is_drained = True

    @property
    def eof(self) -> bool:
        return bool(self._inner.is_finished())

    @property
    def unused_data(self) -> bytes:
        return b""

    @property
    def needs_input(self) -> bool:
        # Take all output before the library gets more input.
        return self._is_drained and bool(self._inner.can_accept_more_data())

    def decompress(self, data: bytes, max_length: int) -> bytes:
        output = bytes(self._inner.process(data, output_buffer_limit=max_length))
        self._is_drained = not output
        return output


class _Lzip:
    """A decompressor of one member of an lzip file."""

    def __init__(self) -> None:
        self._head = b""
        self._inner: Decompressor | None = None

    @property
    def eof(self) -> bool:
        return self._inner is not None and self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data[20:] if self._inner is not None else b""

    @property
    def needs_input(self) -> bool:
        return self._inner is None or self._inner.needs_input

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if self._inner is None:
            self._head += data
            if len(self._head) < 6:
                return b""
            code = self._head[5]
            size = 1 << (code & 31)
            size -= (size >> 4) * (code >> 5)
            self._inner = raw_lzma(bytes((93,)) + size.to_bytes(4, "little")).make()
            data = self._head[6:]
        return self._inner.decompress(data, max_length)


def _lzma_errors() -> tuple[type[Exception], ...]:
    import lzma

    return (lzma.LZMAError, EOFError, ValueError, MemoryError)


def gzip_codec() -> Codec:
    """Return the codec of gzip (RFC 1952)."""
    return Codec("gzip", lambda: _Zlib(31), (zlib.error,), magic=b"\x1f\x8b\x08")


def zlib_codec() -> Codec:
    """Return the codec of one zlib stream (RFC 1950)."""
    return Codec("zlib", lambda: _Zlib(15), (zlib.error,))


def deflate_codec() -> Codec:
    """Return the codec of one deflate stream without a header (RFC 1951)."""
    return Codec("deflate", lambda: _Zlib(-15), (zlib.error,))


def deflate64_codec() -> Codec:
    return Codec("deflate64", _Deflate64, (ValueError, RuntimeError, OSError))


def bzip2_codec() -> Codec:
    import bz2

    return Codec("bzip2", bz2.BZ2Decompressor, (OSError, EOFError, ValueError), magic=b"BZh")


def xz_codec() -> Codec:
    import lzma

    return Codec(
        "xz",
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MAX_LZMA_MEMORY),
        _lzma_errors(),
        magic=b"\xfd7zXZ\0",
    )


def lzma_codec() -> Codec:
    """Return the codec of `.lzma` files, the predecessor of xz."""
    import lzma

    return Codec(
        "xz", lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MAX_LZMA_MEMORY), _lzma_errors(), closed=False
    )


def lzip_codec() -> Codec:
    return Codec("lzip", _Lzip, _lzma_errors(), magic=b"LZIP\x01")


def brotli_codec() -> Codec:
    import brotli

    return Codec("brotli", _Brotli, (brotli.error,))


def zstd_codec() -> Codec:
    import zstandard

    return Codec("zstd", _Zstd, (zstandard.ZstdError,), magic=b"\x28\xb5\x2f\xfd")


def magicless_zstd_codec() -> Codec:
    """Return the codec of one Zstandard frame without its magic number."""
    import zstandard

    return Codec("zstd", lambda: _Zstd(has_magic=False), (zstandard.ZstdError,))


def raw_lzma(properties: bytes, before: tuple[dict[str, int], ...] = ()) -> Codec:
    """Return the codec of LZMA data without a header, as in 7z, zip and lzip files.

    Args:
        properties: One byte for LZMA's parameters lc, lp and pb, then four bytes for the size of the dictionary.
        before: The liblzma filters that were applied before compression.

    Raises:
        UnreadableError: the properties are invalid.
    """
    import lzma

    if len(properties) < 5 or properties[0] >= 225:
        raise UnreadableError("damaged")
    size = int.from_bytes(properties[1:5], "little")
    _check_dictionary(size)
    rest, lc = divmod(properties[0], 9)
    pb, lp = divmod(rest, 5)
    if lc + lp > 4:
        raise UnreadableError("unsupported_compression")
    chain = [*before, {"id": lzma.FILTER_LZMA1, "dict_size": max(size, 4096), "lc": lc, "lp": lp, "pb": pb}]
    return Codec("lzma", lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=chain), _lzma_errors(), closed=False)


def raw_lzma2(properties: bytes, before: tuple[dict[str, int], ...] = ()) -> Codec:
    """Return the codec of LZMA2 data without a header, as in 7z files.

    Args:
        properties: One byte for the size of the dictionary.
        before: The liblzma filters that were applied before compression.

    Raises:
        UnreadableError: the properties are invalid.
    """
    import lzma

    if len(properties) != 1 or properties[0] > 40:
        raise UnreadableError("damaged")
    size = (2 | (properties[0] & 1)) << (properties[0] // 2 + 11)
    _check_dictionary(size)
    chain = [*before, {"id": lzma.FILTER_LZMA2, "dict_size": max(size, 4096)}]
    return Codec("lzma2", lambda: lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=chain), _lzma_errors())


def _check_dictionary(size: int) -> None:
    if size > MAX_DICTIONARY_BYTES:
        raise UnreadableError("unsupported_compression")

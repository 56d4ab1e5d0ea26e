"""Functions that build hostile gzip, zlib, bzip2, xz and Zstandard streams."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import zlib
from typing import Any

from tests.hostile.registry import hostile, hostile_with_leak

MIB = 1 << 20


def repeated(packer: Any, block: bytes, count: int) -> bytes:
    """Compress `count` copies of the block without having them all in memory."""
    return b"".join([*(packer.compress(block) for _ in range(count)), packer.flush()])


@hostile("gzip", "4 GB of zeros", large=True, unread=True)
def gzip_bomb() -> bytes:
    return repeated(zlib.compressobj(9, zlib.DEFLATED, 31), bytes(16 * MIB), 256)


@hostile_with_leak("gzip", "the leak, then 600 MB of zeros", unread=True)
def gzip_leak_before_bomb(leak: bytes) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    return packer.compress(leak) + repeated(packer, bytes(4 * MIB), 150)


@hostile("gzip", "100,000 streams one after the other", unread=True)
def gzip_members() -> bytes:
    return gzip.compress(b"x", 1, mtime=0) * 100_000


@hostile("gzip", "30 layers of gzip around 64 MB of zeros")
def gzip_layers() -> bytes:
    content = bytes(64 * MIB)
    for _ in range(30):
        content = gzip.compress(content, 9, mtime=0)
    return content


@hostile("gzip", "a header whose name has no end, 16 MB", unread=True)
def gzip_name() -> bytes:
    return b"\x1f\x8b\x08\x08" + bytes(4) + b"\0\3" + b"n" * (16 * MIB)


@hostile("zlib", "600 MB of zeros", unread=True)
def zlib_bomb() -> bytes:
    return repeated(zlib.compressobj(1), bytes(4 * MIB), 150)


@hostile("zlib", "16 MB of empty deflate blocks that expand to nothing")
def zlib_empty_blocks() -> bytes:
    return b"x\x9c" + b"\x4b\x04\x00" + b"\x00\x00\x00\xff\xff" * (16 * MIB // 5)


@hostile("bzip2", "20 streams of 45 MB of zeros each", large=True, unread=True)
def bzip2_bomb() -> bytes:
    return bz2.compress(bytes(45 * MIB)) * 20


@hostile("bzip2", "100,000 empty streams", unread=True)
def bzip2_members() -> bytes:
    return bz2.compress(b"x") * 100_000


@hostile("xz", "600 MB of zeros", large=True, unread=True)
def xz_bomb() -> bytes:
    return repeated(lzma.LZMACompressor(preset=0), bytes(4 * MIB), 150)


@hostile("xz", "a header that asks for a dictionary of 2 GB", unread=True)
def xz_dictionary() -> bytes:
    # A file in the older LZMA format: the properties, the size of the dictionary, an unknown uncompressed size, and
    # data.
    return b"]" + struct.pack("<I", 1 << 31) + b"\xff" * 8 + bytes(64 * 1024)


@hostile("xz", "dictionaries of 90 MB, one stream after the other")
def xz_dictionaries() -> bytes:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 90 * MIB}]
    return lzma.compress(bytes(1024), filters=filters) * 2_000


@hostile("xz", "60,000 empty streams", unread=True)
def xz_members() -> bytes:
    return lzma.compress(b"x", preset=0) * 60_000


@hostile("Zstandard", "2 GB of zeros", large=True, unread=True)
def zstd_bomb() -> bytes:
    import zstandard

    return repeated(zstandard.ZstdCompressor().compressobj(), bytes(16 * MIB), 128)


@hostile("Zstandard", "100,000 frames one after the other")
def zstd_frames() -> bytes:
    import zstandard

    return zstandard.ZstdCompressor(write_content_size=False).compress(b"x") * 100_000


@hostile("Zstandard", "a window of 1 GB", unread=True)
def zstd_window() -> bytes:
    # A Zstandard frame: the header, which gives the window size, and one uncompressed block of 4 bytes.
    return b"(\xb5/\xfd" + bytes([0, 20 << 3]) + struct.pack("<I", (4 << 3) | 1)[:3] + b"abcd"


@hostile("Zstandard", "windows of 128 MB, frame after frame")
def zstd_windows() -> bytes:
    block = struct.pack("<I", (128 * 1024 << 3) | (1 << 1) | 1)[:3] + b"\0"
    return (b"(\xb5/\xfd" + bytes([0, 17 << 3]) + block) * 5_000


@hostile("Zstandard", "1,000,000 skippable frames")
def zstd_skippable() -> bytes:
    import zstandard

    frame = zstandard.ZstdCompressor().compress(b"x")
    return frame + (b"\x50\x2a\x4d\x18" + bytes(4)) * 1_000_000


@hostile("gzip", "a chain through every compressor, 20 to 200 MB in each layer")
def compressors_in_turn() -> bytes:
    import zstandard

    more = bytes(20 * MIB)
    content = gzip.compress(bytes(200 * MIB), 6, mtime=0)
    content = bz2.compress(content + more)
    content = lzma.compress(content + more, preset=0)
    return zstandard.ZstdCompressor().compress(content + more)


@hostile("embedded streams", "400,000 beginnings of Zstandard frames whose block of 128 kB is not valid", unread=True)
def embedded_zstd_beginnings() -> bytes:
    block = ((128 << 10) << 3 | 2 << 1).to_bytes(3, "little")
    return b"\0\1\2\3" * 20 + (b"\x28\xb5\x2f\xfd\0\x38" + block + bytes(11)) * 400_000


@hostile("embedded streams", "500,000 zlib streams of eleven bytes, two bytes apart", unread=True)
def embedded_zlib_streams() -> bytes:
    return b"\0\1\2\3" * 20 + (b"\0\1" + zlib.compress(b"hello there")) * 500_000

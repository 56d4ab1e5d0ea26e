"""Functions that compress bytes in one format."""

from __future__ import annotations

import lzma
import struct
import zlib


def zstandard_compressed(content: bytes) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(content)


def lzw(content: bytes) -> bytes:
    """Compress the content with LZW as PDF does, with one code for each byte."""
    codes: list[tuple[int, int]] = [(256, 9)]
    for at, byte in enumerate(content):
        if at and at % 200 == 0:
            codes.append((256, 9))
        codes.append((byte, 9))
    bits = "".join(format(code, f"0{width}b") for code, width in [*codes, (257, 9)])
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def lzip(content: bytes) -> bytes:
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 16, "lc": 3, "lp": 0, "pb": 2}]
    packed = lzma.compress(content, lzma.FORMAT_ALONE, filters=filters)[13:]
    trailer = struct.pack("<IQQ", zlib.crc32(content), len(content), len(packed) + 26)
    return b"LZIP\x01\x10" + packed + trailer


def lz4_block(content: bytes) -> bytes:
    """Return an LZ4 block that contains the content unchanged."""
    length = len(content)
    head = bytes((min(length, 15) << 4,))
    if length >= 15:
        head += b"\xff" * ((length - 15) // 255) + bytes(((length - 15) % 255,))
    return head + content


def lz4_frame(content: bytes) -> bytes:
    block = lz4_block(content)
    return b"\x04\x22\x4d\x18\x60\x40\x82" + struct.pack("<I", len(block)) + block + bytes(4)


def mozilla_lz4(content: bytes) -> bytes:
    return b"mozLz40\0" + struct.pack("<I", len(content)) + lz4_block(content)


def snappy_stream(content: bytes) -> bytes:
    """Return a Snappy stream that contains the content unchanged."""
    parts = [b"\xff\x06\0\0sNaPpY"]
    for at in range(0, len(content), 60):
        piece = content[at : at + 60]
        block = bytes((len(piece), (len(piece) - 1) << 2)) + piece
        parts.append(b"\0" + (len(block) + 4).to_bytes(3, "little") + bytes(4) + block)
    return b"".join(parts)


def unix_compressed(content: bytes) -> bytes:
    """Return the content in the format of the program `compress`."""
    table = {bytes((byte,)): byte for byte in range(256)}
    group: list[int] = []
    width, output, prefix = 9, bytearray(b"\x1f\x9d\x90"), b""

    def flush() -> None:
        bits = sum(code << (width * at) for at, code in enumerate(group))
        output.extend(bits.to_bytes(width, "little"))
        group.clear()

    following = 257
    for at in range(len(content)):
        longer = prefix + content[at : at + 1]
        if longer in table:
            prefix = longer
            continue
        group.append(table[prefix])
        if len(group) == 8:
            flush()
        if following < 1 << 16:
            table[longer] = following
            following += 1
            if following > (1 << width) and width < 16:
                if group:
                    flush()
                width += 1
        prefix = content[at : at + 1]
    if prefix:
        group.append(table[prefix])
        bits = sum(code << (width * at) for at, code in enumerate(group))
        output.extend(bits.to_bytes(-(-width * len(group) // 8), "little"))
    return bytes(output)


def lzf(content: bytes) -> bytes:
    """Compress some zeros and then the content with LZF."""
    parts = [b"\0\0", bytes((0xE0, 91, 0))]
    parts += [bytes((len(content[at : at + 32]) - 1,)) + content[at : at + 32] for at in range(0, len(content), 32)]
    return b"".join(parts)


def raw_deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(b"response: " + content) + packer.flush()

"""Small generated pictures that tests use as a vendor's logo."""

from __future__ import annotations

import struct
import zlib

_INK, _PAPER = b"\x1d\x5a\x9e\xff", b"\0\0\0\0"


def png(width: int = 160, height: int = 48) -> bytes:
    """Return a PNG with a blue disc and a bar on a transparent background."""
    rows = b"".join(
        b"\0" + b"".join(_INK if _is_drawn(x, y, height) else _PAPER for x in range(width)) for y in range(height)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )


def gif(width: int, height: int) -> bytes:
    """Return the beginning of a GIF whose header declares this width and height in pixels."""
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b";"


def jpeg(width: int, height: int) -> bytes:
    """Return the beginning of a JPEG that declares this width and height in pixels."""
    application = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\0" + b"\x01\x01\0\0\x01\0\x01\0\0"
    table = b"\xff\xdb" + struct.pack(">H", 67) + b"\0" * 65
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 8, 8, height, width, 0)
    return b"\xff\xd8" + application + b"\xff" + table + frame + b"\xff\xd9"


def _is_drawn(x: int, y: int, height: int) -> bool:
    middle = height / 2
    is_disc = (x - middle) ** 2 + (y - middle) ** 2 < (middle - 2) ** 2
    return is_disc or (x > height + 8 and abs(y - middle) < height / 6)

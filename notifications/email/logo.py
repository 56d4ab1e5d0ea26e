"""The vendor's logo, read from a PNG, JPEG or GIF file, and the size at which mails show it.

Only the header of the file is parsed, for its type and size. Mail programs decode the picture.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass, field
from pathlib import Path

MAX_FILE_BYTES = 100_000
"""Limit of the file, because every mail carries it."""
MAX_SIDE_PIXELS = 2000
"""Limit of each side of the picture. High-resolution screens need less."""
SHOWN_HEIGHT = 40
SHOWN_WIDTH = 220
"""Largest size in a mail, in CSS pixels. It fits a screen 320 pixels wide."""

_PNG = b"\x89PNG\r\n\x1a\n"
_GIF = (b"GIF87a", b"GIF89a")
_JPEG = b"\xff\xd8\xff"
# Start-of-frame markers of all codings. C4, C8 and CC have other meanings (ITU T.81, table B.1).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))


class BadLogo(ValueError):
    """Raised for a file that cannot be used as a logo. The message is one line that continues "the file …"."""


@dataclass(frozen=True, slots=True)
class Logo:
    """A picture that every mail carries. `subtype` is png, gif or jpeg; `width` and `height` are the file's pixels."""

    content: bytes = field(repr=False)
    subtype: str
    width: int
    height: int
    content_id: str

    @property
    def shown(self) -> tuple[int, int]:
        """Return the width and height in pixels at which mails show the logo: at least 1, at most the picture's own
        size.
        """
        scale = min(1.0, SHOWN_HEIGHT / self.height, SHOWN_WIDTH / self.width)
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))

    @property
    def source(self) -> str:
        """Return the address of the picture inside the mail (RFC 2392)."""
        return f"cid:{self.content_id}"

    def inlined(self, html: str) -> str:
        """Return the HTML with the picture embedded, for a browser, which does not have the mail's part with the
        picture.
        """
        data = base64.b64encode(self.content).decode()
        return html.replace(self.source, f"data:image/{self.subtype};base64,{data}")


def load_logo(path: Path) -> Logo:
    """Read the logo from a file.

    Raises:
        BadLogo: the content is not a usable picture.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return read_logo(file.read(MAX_FILE_BYTES + 1))


def read_logo(content: bytes) -> Logo:
    """Return the logo with this file content.

    Raises:
        BadLogo: the content is not a usable picture.
    """
    if len(content) > MAX_FILE_BYTES:
        raise BadLogo(f"is larger than {MAX_FILE_BYTES // 1000} kB")
    try:
        subtype, width, height = _header(content)
    except (struct.error, IndexError):
        raise BadLogo("is cut off: the picture's size is missing") from None
    if not (0 < width <= MAX_SIDE_PIXELS and 0 < height <= MAX_SIDE_PIXELS):
        raise BadLogo(f"has {width} x {height} pixels: each side must have 1 to {MAX_SIDE_PIXELS}")
    # Derive the content id from the content, so that a mail program never shows an older logo from its cache.
    return Logo(content, subtype, width, height, f"{hashlib.sha256(content).hexdigest()[:32]}@logo.r8scan")


def _header(content: bytes) -> tuple[str, int, int]:
    """Return type, width and height of a picture.

    Raises:
        BadLogo: the header is damaged or of another type.
        struct.error, IndexError: the content ends too early.
    """
    if content.startswith(_PNG):
        if content[12:16] != b"IHDR":
            raise BadLogo("is a damaged PNG: it does not begin with its header")
        return ("png", *struct.unpack_from(">II", content, 16))
    if content.startswith(_GIF):
        return ("gif", *struct.unpack_from("<HH", content, 6))
    if content.startswith(_JPEG):
        return ("jpeg", *_size_of_jpeg(content))
    raise BadLogo("is not a PNG, JPEG or GIF")


def _size_of_jpeg(content: bytes) -> tuple[int, int]:
    """Return width and height from the first frame header, after skipping other segments (ITU T.81, B.1.1)."""
    at = 2
    while True:
        if content[at] != 0xFF:
            raise BadLogo("is a damaged JPEG: a segment does not begin where it should")
        marker = content[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", content, at + 5)
            return width, height
        else:
            (length,) = struct.unpack_from(">H", content, at + 2)
            at += 2 + max(length, 2)

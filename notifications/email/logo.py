"""The vendor's logo: read from a picture's file once, checked by its first bytes, and how large mails show it.

Nothing here decodes a picture: its kind and size stand in the header, and mail programs do the rest.
"""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass, field
from pathlib import Path

MAX_FILE_BYTES = 100_000
"""Bytes: it travels with every mail."""
MAX_SIDE_PIXELS = 2000
"""Pixels of the picture itself, more than sharp screens need."""
SHOWN_HEIGHT = 40
SHOWN_WIDTH = 220
"""Pixels that a mail gives it, at most; it fits a screen of 320."""

_PNG = b"\x89PNG\r\n\x1a\n"
_GIF = (b"GIF87a", b"GIF89a")
_JPEG = b"\xff\xd8\xff"
# Start of frame, by every way of coding; C4, C8 and CC have other meanings (ITU T.81, table B.1).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))


class BadLogo(ValueError):
    """The file is no logo that a mail can carry; the message is one line that says why."""


@dataclass(frozen=True, slots=True)
class Logo:
    """A picture that every mail carries: `subtype` is png, gif or jpeg; `width` and `height` are its own, in pixels."""

    content: bytes = field(repr=False)
    subtype: str
    width: int
    height: int
    content_id: str

    @property
    def shown(self) -> tuple[int, int]:
        """Width and height in a mail: never larger than the picture itself, never less than a pixel."""
        scale = min(1.0, SHOWN_HEIGHT / self.height, SHOWN_WIDTH / self.width)
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))

    @property
    def source(self) -> str:
        """Its address inside a mail (RFC 2392)."""
        return f"cid:{self.content_id}"

    def inlined(self, html: str) -> str:
        """The same HTML with the picture in it, for a browser, which sees no other part of the mail."""
        data = base64.b64encode(self.content).decode()
        return html.replace(self.source, f"data:image/{self.subtype};base64,{data}")


def load_logo(path: Path) -> Logo:
    """Read the file. BadLogo when it is none; OSError when it cannot be read."""
    with path.open("rb") as file:
        return read_logo(file.read(MAX_FILE_BYTES + 1))


def read_logo(content: bytes) -> Logo:
    """The logo whose file has this content. BadLogo when it is none."""
    if len(content) > MAX_FILE_BYTES:
        raise BadLogo(f"is larger than {MAX_FILE_BYTES // 1000} kB")
    try:
        subtype, width, height = _header(content)
    except (struct.error, IndexError):
        raise BadLogo("is cut off: the picture's size is missing") from None
    if not (0 < width <= MAX_SIDE_PIXELS and 0 < height <= MAX_SIDE_PIXELS):
        raise BadLogo(f"has {width} x {height} pixels: each side must have 1 to {MAX_SIDE_PIXELS}")
    # The name follows the content, so that a mail program never shows an older logo that it has kept.
    return Logo(content, subtype, width, height, f"{hashlib.sha256(content).hexdigest()[:32]}@logo.r8scan")


def _header(content: bytes) -> tuple[str, int, int]:
    """Kind, width and height. struct.error or IndexError when the content ends too early."""
    if content.startswith(_PNG):
        if content[12:16] != b"IHDR":
            raise BadLogo("is a damaged PNG: it does not begin with its header")
        return ("png", *struct.unpack_from(">II", content, 16))
    if content.startswith(_GIF):
        return ("gif", *struct.unpack_from("<HH", content, 6))
    if content.startswith(_JPEG):
        return ("jpeg", *_size_of_jpeg(content))
    raise BadLogo("is no PNG, JPEG or GIF")


def _size_of_jpeg(content: bytes) -> tuple[int, int]:
    """Width and height from the first frame; the segments before it are stepped over (ITU T.81, B.1.1)."""
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

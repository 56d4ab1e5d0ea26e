"""The vendor's logo in mails."""

from __future__ import annotations

import base64
import hashlib
import struct
from dataclasses import dataclass, field
from pathlib import Path

MAX_FILE_BYTES = 100_000
"""The limit for the size of the file, because every mail contains it."""
MAX_SIDE_PIXELS = 2000
"""The limit for the width and the height."""
SHOWN_HEIGHT = 40
SHOWN_WIDTH = 220
"""The largest width and height of the logo in a mail, in CSS pixels. It fits on a screen that is 320 pixels wide."""

_PNG = b"\x89PNG\r\n\x1a\n"
_GIF = (b"GIF87a", b"GIF89a")
_JPEG = b"\xff\xd8\xff"
# The JPEG markers whose segment contains the picture's size. C4, C8 and CC have other meanings (ITU T.81, table B.1).
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = frozenset((0x01, *range(0xD0, 0xD9)))


class BadLogo(ValueError):
    """Raised for a file that cannot be used as a logo. The message completes a sentence that begins with "the file"."""


@dataclass(frozen=True, slots=True)
class Logo:
    """A picture that every mail contains.

    `subtype` is png, gif or jpeg. `width` and `height` are in pixels. `content_id` identifies the picture within the
    mail.
    """

    content: bytes = field(repr=False)
    subtype: str
    width: int
    height: int
    content_id: str

    @property
    def shown(self) -> tuple[int, int]:
        """Return the width and height in CSS pixels with which mails show the logo."""
        scale = min(1.0, SHOWN_HEIGHT / self.height, SHOWN_WIDTH / self.width)
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))

    @property
    def source(self) -> str:
        """Return the URL of the picture in the mail's HTML (RFC 2392)."""
        return f"cid:{self.content_id}"

    def inlined(self, html: str) -> str:
        """Put the picture into the HTML as a data URL, so that a browser can show the HTML alone."""
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
    """Return the logo from the content of its file.

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
    # With the same id for every logo, a mail program could show an old logo from its cache.
    return Logo(content, subtype, width, height, f"{hashlib.sha256(content).hexdigest()[:32]}@logo.r8scan")


def _header(content: bytes) -> tuple[str, int, int]:
    """Return the subtype of a picture, and its width and height in pixels.

    Raises:
        BadLogo: the content is damaged, or is not a PNG, JPEG or GIF.
        struct.error: the content ends too early.
        IndexError: the content ends too early.
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
    """Return the width and height in the first frame header of a JPEG (ITU T.81, B.1.1)."""
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

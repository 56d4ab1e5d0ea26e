"""Recognition of media (pictures, fonts, sounds, films) in bytes decoded from base64 or hex."""

from __future__ import annotations

from scanner.detection.containers.recognition import container_kind
from scanner.detection.wide import wide_codec

_MEDIA = (
    *(b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a", b"BM"),
    *(b"wOFF", b"wOF2", b"OTTO", b"\0\1\0\0", b"OggS", b"ID3", b"fLaC", b"\x1aE\xdf\xa3"),
)
_ZLIB = (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")


def is_media(content: bytes) -> bool:
    """Return whether the content is a picture, a font, a sound or a film."""
    if content.startswith(_MEDIA):
        return not content.startswith(b"BM") or content[6:10] == bytes(4)
    return (content[:4] == b"RIFF" and content[8:12] in (b"WEBP", b"WAVE", b"AVI ")) or content[4:8] == b"ftyp"


def needs_opening(content: bytes) -> bool:
    """Return whether the content is an archive, a compressed stream, or media such as a picture."""
    if content.startswith(_ZLIB) or content.startswith(b"H4sI") or is_media(content):
        return True
    return wide_codec(content) is None and container_kind(content) is not None

"""Reader of Excalidraw drawings inside exported pictures: zlib bytes in a JSON string, one character for each byte."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Iterator

from scanner.detection.containers.compressed import zlib_stream
from scanner.detection.containers.members import Container, Member, UnreadableError, whole

_MAX_BYTES = 16 << 20
_PAYLOAD = re.compile(rb"payload-start -->\s{0,9}+([0-9A-Za-z+/]{20,}+={0,2})")


def excalidraw_members(container: Container) -> Iterator[Member]:
    """Yield the drawing of a picture that Excalidraw exported. An SVG picture contains the JSON in base64."""
    content = whole(container)
    if len(content) > _MAX_BYTES:
        raise UnreadableError("member_size")
    try:
        if content.startswith(b"<"):
            payload = _PAYLOAD.search(content)
            content = binascii.a2b_base64(payload[1]) if payload is not None else b""
        # In PNG, each byte of the stream is one byte of the text. In SVG, JSON or UTF-8 may encode some of the bytes.
        text = content.decode("utf-8" if _is_utf8(content) else "latin-1")
        stream = json.loads(text, strict=False)["encoded"].encode("latin-1")
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableError("damaged") from error
    container.meter.enter()
    yield Member("drawing", zlib_stream(Container("drawing", stream, container.meter)))


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True

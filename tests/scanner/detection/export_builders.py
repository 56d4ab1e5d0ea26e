"""Functions that build files which programs export: pictures of drawings, Outlook messages, answers of chat models."""

from __future__ import annotations

import base64
import json
import struct
import urllib.parse
import zlib

from tests.scanner.detection.document_builders import png
from tests.scanner.detection.stream_builders import diagram


def compressed_rtf(content: bytes) -> bytes:
    """Return an Outlook message with compressed RTF: a back-reference for the first nine bytes, then literal bytes."""
    text = b"{\\rtf1\\ansi " + content + b"}"
    items = [(1, b"\x00\x07")] + [(0, b"%c" % letter) for letter in text[9:]]
    packed = bytearray()
    for at in range(0, len(items), 8):
        group = items[at : at + 8]
        packed.append(sum(flag << bit for bit, (flag, _) in enumerate(group)))
        packed += b"".join(data for _, data in group)
    header = struct.pack("<II4sI", len(packed) + 12, len(text), b"LZFu", 0)
    return b"\x78\x9f\x3e\x22" + bytes(40) + header + bytes(packed) + bytes(20)


def text_events(content: bytes) -> bytes:
    """Return an event stream like Replicate's, with five bytes of the content in each event."""
    pieces = (content[at : at + 5] for at in range(0, len(content.rstrip()), 5))
    return b"".join(b"event: output\nid: 1:0\ndata: %b\n\n" % piece.replace(b"\n", b"") for piece in pieces)


def array_of_answers(content: bytes) -> bytes:
    """Return an array of JSON objects, as Gemini sends an answer without server-sent events."""
    pieces = (content[at : at + 9].decode("latin-1") for at in range(0, len(content), 9))
    return json.dumps(
        [{"candidates": [{"content": {"parts": [{"text": piece}]}}]} for piece in pieces], indent=2
    ).encode()


def diagram_in_png(content: bytes) -> bytes:
    """Return a PNG picture that draw.io exported with the diagram."""
    return png(urllib.parse.quote(diagram(content)).encode())


def _excalidraw_json(content: bytes) -> bytes:
    scene = json.dumps({"type": "excalidraw", "elements": [{"text": content.decode("latin-1")}]}).encode()
    letters = zlib.compress(scene).decode("latin-1")
    fields = {"version": "1", "encoding": "bstring", "compressed": True, "encoded": letters}
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode("latin-1")


def excalidraw_png(content: bytes) -> bytes:
    return png(_excalidraw_json(content))


def excalidraw_svg(content: bytes) -> bytes:
    payload = base64.b64encode(_excalidraw_json(content))
    return (
        b'<svg version="1.1"><!-- svg-source:excalidraw --><metadata><!-- payload-start -->'
        + payload
        + b"<!-- payload-end --></metadata></svg>"
    )


EXPORTS = {
    "RTF of Outlook (winmail.dat)": compressed_rtf,
    "event stream with text (Replicate)": text_events,
    "array of answers (Gemini)": array_of_answers,
    "diagram of draw.io in PNG": diagram_in_png,
    "drawing of Excalidraw in PNG": excalidraw_png,
    "drawing of Excalidraw in SVG": excalidraw_svg,
}
"""Functions that build files which programs export, by the file's name in the table of docs/detection.md."""

"""Decoder of the compressed RTF in messages of Outlook, in `.msg` files and `winmail.dat` ([MS-OXRTFCP])."""

from __future__ import annotations

from scanner.detection.limits import Meter

MAGIC = b"LZFu"
HEADER_BYTES = 8
"""The number of bytes before the magic number: the sizes of the compressed and of the decompressed text."""

# The text with which the window of a decompressor begins ([MS-OXRTFCP] 2.1.2.1).
_WINDOW_START = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor MS Sans Serif"
    rb"SymbolArialTimes New RomanCourier{\colortbl\red0\green0\blue0"
    b"\r\n\\par "
    rb"\pard\plain\f0\fs20\b\i\u\tab\tx"
)
_WINDOW_BYTES = 4096
_STEPS_PER_BYTE = 15
"""Each compressed byte counts as this many steps of work, as measured."""


def begins_text(content: bytes, at: int) -> bool:
    """Return whether valid sizes precede the magic number at offset `at`."""
    if at < HEADER_BYTES:
        return False
    packed, size = _sizes(content, at)
    return 12 < packed <= len(content) - at + 4 and 0 < size <= 16 * packed


def _sizes(content: bytes, at: int) -> tuple[int, int]:
    """Return the compressed and the decompressed size of the text whose magic number is at offset `at`."""
    return int.from_bytes(content[at - 8 : at - 4], "little"), int.from_bytes(content[at - 4 : at], "little")


def text_at(content: bytes, at: int, meter: Meter) -> tuple[bytes, int]:
    """Return the decompressed text whose magic number is at offset `at`, and the offset of its end.

    A text that is damaged or shorter than its header says is returned as empty.

    Raises:
        LimitReachedError: a limit on the cost of scanning the document is reached.
    """
    packed, size = _sizes(content, at)
    position, end = at + HEADER_BYTES, at + packed - 4
    meter.spend(_STEPS_PER_BYTE * packed)
    meter.take(size)
    text = bytearray(_WINDOW_START)
    last = len(text) + size
    while position < end and len(text) < last:
        flags = content[position]
        if not flags:
            text += content[position + 1 : position + 9]
            position += 9
            continue
        position += 1
        for bit in range(8):
            if not flags >> bit & 1:
                text += content[position : position + 1]
                position += 1
                continue
            reference = int.from_bytes(content[position : position + 2])
            position += 2
            # The reference is an offset in a ring of 4096 bytes, and a length.
            distance = (len(text) - (reference >> 4)) % _WINDOW_BYTES
            if not 0 < distance <= len(text):
                position = end  # a reference to the current offset ends the text
                break
            for _ in range((reference & 15) + 2):
                text.append(text[-distance])
    is_whole = len(text) >= last
    return (bytes(text[len(_WINDOW_START) : last]), end) if is_whole else (b"", at + 2)

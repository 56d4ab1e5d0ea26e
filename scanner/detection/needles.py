"""The byte strings that betray a token in each encoding; a table and how it is made, no searching.

Where one comes from: the first bytes of a token are always `r8_`. Base64 of them has three forms, by the place of the
token in its group of three bytes; those three, written in base64 again, give nine more. The rest are escapes of `r`,
or of the underscore after a plain `r8`.
"""

from __future__ import annotations

import base64
import zlib
from typing import Literal, NamedTuple

Kind = Literal["token", "hex", "list", "wide", "base64", "wide_base64", "run", "stream"]


class Needle(NamedTuple):
    """`kind` chooses who looks closer; for `run` and `stream`, a base64 group begins `lead` bytes after the start."""

    text: bytes
    kind: Kind
    lead: int = 0


def encoded_needles(*cores: bytes) -> list[tuple[bytes, int]]:
    """What is constant in base64 of any text that holds one of `cores`, which have one length, at each alignment.

    Returns (characters, their place in the group of four).
    """
    found = []
    for alignment in range(3):
        first = -(-8 * alignment // 6)
        last = 8 * (alignment + len(cores[0])) // 6
        texts = [base64.b64encode(bytes(alignment) + core + bytes(3))[first:last] for core in cores]
        same = 0
        while same < len(texts[0]) and len({text[same] for text in texts}) == 1:
            same += 1
        found.append((texts[0][:same], first % 4))
    return found


def _token_needles() -> list[Needle]:
    after_r8 = [b"_", b"%", b"\\", b"&", b"=", b'"', b"'", b"`", b"\n", b"\r", b"<", b"\xe2", b"\xc2", b"\xef"]
    inside = [
        b"r\n8_",
        b"r\r\n8_",
        b"r=\n8",
        b"r=\r\n8",
        b"r\\\n8",
        b"r\xe2\x80\x8b",
        b"r\xe2\x81\xa0",
        b"r\xef\xbb\xbf",
        b"r\xc2\xad",
    ]
    # Text of UTF-16 and UTF-32 as `repr` and JSON show it: zeros are written between the letters.
    inside += [b"r\\x00", b"r\\u0000"]
    escapes = [b"\\x72", b"\\u0072", b"\\u{72}", b"\\U00000072", b"\\162", b"&#114", b"&#x72", b"&#X72"]
    quoted = [b"%72", b"%2572", b"=72=38"]
    return [Needle(text, "token") for text in [*(b"r8" + x for x in after_r8), *inside, *escapes, *quoted]]


def _byte_needles() -> list[Needle]:
    # Where the bytes of a dump are cut: between groups, and by the offset of the next line.
    cut = [b"72-38-5", b"72 385f", b"72 385F", b"72\n 38 5", b"72 38\n 5", b"72\n385f", b"7238\n5f"]
    cut += [b": 385f", b": 38 5f", b": 5f", b"  385f", b":  5f"]
    cut += [b"0 38 5f", b"0 5f ", b"0  38 5f", b"0  5f ", b"0   38 5", b"0   5f ", b"0   5F "]
    # Words in the order of the machine, as `od -x` and `hexdump` write them, and records of Intel HEX.
    cut += [b"3872 ", b"3872\n00", b" 5f38 ", b" 5f38\n", b"00385F", b"005F"]
    decimal = [b"114 56 9", b"114,\n", b"114,\r\n"]
    lists = [b"0x72", b"72 38 5", b"72  38 5", b"72 38  5", b"72:38:5", b"7238 5", b"114, 56", b"114,56"]
    wide = [b"r\x008\x00_", b"r\0\0\x008"]
    wide_base64 = [b"c\0j\0h", b"I\x004\0X", b"y\0O\0F"]
    return [
        Needle(b"72385f", "hex"),
        Needle(b"72385F", "hex"),
        *(Needle(text, "list") for text in (*lists, *cut, *decimal)),
        *(Needle(text, "wide") for text in wide),
        *(Needle(text, "wide_base64") for text in wide_base64),
    ]


def _base64_needles() -> list[Needle]:
    texts = [b"cjh", b"I4X", b"yOF"]
    for text in tuple(texts):
        texts += [text[:cut] + gap + text[cut:] for gap in (b"\n", b"\r\n") for cut in (1, 2)]
    # Inside JSON strings the breaks are escaped; encoders wrap between groups, and two forms have a group's end inside.
    texts += [text for gap in (b"\\n", b"\\r\\n") for text in (b"y" + gap + b"OF", b"I4" + gap + b"X")]
    return [Needle(text, "base64") for text in texts]


def _nested_needles() -> list[Needle]:
    inner = [(b"cjhf",), (b"I4Xz",), (b"I4X0", b"I4X1", b"I4X2", b"I4X3"), (b"yOF8", b"yOF9"), (b"r\x008\x00_",)]
    needles = {text: -place for cores in inner for text, place in encoded_needles(*cores)}
    return [Needle(text, "run", lead) for text, lead in needles.items()]


def _stream_needles() -> list[Needle]:
    """Beginnings of gzip (in base64 once and twice), of zip and of zlib.

    The headers of zlib's less usual levels are parts of words: they count only after what may stand before a value.
    """
    streams = [encoded_needles(magic)[0][0] for magic in (b"\x1f\x8b\x08", b"H4sI", b"PK\x03\x04")]
    streams += [b"eJw", b"eJx", b"eJy", b"eJz"]
    return [Needle(text, "stream") for text in streams] + [
        Needle(before + b"e" + header, "stream", 1)
        for header in (b"N", b"A", b"F")
        for before in (b'"', b"'", b" ", b"=", b"\n")
    ]


def _ordered(needles: list[Needle], seed: int) -> tuple[Needle, ...]:
    return tuple(sorted(needles, key=lambda needle: zlib.crc32(needle.text, seed)))


def needle_groups() -> tuple[tuple[Needle, ...], ...]:
    """The needles, one group per automaton.

    Up to 64 needles an automaton is searched with vector instructions. The order decides which needles share a bucket
    there, and with it the speed, by a factor of two: the seeds, and what goes together, are the best of some dozens
    on real source (`bench_detection --tune`).
    """
    return (
        _ordered(_token_needles() + _nested_needles(), 55),
        _ordered(_byte_needles() + _base64_needles(), 31),
        _ordered(_stream_needles(), 12),
    )

"""The needles: byte strings that show where a token may begin in each encoding. Only how they are made, no search.

They are derived from the prefix of each token format, such as `r8_`. Base64 of a prefix has three forms, by the place
of the token in its group of three bytes; those three, written in base64 again, give nine more. The rest are the prefix
in hexadecimal and decimal lists, escapes of its first letter, and joints and escapes after a plain beginning of it.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from typing import Literal, NamedTuple

from scanner.detection.token_formats import TokenFormat, active_formats, derived_from_formats

Kind = Literal["token", "hex", "list", "wide", "base64", "wide_base64", "run", "stream"]

MAX_GROUP_NEEDLES = 64
"""Needles that one automaton can search with vector instructions."""
_PLAIN_BYTES = 4
_AFTER_LETTERS = (b"%", b"\\", b"&", b"=", b'"', b"'", b"`", b"\n", b"\r", b"<", b"\xe2", b"\xc2", b"\xef")
"""How a joint or an escape begins."""

# Dumps, with the hexadecimal digits of the first three letters and, as {3}, the first digit of the third. Where the
# bytes of a dump are cut: between groups, and by the offset of the next line.
_LISTS: tuple[str, ...] = ("0x{0}", "{0} {1} {3}", "{0}  {1} {3}", "{0} {1}  {3}", "{0}:{1}:{3}", "{0}{1} {3}")
_LISTS += ("{0}-{1}-{3}", "{0} {1}{2}", "{0}\n {1} {3}", "{0} {1}\n {3}", "0   {1} {3}", "0   {2} ")
_LOWER_LISTS: tuple[str, ...] = ("{0}\n{1}{2}", "{0}{1}\n{2}", ": {1}{2}", ": {1} {2}", ": {2}", "  {1}{2}", ":  {2}")
_LOWER_LISTS += ("0 {1} {2}", "0 {2} ", "0  {1} {2}", "0  {2} ")
# Words in the order of the machine, as `od -x` and `hexdump` write them, and records of Intel HEX.
_LOWER_LISTS += ("{1}{0} ", "{1}{0}\n00", " {2}{1} ", " {2}{1}\n")
_UPPER_LISTS = ("00{1}{2}", "00{2}")
_DECIMAL_LISTS = ("{0}, {1}", "{0},{1}", "{0} {1} {2}", "{0},\n", "{0},\r\n")


class Needle(NamedTuple):
    """`kind` chooses who looks closer; for `run` and `stream`, a base64 group begins `lead` bytes after the start."""

    text: bytes
    kind: Kind
    lead: int = 0


def encoded_needles(*cores: bytes) -> list[tuple[bytes, int]]:
    """Return the letters that base64 of any text with one of the cores in it has in common, at each alignment.

    Args:
        cores: Byte strings of one length.

    Returns:
        For each alignment the letters, and the place of the first in its group of four.
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


def plain_needle(prefix: bytes) -> bytes:
    """Return the needle of a plain prefix: four bytes tell enough, and leave fewer places where a joint may hide."""
    return prefix[:_PLAIN_BYTES]


def _token_needles(prefix: bytes) -> list[Needle]:
    """The plain prefix, an escape of its first letter, and a joint or an escape after its first, second, … letter."""
    first, second, plain = prefix[:1], prefix[1:2], plain_needle(prefix)
    texts = [plain]
    texts += [plain[:cut] + start for cut in range(2, len(plain)) for start in _AFTER_LETTERS]
    texts += [first + b"\n" + prefix[1:3], first + b"\r\n" + prefix[1:3]]
    texts += [first + end + second for end in (b"=\n", b"=\r\n", b"\\\n")]
    texts += [first + zero_width for zero_width in (b"\xe2\x80\x8b", b"\xe2\x81\xa0", b"\xef\xbb\xbf", b"\xc2\xad")]
    # Text of UTF-16 and UTF-32 as `repr` and JSON show it: zeros are written between the letters.
    texts += [first + b"\\x00", first + b"\\u0000"]
    for one, two in _in_both_cases(b"%02x" % first[0], b"%02x" % second[0]):
        escapes = (b"\\x%b", b"\\u00%b", b"\\u{%b}", b"\\U000000%b", b"&#x%b", b"&#X%b", b"%%%b", b"%%25%b")
        texts += [escape % one for escape in escapes]
        texts.append(b"=%b=%b" % (one, two))
    texts += [b"\\%o" % first[0], b"&#%d" % first[0]]
    return [Needle(text, "token") for text in texts]


def _in_both_cases(*digits: bytes) -> list[tuple[bytes, ...]]:
    return list(dict.fromkeys((digits, tuple(map(bytes.upper, digits)))))


def _byte_needles(prefix: bytes) -> list[Needle]:
    lower = tuple(b"%02x" % byte for byte in prefix[:3])
    cases = _in_both_cases(*lower)
    needles = [Needle(b"".join(digits), "hex") for digits in cases]
    # `xxd` and its like write small letters, Intel HEX capitals; where they differ in practice, both are looked for.
    texts = [template.format(*_texts(digits)) for template in _LISTS for digits in cases]
    texts += [template.format(*_texts(lower)) for template in _LOWER_LISTS]
    texts += [template.format(*_texts(cases[-1])) for template in _UPPER_LISTS]
    texts += [template.format(*prefix[:2], str(prefix[2])[0]) for template in _DECIMAL_LISTS]
    needles += [Needle(text.encode(), "list") for text in dict.fromkeys(texts)]
    one, two, three = (prefix[at : at + 1] for at in range(3))
    needles += [Needle(one + b"\0" + two + b"\0" + three, "wide"), Needle(one + b"\0\0\0" + two, "wide")]
    needles += [Needle(b"\0".join(bytes([byte]) for byte in text), "wide_base64") for text in _base64_texts(prefix)]
    return needles


def _texts(digits: tuple[bytes, ...]) -> tuple[str, ...]:
    return (*(pair.decode() for pair in digits), digits[2][:1].decode())


def _base64_texts(prefix: bytes) -> list[bytes]:
    """The first three letters of the prefix in base64 at each alignment."""
    return [text[:3] for text, _ in encoded_needles(prefix[:3])]


def _base64_needles(prefix: bytes) -> list[Needle]:
    plain = _base64_texts(prefix)
    texts = [*plain]
    for text in plain:
        texts += [text[:cut] + gap + text[cut:] for gap in (b"\n", b"\r\n") for cut in (1, 2)]
    # Inside JSON strings the breaks are escaped; encoders wrap between groups, and two forms have a group's end inside.
    _, second, third = plain
    for gap in (b"\\n", b"\\r\\n"):
        texts += [third[:1] + gap + third[1:], second[:2] + gap + second[2:]]
    return [Needle(text, "base64") for text in texts]


def _nested_needles(form: TokenFormat) -> list[Needle]:
    prefix = form.prefix.encode()
    cores = [core for alignment in range(3) for core in _base64_cores(prefix, form.alphabet.encode(), alignment)]
    cores.append((b"\0".join(prefix[at : at + 1] for at in range(3)),))
    needles = {text: -place for core in cores for text, place in encoded_needles(*core)}
    return [Needle(text, "run", lead) for text, lead in needles.items()]


def _base64_cores(prefix: bytes, alphabet: bytes, alignment: int) -> Iterator[tuple[bytes, ...]]:
    """Yield the first four letters of a token in base64, those with equal upper halves together.

    A short prefix fixes fewer letters than four: the next one depends on the first letter of the body.
    """
    known = encoded_needles(prefix[:4])[alignment][0]
    if len(known) >= 4:
        yield (known[:4],)
        return
    first = -(-8 * alignment // 6)
    groups: dict[int, set[bytes]] = {}
    for letter in alphabet:
        text = base64.b64encode(bytes(alignment) + prefix + bytes([letter]) + bytes(3))[first : first + 4]
        groups.setdefault(text[3] >> 4, set()).add(text)
    for texts in groups.values():
        yield tuple(sorted(texts))


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


class _Group:
    """Needles for one automaton. None of them begins with another, since the automaton reports one hit an offset."""

    def __init__(self) -> None:
        self.needles: list[Needle] = []
        self._texts: set[bytes] = set()
        self._beginnings: set[bytes] = set()

    def takes(self, needle: Needle) -> bool:
        """Add the needle if there is room for it; return whether it was added."""
        beginnings = {needle.text[:end] for end in range(1, len(needle.text) + 1)}
        if (
            len(self.needles) == MAX_GROUP_NEEDLES
            or needle.text in self._beginnings
            or not beginnings.isdisjoint(self._texts)
        ):
            return False
        self.needles.append(needle)
        self._texts.add(needle.text)
        self._beginnings |= beginnings
        return True


def _groups(needles: list[Needle], seed: int) -> Iterator[tuple[Needle, ...]]:
    groups: list[_Group] = []
    for needle in dict.fromkeys(needles):
        if not any(group.takes(needle) for group in groups):
            groups.append(_Group())
            groups[-1].takes(needle)
    for group in groups:
        yield _ordered(group.needles, seed)


@derived_from_formats
def needle_groups() -> tuple[tuple[Needle, ...], ...]:
    """Return the needles of the active token formats, one group per automaton.

    An automaton with up to 64 needles is searched with vector instructions. The order decides which needles share a
    bucket there, and with it the speed, by a factor of two. For the default format, the seeds and the division into
    groups are the best of some dozens on real source (`bench_detection --tune`).
    """
    formats = [(form, form.prefix.encode()) for form in active_formats()]
    texts = [needle for form, prefix in formats for needle in _token_needles(prefix) + _nested_needles(form)]
    encoded = [needle for _, prefix in formats for needle in _byte_needles(prefix) + _base64_needles(prefix)]
    return (*_groups(texts, 55), *_groups(encoded, 31), *_groups(_stream_needles(), 12))

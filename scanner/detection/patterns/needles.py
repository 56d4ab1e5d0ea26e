"""The byte strings (needles) with which a token can begin in each encoding, for example `r8_` or `cjhf` in base64."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Literal, NamedTuple

from scanner.detection.patterns.token_formats import TokenFormat, active_formats, derived_from_formats

Kind = Literal["token", "characters", "hex", "list", "wide", "base64", "wide_base64", "reversed", "run", "stream"]

_BEFORE_VALUE = b"\"' =\n/:"
"""The bytes that may precede a value, for example in an assignment."""
WHOLE_DUMP_OFFSET = b"00000010"
"""The second offset in dumps that show 16 bytes in each line after an offset of eight digits."""
DUMP_OFFSETS = {
    b"0000020 ": (16,),
    b"0000016 ": (16,),
    b"0000010 ": (16, 8),
    b"0000008 ": (8,),
    b"00000006:": (6,),
    b"00000008:": (8,),
    b"00000004:": (4,),
}
"""The possible second offsets in the dumps of `od`, `hexdump` and `xxd -b`, each with the numbers of bytes in a line.
"""
ESCAPED_MAGICS = (
    *(b"\\x%b\\x%b" % digits for digits in ((b"1f", b"8b"), (b"1F", b"8B"))),
    *(b"0x%b,%b0x%b" % (one, gap, two) for gap in (b"", b" ") for one, two in ((b"1f", b"8b"), (b"1F", b"8B"))),
    *(b"x\\x9c", b"x\\x9C"),
)
"""The first bytes of gzip and zlib in string literals and lists of numbers, such as `0x1f, 0x8b`."""
LISTED_MAGICS = (b"31, 139, 8", b"31,139,8", b"31 139 8", b"31, -117, 8", b"31,-117,8")
"""The first bytes of gzip in lists of decimal numbers. Java writes bytes as numbers from -128 to 127."""
_PLAIN_BYTES = 4
_AFTER_LETTERS = (
    b"%",
    b"\\",
    b"&",
    b"=",
    b'"',
    b"'",
    b"`",
    b"\n",
    b"\r",
    b"<",
    b"\xe2",
    b"\xc2",
    b"\xef",
    b"\xcd",
    b"\x1b",
)
"""The first bytes of escape sequences and of separators between two letters of a token."""

# Templates for the beginning of a token in a hex dump. {0}, {1} and {2} are the codes of the first three letters, and
# {3} is the first digit of {2}.
_LISTS: tuple[str, ...] = (
    "{0},00,{1}",
    "{0},{1},{3}",
    "0x{0}",
    "{0} {1} {3}",
    "{0}  {1} {3}",
    "{0} {1}  {3}",
    "{0}:{1}:{3}",
    "{0}{1} {3}",
)
_LISTS += ("{0}-{1}-{3}", "{0} {1}{2}", "{0}\n {1} {3}", "{0} {1}\n {3}", "0   {1} {3}", "0   {2} ")
_LISTS += ("{0} 00 {1} ", "{0}\n{1}\n", "{0}\n{1}{2}", "{0}{1}\n{2}", "{0} {1} \n{3}", "{0} \n{1} {3}")
_LISTS += ("{0}\n{1} {3}", "{0} {1}\n{3}", "{0}\r\n{1} {3}", "{0} \\{1} ")
_LOWER_LISTS: tuple[str, ...] = (" {1}{2}", ": {1} {2}", ": {2}", ":  {2}")
_LOWER_LISTS += ("{0}, {1}, {2}", "{0}h,{1}h", "0 {1} {2}", "8 {1} {2}", "8 {2} ", "0 {2} ", "0  {1} {2}", "0  {2} ")
# Little-endian numbers of two or four bytes, as in `od -x`, `hexdump` and `xxd -e`.
_LOWER_LISTS += (" {1}{0}", "{2}{1} ", "{2}{1}\n", "{2}{1}{0}")
_UPPER_LISTS = ("00{1}{2}", "00{2}")
_DECIMAL_LISTS: tuple[str, ...] = ("{0}, {1}", "{0},{1}", "{0} {1} {2}", "{0},\n", "{0},\r\n", '{0},"')
_DECIMAL_LISTS += ("{0}\n", "{0}\r\n", "{0}<", "{0}|{1}|", "{0}.{1}.", "{0}:{1}:", "{0}/{1}/", "{0}_{1}_", "{0}\t{1}\t")
_DECIMAL_LISTS += ("{0}-{1}", "{0};{1}", "{0} 0{1}", "{0} {1} 0{2}", "{0})", "{0}+", "byte\t{0}\n", "{0}?\\u{1}?")


class Needle(NamedTuple):
    """A byte string with which a token, or data that may contain tokens, can begin in some encoding.

    Attributes:
        kind: The encoding of the token, or the kind of data, that begins with `text`.
        lead: For data that is decoded as a whole: the offset at which decoding begins, relative to `text`.
        before: If not empty, one of these bytes must precede `text`.
    """

    text: bytes
    kind: Kind
    lead: int = 0
    before: bytes = b""


def encoded_needles(*cores: bytes) -> list[tuple[bytes, int]]:
    """Return base64 letters that occur in every encoded text that contains one of the given strings.

    For example, `r8_` gives `cjhf`, `I4X` and `yOF`, for the three positions of a string in a group of three bytes.
    Each comes with its position (0 to 3) in a group of four letters.
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
    """Return the first bytes of a prefix, the needle for a token in plain text."""
    return prefix[:_PLAIN_BYTES]


def _token_needles(prefix: bytes) -> list[Needle]:
    """Return the byte strings with which a plain or escaped token can begin."""
    first, second, plain = prefix[:1], prefix[1:2], plain_needle(prefix)
    texts = [plain]
    texts += [plain[:cut] + start for cut in range(2, len(plain)) for start in _AFTER_LETTERS]
    texts += [first + b"\n" + prefix[1:3], first + b"\r\n" + prefix[1:3]]
    # Include two letters after the line break, so that all needles with a line break share one core (a string to search
    # for).
    texts += [first + end + prefix[1:3] for end in (b"=\n", b"=\r\n", b"\\\n")]
    texts += [first + zero_width for zero_width in (b"\xe2\x80\x8b", b"\xe2\x81\xa0", b"\xef\xbb\xbf", b"\xc2\xad")]
    # The first letter of a token, and then an escaped zero byte, as in UTF-16 text in JSON.
    texts += [first + b"\\x00", first + b"\\u0000"]
    for one, two in in_both_cases(b"%02x" % first[0], b"%02x" % second[0]):
        escapes = (b"\\x%b", b"\\u00%b", b"\\u{%b}", b"\\U000000%b", b"&#x%b", b"&#X%b", b"%%%b", b"%%25%b")
        texts += [escape % one for escape in escapes]
        texts += [b"=%b=%b" % (one, two), b"&amp;#x%b" % one, b"%%u00%b" % one]
    texts += [
        b"\\%o" % first[0],
        *(b"&#%d" % first[0], *(b"&#" + f"{first[0]:0{width}}".encode() for width in (4, 5, 7))),
        b"\\%d\\" % first[0],
        b"\\%03d\\" % first[0],
        b"\\x00%02x" % first[0],
    ]
    # The first letter of a token, and the beginning of a separator such as a colour or a tag. The last text is an
    # invisible tag character of Unicode.
    texts += [first + b'"]\n[', first + b"\x1b[", first + b"</", first + b"\xcd\x8f"]
    texts.append(chr(0xE0000 | first[0]).encode() + b"\xf3")
    # PowerShell's CLIXML writes an underscore as `_x005F_`.
    escaped = prefix[: prefix.find(b"_") + 1] + b"x005F"
    texts += [] if escaped.startswith((plain, b"x")) else [escaped]
    characters = (b"'%b'" % second, b'"%b",' % second)
    return [*(Needle(text, "token") for text in texts), *(Needle(text, "characters") for text in characters)]


def _rarer_needles(prefix: bytes) -> list[Needle]:
    """Return byte strings with which a token can begin in rare notations, such as Perl escapes."""
    before, underscore, _ = prefix.partition(b"_")
    texts = [start % (b"%02x" % prefix[0]) for start in (b"\\x{%b", b"`u{%b")]
    after = (b"{\\", b"{u", b"$", b"+AF8") if underscore else ()
    texts += [b"\\N{U+", *(before + start for start in after)]
    return [
        *(Needle(text, "token") for text in texts),
        Needle(b"%d,  %d" % (prefix[0], prefix[1]), "list"),
        Needle(plain_needle(prefix)[::-1], "reversed"),
    ]


def in_both_cases(*digits: bytes) -> list[tuple[bytes, ...]]:
    return list(dict.fromkeys((digits, tuple(map(bytes.upper, digits)))))


def _byte_needles(prefix: bytes) -> list[Needle]:
    lower = tuple(b"%02x" % byte for byte in prefix[:3])
    cases = in_both_cases(*lower)
    needles = [Needle(b"".join(digits), "hex") for digits in cases]
    # Most programs, such as `xxd`, write hexadecimal digits in lower case. Intel HEX writes them in upper case.
    texts = [template.format(*_texts(digits)) for template in _LISTS for digits in cases]
    texts += [template.format(*_texts(lower)) for template in _LOWER_LISTS]
    texts += [template.format(*_texts(cases[-1])) for template in _UPPER_LISTS]
    texts += [template.format(*prefix[:2], str(prefix[2])[0]) for template in _DECIMAL_LISTS]
    needles += [Needle(text.encode(), "list") for text in dict.fromkeys(texts)]
    one, two, three = (prefix[at : at + 1] for at in range(3))
    needles += [Needle(one + b"\0" + two + b"\0" + three, "wide"), Needle(one + b"\0\0\0" + two, "wide")]
    needles += [Needle(b"\0".join(bytes([byte]) for byte in text), "wide_base64") for text in base64_texts(prefix)]
    return needles


def _texts(digits: tuple[bytes, ...]) -> tuple[str, ...]:
    return (*(pair.decode() for pair in digits), digits[2][:1].decode())


def base64_texts(prefix: bytes) -> list[bytes]:
    """Return the first three base64 letters of a prefix, once for each position in a group of three bytes."""
    return [text[:3] for text, _ in encoded_needles(prefix[:3])]


def _base64_needles(prefix: bytes) -> list[Needle]:
    plain = base64_texts(prefix)
    texts = [*plain]
    # Include the fourth letter where it is known (`cjhf`), so that one core (a string to search for) is enough for both
    # kinds of line breaks.
    for text, _ in encoded_needles(prefix[:3]):
        texts += [text[:cut] + gap + text[cut:] for gap in (b"\n", b"\r\n") for cut in (1, 2)]
    # Encoders break a line only between groups of four letters. So a line can break inside the second text (`I4`, `X`)
    # and the third text (`y`, `OF`), but not inside the first text (`cjh`).
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
    """Yield groups of strings of four letters with which a token in base64 can begin.

    The strings of a group differ only in the low four bits of the last letter.
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
    """Return the byte strings with which encoded data other than a single token can begin."""
    magics = (
        b"\x1f\x8b\x08",
        b"H4sI",
        b"PK\x03\x04",
        b"7z\xbc\xaf",
        b"\x04\x22\x4d\x18",
    )
    texts = [encoded_needles(magic)[0][0] for magic in magics]
    texts += [b"KLUv", b"XQAA", b"TFpJUA", b"Qlpo", b"eJw", b"eJx", b"eJy", b"eJz", b"begin 6", b"begin 7"]
    return [
        *(Needle(text, "stream") for text in texts),
        *(Needle(text, "stream", 1) for text in (b"\nliteral ", b"\ndelta ")),
        *(Needle(text, "stream") for text in (b"1f8b08", b"1F8B08", b"789c", b"789C")),
        *(Needle(text, "stream") for text in (*ESCAPED_MAGICS, *LISTED_MAGICS)),
        *(Needle(b"\n" + offset, "stream", 1) for offset in DUMP_OFFSETS),
        Needle(WHOLE_DUMP_OFFSET, "stream"),
        # The base64 of an xz file begins with `/Td6WF`, or `_Td6WF` in the alphabet for URLs. Leave out the first
        # letter.
        Needle(b"Td6WF", "stream", -1),
        *(Needle(b"%ceN" % before, "stream", 1) for before in _BEFORE_VALUE),
        *(Needle(b"eA" + third, "stream", before=_BEFORE_VALUE) for third in (b"E", b"F", b"G", b"H")),
        *(Needle(b"eF" + third, "stream", before=_BEFORE_VALUE) for third in (b"4", b"5", b"6", b"7")),
    ]


@derived_from_formats
def needles() -> tuple[Needle, ...]:
    """Return the byte strings with which a token of an active format can begin, in all encodings."""
    found = _stream_needles()
    for form in active_formats():
        prefix = form.prefix.encode()
        found += _token_needles(prefix) + _nested_needles(form) + _byte_needles(prefix) + _base64_needles(prefix)
        found += _rarer_needles(prefix)
    return tuple(dict.fromkeys(found))

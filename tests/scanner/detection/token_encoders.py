"""Functions that encode a token in every way that the detector knows."""

from __future__ import annotations

import base64
import binascii
import bz2
import gzip
import json
import lzma
import random
import string
import zlib
from collections.abc import Callable

import zstandard

from scanner.detection.patterns.token_formats import DEFAULT_FORMATS, TokenFormat
from tests.scanner.detection import dump_tools
from tests.scanner.detection.rarer_encoders import RARER_ENCODINGS
from tests.scanner.detection.token_parts import Encoder, body_of, cut, cut_body, each, prefix_of


def random_token(chance: random.Random, form: TokenFormat = DEFAULT_FORMATS[0]) -> bytes:
    """Return an invented token of the given format."""
    return form.invented(chance.choice).encode()


def _noise(chance: random.Random, most: int) -> bytes:
    return chance.randbytes(chance.randrange(most))


def _text_noise(chance: random.Random, most: int) -> bytes:
    return "".join(chance.choices(string.printable, k=chance.randrange(most))).encode()


def _wrapped_base64(token: bytes, chance: random.Random, newline: bytes = b"\n", width: int = 76) -> bytes:
    text = base64.b64encode(_noise(chance, 150) + token + _noise(chance, 150))
    return newline.join(text[at : at + width] for at in range(0, len(text), width))


def _underscore(written: str) -> Encoder:
    """Return a function that replaces the first underscore or hyphen of a token by the text `written`."""

    def encode(token: bytes, chance: random.Random) -> bytes:
        at = next((at for at, byte in enumerate(token) if byte in b"_-"), 1)
        escape = written % token[at] if "%" in written.replace("%%", "") else written + chr(token[at])
        return token[:at] + escape.encode() + token[at + 1 :]

    return encode


def _instead_of_underscores(written: bytes) -> Encoder:
    return lambda token, chance: token.replace(b"_", written)


def _in_parts(line: bytes) -> Encoder:
    """Return a function that writes a token as three numbered parts, each in the format `line`."""
    return lambda token, chance: b"".join(
        line % item for item in enumerate((prefix_of(token) + body_of(token)[:6], body_of(token)[6:-9], token[-9:]))
    )


def _basic_auth(token: bytes, chance: random.Random) -> bytes:
    return b"Authorization: Basic " + base64.b64encode(b"user" * chance.randrange(3) + b":" + token)


def _base64_times(times: int) -> Encoder:
    def encode(token: bytes, chance: random.Random) -> bytes:
        text = _noise(chance, 12) + token + _noise(chance, 12)
        for _ in range(times):
            text = base64.b64encode(text)
        return text

    return encode


def _long_nested(token: bytes, chance: random.Random) -> bytes:
    text = _noise(chance, 9) + token
    for _ in range(5):
        text = base64.b64encode(text + chance.randbytes(600))
    return b'"' + text + b'"'


def _compressed_base64(compress: Callable[[bytes], bytes], *, prose: bool = False) -> Encoder:
    """Return a function that compresses a text with the token, and encodes the result in base64.

    `prose` adds so much text that the token is not visible in the compressed bytes.
    """

    def encode(token: bytes, chance: random.Random) -> bytes:
        if prose:
            words = "".join(chance.choices("etaoin shrdlu\n", k=2000)).encode()
            return b'x = "' + base64.b64encode(compress(words + token + words)) + b'"'
        return b'x = "' + base64.b64encode(compress(_text_noise(chance, 60) + token + _text_noise(chance, 60))) + b'"'

    return encode


def _notebook(token: bytes, chance: random.Random) -> bytes:
    source = ["import os\n", f"os.environ['KEY'] = \"{token.decode()}\"\n"]
    return json.dumps({"cells": [{"cell_type": "code", "source": source, "outputs": []}]}).encode()


def _notebook_cut(token: bytes, chance: random.Random) -> bytes:
    cut = chance.randrange(3, len(token) - 2)
    source = [f'key = ("{token[:cut].decode()}"\n', f'       "{token[cut:].decode()}")\n']
    return json.dumps({"cells": [{"cell_type": "code", "source": source}]}, indent=1).encode()


def _hexdump(token: bytes, chance: random.Random) -> bytes:
    text = b"=" * (16 * chance.randrange(3) + chance.randrange(14)) + token + b"\n"
    lines = []
    for at in range(0, len(text), 16):
        row = text[at : at + 16]
        shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{at:08x}  {row.hex(' ', 1):<47}  |{shown}|")
    return "\n".join(lines).encode()


def _wide(codec: str) -> Encoder:
    return lambda token, chance: ("ключ: " + token.decode() + " ж").encode(codec)


def _powershell(token: bytes, chance: random.Random) -> bytes:
    return b"powershell -EncodedCommand " + base64.b64encode(("$k='" + token.decode() + "'").encode("utf-16-le"))


def _registry(token: bytes) -> bytes:
    pairs = [f"{byte:02x}" for byte in token.decode().encode("utf-16-le")]
    rows = [",".join(pairs[at : at + 25]) for at in range(0, len(pairs), 25)]
    return b'"KEY"=hex(2):' + ",\\\n  ".join(rows).encode() + b",00,00\n"


def _uuencoded(text: bytes) -> bytes:
    rows = b"".join(binascii.b2a_uu(text[at : at + 45]) for at in range(0, len(text), 45))
    return b"\nbegin 644 .env\n" + rows + b"`\nend\n"


def _binary_patch(text: bytes) -> bytes:
    packed = zlib.compress(text)
    rows = []
    for at in range(0, len(packed), 52):
        row = packed[at : at + 52]
        size = len(row)
        first = chr(size + 64) if size <= 26 else chr(size + 70)
        rows.append(first.encode() + base64.b85encode(row, pad=True) + b"\n")
    return b"GIT binary patch\nliteral %d\n" % len(text) + b"".join(rows) + b"\nliteral 0\nHcmV?d00001\n\n"


def _dump(tool: Callable[[bytes], str]) -> Encoder:
    return lambda token, chance: b"\n" + tool(_text_noise(chance, 60) + token + b"\n" * 40).encode()


ENCODINGS: dict[str, Encoder] = {
    "plain": lambda token, chance: token,
    "plain, glued to letters on both sides": lambda token, chance: b"KEY_abc" + token + b"XYZ_old",
    "base64": lambda token, chance: base64.b64encode(_noise(chance, 30) + token + _noise(chance, 30)),
    "base64url": lambda token, chance: base64.urlsafe_b64encode(_noise(chance, 30) + token + _noise(chance, 30)),
    "base64, lines of 76": _wrapped_base64,
    "base64, CRLF lines of 64": lambda token, chance: _wrapped_base64(token, chance, b"\r\n", 64),
    "base64, lines of any length": lambda token, chance: _wrapped_base64(token, chance, b"\n", chance.randrange(7, 90)),
    "base64, lines inside a JSON string": lambda token, chance: _wrapped_base64(token, chance, b"\\n"),
    "base64 in a Basic header": _basic_auth,
    "base64 of base64": _base64_times(2),
    "base64 five times, long": _long_nested,
    "base64 in UTF-16": lambda token, chance: base64.b64encode(_noise(chance, 9) + token).decode().encode("utf-16"),
    "UTF-16 in base64 (PowerShell)": _powershell,
    "gzip in base64": _compressed_base64(gzip.compress),
    "gzip in base64 of base64 (Helm)": lambda token, chance: base64.b64encode(
        base64.b64encode(gzip.compress(_text_noise(chance, 60) + token))
    ),
    "zlib in base64": _compressed_base64(zlib.compress),
    "zlib in base64, best level": _compressed_base64(lambda text: zlib.compress(text, 9)),
    "zlib in base64, fast level": _compressed_base64(lambda text: zlib.compress(text, 1)),
    "hex": lambda token, chance: token.hex().encode(),
    "hex, capitals": lambda token, chance: token.hex().upper().encode(),
    "hex, 0x list": lambda token, chance: ", ".join(f"0x{byte:02x}" for byte in token).encode(),
    "hex, 0x list over lines": lambda token, chance: ",\n  ".join(f"0x{byte:02X}" for byte in token).encode(),
    "hex, colons": lambda token, chance: token.hex(":").encode(),
    "hex dump with a text column": _hexdump,
    r"hex, \x": each("\\x%02x"),
    r"\x of the underscore only": _underscore("\\x%02x"),
    r"\u": each("\\u%04x"),
    r"\u, capitals": each("\\u%04X"),
    r"\u of the underscore only": _underscore("\\u%04x"),
    r"\u{}": each("\\u{%x}"),
    "octal escapes": each("\\%03o"),
    "percent": each("%%%02X"),
    "percent of the underscore only": _underscore("%%%02X"),
    "percent, twice": _underscore("%%25%02x"),
    "HTML entities, decimal": each("&#%d;"),
    "HTML entities, hex": each("&#x%x;"),
    "HTML entity of the underscore only": _underscore("&#%d;"),
    "backslash before the underscore (Markdown)": _underscore("\\"),
    "quoted-printable, soft break": cut(b"=\r\n"),
    "quoted-printable, underscore": _underscore("=%02X"),
    "UTF-16, little-endian with mark": lambda token, chance: b"\xff\xfe" + _wide("utf-16-le")(token, chance),
    "UTF-16, big-endian with mark": lambda token, chance: b"\xfe\xff" + _wide("utf-16-be")(token, chance),
    "UTF-16, little-endian": _wide("utf-16-le"),
    "UTF-16, big-endian": _wide("utf-16-be"),
    "UTF-32, little-endian with mark": lambda token, chance: b"\xff\xfe\0\0" + _wide("utf-32-le")(token, chance),
    "UTF-32, little-endian": _wide("utf-32-le"),
    "UTF-32, big-endian": _wide("utf-32-be"),
    "zero-width space inside": cut("\u200b".encode()),
    "soft hyphen and word joiner inside": cut("\u00ad\u2060".encode()),
    "decimal byte list": lambda token, chance: str(list(token)).encode(),
    "notebook": _notebook,
    "notebook, adjacent literals": _notebook_cut,
    "concatenation with +": lambda token, chance: b'key = "' + cut(b'" + "', 2, pieces=3)(token, chance) + b'"',
    "adjacent literals": lambda token, chance: b"('" + cut(b"' '", 2, pieces=3)(token, chance) + b"')",
    "adjacent literals on two lines": lambda token, chance: b'("' + cut(b'"\n    f"', 2)(token, chance) + b'")',
    "concatenation with . (PHP)": lambda token, chance: b"'" + cut(b"' . '", 2)(token, chance) + b"'",
    "backslash and newline": cut(b"\\\n", 2),
    "soft-wrapped line": cut(b"\n", 1),
    "soft-wrapped line, indented": cut(b"\n    ", 2),
    "soft-wrapped quote of a mail": cut(b"\n> ", 2),
    "decimal escapes (Lua)": each("\\%03d"),
    r"\x00 of the underscore only (C#)": _underscore("\\x%04x"),
    r"\N{LOW LINE} (Python)": _instead_of_underscores(b"\\N{LOW LINE}"),
    "_x005F_ (PowerShell CLIXML)": _instead_of_underscores(b"_x005F_"),
    r"\textunderscore (LaTeX)": _instead_of_underscores(b"\\textunderscore{}"),
    "tag characters": lambda token, chance: "".join(chr(0xE0000 + byte) for byte in token).encode(),
    "grapheme joiner and variation selector inside": cut("\u034f\ufe0f".encode()),
    "colours around the prefix (grep)": lambda token, chance: (
        b"\x1b[01;31m\x1b[K" + prefix_of(token) + b"\x1b[m\x1b[K" + body_of(token)
    ),
    "colours inside, escaped in JSON": cut_body(b"\\u001b[0m\\u001b[1m"),
    "markup inside (HTML)": cut_body(b"</em><em class='x'>", pieces=3),
    "markup inside (flat OpenDocument)": cut_body(b'</text:span><text:span text:style-name="T2">'),
    "markup inside (RTF)": cut_body(b"}{\\rtlch\\fcs1 \\af0 \\ltrch\\fcs0 \\insrsid2 "),
    "array of characters": lambda token, chance: ("{'" + "', '".join(token.decode()) + "', 0}").encode(),
    "template with the prefix as an expression": lambda token, chance: (
        b'`${"' + prefix_of(token)[:-1] + b'"}' + token[len(prefix_of(token)) - 1 :] + b"`"
    ),
    "prefix and rest in two variables": lambda token, chance: (
        b'prefix = "%b"\nbody = "%b"\n' % (prefix_of(token), body_of(token))
    ),
    "a space behind the prefix": lambda token, chance: prefix_of(token) + b" " + body_of(token),
    "terminal recording, typed letter by letter": each('[1.25, "o", "%c"]\n'),
    "terminal recording, wrapped": lambda token, chance: token[:20] + b" \r" + token[20:],
    "terminal recording, wrapped with the letter repeated": lambda token, chance: token[:21] + b"\r" + token[20:],
    "cell of a table over two rows": cut_body(b" |\n| | "),
    "encoded words of a mail": lambda token, chance: (
        b"=?utf-8?q?" + token[:20].replace(b"_", b"=5F") + b"?=\r\n =?utf-8?q?" + token[20:] + b"?="
    ),
    "registry export (hex(2))": lambda token, chance: _registry(token),
    "uuencode": lambda token, chance: _uuencoded(_text_noise(chance, 60) + token),
    "git binary patch": lambda token, chance: _binary_patch(_text_noise(chance, 60) + token),
    "bzip2 in base64": _compressed_base64(bz2.compress),
    "xz in base64": _compressed_base64(lzma.compress, prose=True),
    "zstd in base64": _compressed_base64(zstandard.compress, prose=True),
    "lzma in base64": _compressed_base64(lambda text: lzma.compress(text, lzma.FORMAT_ALONE), prose=True),
    "xz in base64url": lambda token, chance: (
        b"https://a.example/#"
        + base64.urlsafe_b64encode(lzma.compress("".join(chance.choices("etaoin", k=900)).encode() + token)).rstrip(
            b"="
        )
    ),
    "byte array of JavaScript as an object": lambda token, chance: json.dumps(
        dict(enumerate(token)), separators=(",", ":")
    ).encode(),
    "byte array as Node prints it": lambda token, chance: (
        "Uint8Array(40) [\n  "
        + ",\n  ".join(", ".join(f"{byte:3}" for byte in token[at : at + 12]) for at in range(0, len(token), 12))
        + "\n]"
    ).encode(),
    "registry export (hex)": lambda token, chance: b'"KEY"=hex:' + token.hex(",").encode(),
    "Java bytes": lambda token, chance: ", ".join(f"(byte)0x{byte:02X}" for byte in token).encode(),
    "zlib in a link (kroki, pako)": lambda token, chance: (
        b"https://kroki.io/graphviz/svg/" + base64.urlsafe_b64encode(zlib.compress(token * 2, 9))
    ),
    r"\x{5f} (Perl)": each("\\x{%x}"),
    r"\N{U+5F} (Perl)": _underscore("\\N{U+%04X}"),
    r"\o{137} (Perl)": _underscore("\\o{%o}"),
    "`u{5f} (PowerShell)": each("`u{%x}"),
    r"\5f (CSS)": _instead_of_underscores(b"\\5f "),
    r"\00005f (CSS)": _underscore("\\%06x"),
    r"\char95 (LaTeX)": _instead_of_underscores(b'\\char"5F '),
    r"{\_} (LaTeX)": _instead_of_underscores(b"{\\_}"),
    r"\'5f (RTF)": _underscore("\\'%02x"),
    "%u005F (JavaScript's escape)": _underscore("%%u%04X"),
    r"\095 (OCaml)": _underscore("\\%03d"),
    "Chr(95) between two literals": _instead_of_underscores(b'" & Chr(95) & "'),
    "format string with the rest as argument": lambda token, chance: (
        b'key = "' + prefix_of(token) + b'%s" % "' + body_of(token) + b'"\n'
    ),
    "template with the rest in a variable above": lambda token, chance: (
        b"const rest = '" + body_of(token) + b"';\nconst key = `" + prefix_of(token) + b"${rest}`;\n"
    ),
    "prefix in a variable of a shell": lambda token, chance: (
        b"PREFIX=" + prefix_of(token) + b'\nKEY="${PREFIX}' + body_of(token) + b'"\n'
    ),
    "two halves appended": lambda token, chance: (
        b'strcpy(key, "' + token[: len(token) // 2] + b'");\nstrcat(key, "' + token[len(token) // 2 :] + b'");\n'
    ),
    "line of curl --trace-ascii inside": cut_body(b"\n0040: "),
    "CDATA section inside": cut_body(b"]]><![CDATA["),
    "$([char]95) inside a string (PowerShell)": _instead_of_underscores(b"$([char]95)"),
    r"$'\x5f' between two words (shell)": _instead_of_underscores(b"$'\\x5f'"),
    "characters in columns (od -c)": _dump(dump_tools.od_characters),
    "octal bytes (od -b)": _dump(dump_tools.od_octal_bytes),
    "octal words (od)": _dump(dump_tools.od_octal_words),
    "decimal bytes (od -tu1)": _dump(dump_tools.od_decimal_bytes),
    "UTF-7": _instead_of_underscores(b"+AF8-"),
    "UTF-7 of IMAP": _instead_of_underscores(b"&AF8-"),
    "`_ (PowerShell)": _instead_of_underscores(b"`_"),
    r"\U005f (property list)": _underscore("\\U%04x"),
    r"string gap, \ before and after a line break (Haskell)": cut_body(b"\\\n    \\"),
    r"\z before a line break (Lua)": cut_body(b"\\z\n    "),
    r"\: inside (troff)": cut_body(b"\\:", pieces=3),
    "distances inside (PostScript)": lambda token, chance: b"[(" + cut_body(b") 20 (", pieces=4)(token, chance) + b")]",
    "comment inside (React)": cut_body(b"<!-- -->"),
    "text elements inside (SVG)": cut_body(b'</text><text x="24">'),
    "border of a box inside (Rich)": cut_body(" \u2502\n\u2502 ".encode()),
    "time of a log line inside": cut_body(b"\n2026-01-02T03:04:05.1234567Z "),
    "three literals": _in_parts(b'const part%d = "%b";\n'),
    "values of three variables": _in_parts(b"PART_%d=%b\n"),
    "hex, underscores": lambda token, chance: token.hex("_", -4).encode(),
    "hex, groups of four bytes": lambda token, chance: token.hex(" ", -4).encode(),
    "hex, 0x list with comments (Wireshark)": lambda token, chance: b" */\n".join(
        b"0x" + token[at : at + 8].hex(" ").replace(" ", ", 0x").encode() + b", /* " + token[at : at + 8]
        for at in range(0, len(token), 8)
    ),
    "hex, 0x list with suffixes (Dalvik)": each("    0x%02xt\n"),
    "UTF-16 in hex (SQL Server)": lambda token, chance: (
        b"0x" + token.decode().encode("utf-16-le").hex().upper().encode()
    ),
    "two formats below each other (od -t x1c)": _dump(dump_tools.od_bytes_and_characters),
    "binary digits (xxd -b)": _dump(dump_tools.xxd_binary),
    "gzip in hex": lambda token, chance: b"0x" + gzip.compress(_text_noise(chance, 60) + token, mtime=0).hex().encode(),
    "zlib in hex": lambda token, chance: (
        b"X'" + zlib.compress(_text_noise(chance, 60) + token, 6).hex().encode() + b"'"
    ),
    "character by character, chr(114) + chr(56) …": each("chr(%d)", " + "),
    "[char]114+[char]56 … (PowerShell)": each("[char]%d+"),
    "decimal bytes, hyphens": each("%d-"),
    "decimal bytes, padded": each("%03d "),
    "decimal bytes of an assembler": each("\t.byte\t%d\n"),
    "hex, one number on each line (Verilog)": each("%02x\n"),
    "UTF-16 in hex with spaces": each("%02X 00", " "),
    "HTML entities, hex, escaped twice": each("&amp;#x%x;"),
    "hex, little-endian words of C": lambda token, chance: b", ".join(
        b"0x" + token[at : at + 4].ljust(4, b"\0")[::-1].hex().encode() for at in range(0, len(token), 4)
    ),
    "last letter marked (Kryo)": lambda token, chance: b"\0" + token[:-1] + bytes((token[-1] | 0x80,)) + b"\0",
    "block length inside (GIF)": lambda token, chance: b"\xff" + token[:30] + b"\x0f" + token[30:] + b"\0",
    **RARER_ENCODINGS,
}
"""The encodings that must be found, by name. Each function writes a token in its encoding."""

"""Functions that encode a token in rare ways: in markup, in a recorded terminal session, or in several parts."""

from __future__ import annotations

import base64
import gzip
import random
import textwrap
import zlib
from collections.abc import Callable

from tests.scanner.detection.dump_tools import hexdump_characters, od_decimal_offsets, xxd_binary_wide
from tests.scanner.detection.token_parts import Encoder, body_of, cut_body, each, prefix_of


def _dumped(tool: Callable[[bytes], str]) -> Encoder:
    return lambda token, chance: b"\n" + tool(b"=" * chance.randrange(30) + token + b"\n" * 40).encode()


def _halves(line: str) -> Encoder:
    """Return a function that encodes a token's halves in base64, and writes each half with the format `line`."""

    def encode(token: bytes, chance: random.Random) -> bytes:
        at = chance.randrange(15, len(token) - 8)
        return (line * 2 % tuple(base64.b64encode(half).decode() for half in (token[:at], token[at:]))).encode()

    return encode


def _appended(first: bytes, other: bytes) -> Encoder:
    """Return a function that writes code which builds a token from three parts.

    Args:
        first: The format of the statement that assigns a part to a variable.
        other: The format of the statements that append a part.
    """
    return lambda token, chance: b"".join(
        (other if at else first) % part
        for at, part in enumerate((prefix_of(token) + body_of(token)[:6], body_of(token)[6:-7], token[-7:]))
    )


def _xxd_capitals(token: bytes, chance: random.Random) -> bytes:
    data = b"=" * chance.randrange(30) + token + b"\nmore text that follows"
    rows = [data[at : at + 16] for at in range(0, len(data), 16)]
    return "".join(
        f"{16 * number:08x}: {row.hex(' ', 2).upper():<39}  text\n" for number, row in enumerate(rows)
    ).encode()


RARER_ENCODINGS: dict[str, Encoder] = {
    "parts of an answer (AI SDK)": lambda token, chance: b"\n".join(
        b'0:"%b"' % token[at : at + 4] for at in range(0, len(token), 4)
    ),
    "soft-wrapped line of a mail (format=flowed)": cut_body(b" \r\n"),
    r"\verb twice (LaTeX)": cut_body(rb"|\verb|"),
    "two commands (LaTeX)": cut_body(rb"}\texttt{", pieces=3),
    r"\linebreak inside (LaTeX)": cut_body(b"\\linebreak[0]", pieces=3),
    "length of a chunk inside (HTTP)": cut_body(b"\r\n1f4\r\n"),
    "continued line (COBOL)": cut_body(b'\n      -    "'),
    "wrapped cell (psql)": cut_body(b".\n     |."),
    "emphasis of the prefix (Markdown)": lambda token, chance: b"**" + prefix_of(token) + b"**" + body_of(token),
    "link inside (terminal)": cut_body(b"\x1b]8;;\x1b\\\x1b(B\x1b[m"),
    "colours inside (cat -v)": cut_body(b"^[[0m^[[1;32m"),
    "terminal recording, letters that were typed": each('[1.25, "i", "%c"]\n'),
    "control words inside (RTF)": cut_body(b"\\b0\\cf1\\fs22 "),
    "tags inside, escaped in JSON": cut_body(b"\\u003c/span\\u003e\\u003cspan class=a\\u003e"),
    "tags inside, shown as text": cut_body(b"&lt;/em&gt;"),
    "quotes changed inside (shell)": cut_body(b"\"'"),
    "halves in base64, one by one": _halves('atob("%s") + '),
    "halves in base64, values of two variables": _halves("PART=%s\n"),
    "halves in hex, one by one": lambda token, chance: (
        f'unhex("{token[:20].hex()}") || unhex("{token[20:].hex()}")'.encode()
    ),
    "gzip in escapes (go-bindata)": lambda token, chance: (
        b'var data = "' + b"".join(b"\\x%02x" % byte for byte in gzip.compress(token * 2, mtime=0)) + b'"\n'
    ),
    "gzip in a list of numbers (xxd -i)": lambda token, chance: (
        b"{" + ", ".join(f"0x{byte:02x}" for byte in gzip.compress(token * 2, mtime=0)).encode() + b"};\n"
    ),
    "zlib as Python prints it": lambda token, chance: f"loads({zlib.compress(token * 2)!r})".encode(),
    "base64, spaces instead of line breaks": lambda token, chance: base64.encodebytes(
        b"=" * chance.randrange(80) + token
    ).replace(b"\n", b" "),
    "base64 over several statements": lambda token, chance: "".join(
        f"s += '{line}';\n" for line in textwrap.wrap(base64.b64encode(b"=" * chance.randrange(9) + token).decode(), 30)
    ).encode(),
    "array of characters, one on each line": lambda token, chance: b",\n    ".join(
        b"'%c'" % letter for letter in token
    ),
    "array of characters in JSON, one on each line": lambda token, chance: (
        b'[\n  "' + b'",\n  "'.join(b"%c" % letter for letter in token) + b'"\n]'
    ),
    "array of bytes (Rust)": each("b'%c'", ", "),
    "characters with + between them": each("'%c'", " + "),
    "variable appended to (shell)": _appended(b"KEY=%b\n", b'KEY="${KEY}%b"\n'),
    "variable appended to (batch file)": _appended(b"set K=%b\r\n", b"set K=%%K%%%b\r\n"),
    "variable appended to (make)": _appended(b"KEY := %b\n", b"KEY := $(KEY)%b\n"),
    "elements below each other (Android)": _appended(
        b'<string name="a">%b</string>\n', b'<string name="b">%b</string>\n'
    ),
    "HTML entities, padded": each("&#%07d;"),
    "decimal bytes below each other (YAML)": each("- %d\n"),
    "decimal bytes in elements (XML)": each("<byte>%d</byte>\n"),
    "decimal bytes of an array (PHP)": each("    [1] => %d\n"),
    "decimal bytes, vertical lines": each("%d|"),
    "hex dump with capitals (xxd -u)": _xxd_capitals,
    "characters in columns (hexdump -c)": _dumped(hexdump_characters),
    "characters in columns (od -A d -c)": _dumped(od_decimal_offsets),
    "binary digits, eight in each line (xxd -b -c 8)": _dumped(xxd_binary_wide),
    "%u0072 (JavaScript's escape)": each("%%u%04X"),
    r"\u114? (RTF)": each("\\u%d?"),
    r"\72 of every letter (CSS)": each("\\%x "),
    "{underscore} (AsciiDoc)": lambda token, chance: token.replace(b"_", b"{underscore}"),
    r"\fR inside (troff)": cut_body(b"\\fR"),
    "backwards, and reversed by the program": lambda token, chance: b'key = "%b"[::-1]' % token[::-1],
    "separators that the program removes": lambda token, chance: (
        b"'" + cut_body(b"#", pieces=3)(token, chance) + b"'.replace('#', '')"
    ),
    "words of a list (qw, %w)": lambda token, chance: b" qw(" + cut_body(b" ", pieces=3)(token, chance) + b")",
    "gzip in hex, capitals": lambda token, chance: b"0x" + gzip.compress(token * 2, mtime=0).hex().upper().encode(),
    "zlib in hex, capitals": lambda token, chance: b"0x2F000000" + zlib.compress(token * 2).hex().upper().encode(),
    "gzip in a list of numbers, capitals": lambda token, chance: ", ".join(
        f"0x{byte:02X}" for byte in gzip.compress(token * 2, mtime=0)
    ).encode(),
    "gzip in a list of decimal numbers": lambda token, chance: str(list(gzip.compress(token * 2, mtime=0))).encode(),
    "gzip in a list of numbers with signs (Java)": lambda token, chance: ", ".join(
        str(byte - 256 if byte > 127 else byte) for byte in gzip.compress(token * 2, mtime=0)
    ).encode(),
    "hex, list without 0x (Rust)": each("%x, "),
    "hex, numbers ending with h (assembler)": each("%02xh,"),
}
"""Rare encodings of a token, by name. Each function writes a token in its encoding."""

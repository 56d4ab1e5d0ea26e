"""Functions that write a token in a way that the detector neither finds nor counts as unread.

`docs/detection.md` lists these ways. A test fails when the detector learns one of them.
"""

from __future__ import annotations

import base64
import bz2
import gzip
import json
import lzma
import quopri
import random
import string
import struct
import zlib
from collections.abc import Callable
from typing import NamedTuple

import brotli
import zstandard

from tests.scanner.detection import dump_tools
from tests.scanner.detection.archive_builders import zipped
from tests.scanner.detection.store_builders import outlook_store
from tests.scanner.detection.stream_builders import deflated
from tests.scanner.detection.token_parts import Encoder, body_of, each, prefix_of

NEEDLE = "needs a needle of its own"
PROOF = "nothing proves that text has this encoding"
RARE = "rare"
ENCRYPTED = "encrypted"
DISTANCE = "the parts are far apart, short, or in another order"
NESTED = "only long base64 is decoded in every way"

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_PLANTUML = bytes.maketrans(
    (string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/").encode(),
    (string.digits + string.ascii_uppercase + string.ascii_lowercase + "-_").encode(),
)
_LZMA2 = [{"id": lzma.FILTER_LZMA2}]
_NUMPY = b"\x93NUMPY\1\0v\0{'descr': '<i8', 'fortran_order': False, 'shape': (40,), }".ljust(127) + b"\n"
_SMALL_FIRST = bytes.maketrans(
    (string.ascii_uppercase + string.ascii_lowercase).encode(),
    (string.ascii_lowercase + string.ascii_uppercase).encode(),
)
_ROT13 = bytes.maketrans(
    (string.ascii_lowercase + string.ascii_uppercase).encode(),
    b"".join((text[13:] + text[:13]).encode() for text in (string.ascii_lowercase, string.ascii_uppercase)),
)


class SilentKind(NamedTuple):
    """A way to write a token that the detector does not find, and the reason why it does not."""

    encode: Encoder
    reason: str


def _of(encode: Callable[[bytes], bytes], reason: str) -> SilentKind:
    return SilentKind(lambda token, chance: encode(token), reason)


def _text(token: bytes) -> bytes:
    return b"# settings of the service\nREPLICATE_API_TOKEN=" + token + b"\nDEBUG=1\n"


def _prose(token: bytes, chance: random.Random) -> bytes:
    """Return random letters and then the token, so that no part of the token is readable in the compressed bytes."""
    return "".join(chance.choices("etaoin shrdlu", k=300)).encode() + _text(token)


def _compressed(compress: Callable[[bytes], bytes], write: Callable[[bytes], bytes]) -> SilentKind:
    return SilentKind(lambda token, chance: write(compress(_prose(token, chance))), NEEDLE)


def _base58(token: bytes) -> bytes:
    number, letters = int.from_bytes(token), ""
    while number:
        number, digit = divmod(number, 58)
        letters = _BASE58[digit] + letters
    return letters.encode()


def _base64_times(times: int) -> Encoder:
    def encode(token: bytes, chance: random.Random) -> bytes:
        text = chance.randbytes(chance.randrange(12)) + token
        for _ in range(times):
            text = base64.b64encode(text)
        return text

    return encode


def _hex(separator: str) -> SilentKind:
    return SilentKind(each("%02x", separator), NEEDLE)


def _list(stream: bytes) -> bytes:
    return str(list(stream)).encode()


def _escapes(stream: bytes) -> bytes:
    return b'b"' + b"".join(b"\\x%02x" % byte for byte in stream) + b'"'


def _json_string(stream: bytes) -> bytes:
    return json.dumps({"body": stream.decode("latin-1")}).encode()


def _without_offsets(dump: str) -> bytes:
    return "".join(line.partition(" ")[2] + "\n" for line in dump.splitlines()).encode()


def _hex_dump(token: bytes) -> bytes:
    lines = (f"{at:08x}: {row.hex(' ', 2)}  {'.' * len(row)}" for at, row in dump_tools.rows(b"==" + token, 16))
    return "\n".join(lines).encode()


def _recording(token: bytes) -> bytes:
    return "".join(f'[0.{at}, "o", "{letter}"]\n' for at, letter in enumerate(token.decode())).encode()


def _numbers(stream: bytes) -> str:
    """Return the bytes as `xxd -i` writes them: twelve numbers in each line."""
    return "".join("  " + ", ".join(f"0x{byte:02x}" for byte in row) + ",\n" for _, row in dump_tools.rows(stream, 12))


def _encrypted(head: bytes, *, written: Callable[[bytes], bytes] = bytes) -> SilentKind:
    return SilentKind(lambda token, chance: head + written(chance.randbytes(96)), ENCRYPTED)


def _mixed_up(token: bytes) -> bytes:
    one, two = len(token) // 3, 2 * len(token) // 3
    return b'["%b", // 2\n "%b", // 3\n "%b"] // 1\n' % (token[one:two], token[two:], token[:one])


def _packets(token: bytes) -> bytes:
    record = struct.pack("<IIII", 1, 1, 74, 74) + bytes(54)
    return struct.pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1) + record + token[:20] + record + token[20:]


def _terminal_records(token: bytes) -> bytes:
    return b"".join(struct.pack("<III", 1, at, 1) + b"%c" % letter for at, letter in enumerate(token))


_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "xz": lzma.compress,
    "zstd": zstandard.compress,
    "bzip2": bz2.compress,
}

SILENT_KINDS: dict[str, SilentKind] = {
    "base64 three times, short": SilentKind(_base64_times(3), NEEDLE),
    "base64, backwards": _of(lambda token: base64.b64encode(token)[::-1], NEEDLE),
    "zlib in base64, backwards": _of(
        lambda token: b"b'%b'[::-1]" % base64.b64encode(zlib.compress(token * 2))[::-1], NEEDLE
    ),
    "base64, alphabet with small letters first (JavaScript obfuscators)": _of(
        lambda token: base64.b64encode(token).translate(_SMALL_FIRST), NEEDLE
    ),
    "base32": _of(base64.b32encode, NEEDLE),
    "base58": _of(_base58, NEEDLE),
    "base85": _of(base64.b85encode, NEEDLE),
    "ascii85 outside PDF": _of(base64.a85encode, NEEDLE),
    "yEnc": _of(
        lambda token: (
            b"=ybegin line=128 size=40 name=a\r\n" + bytes(byte + 42 & 255 for byte in token) + b"\r\n=yend\r\n"
        ),
        NEEDLE,
    ),
    "EBCDIC": _of(lambda token: _text(token).decode().encode("cp037"), NEEDLE),
    "ROT13": _of(lambda token: token.translate(_ROT13), NEEDLE),
    "backwards, without a word that says so": _of(lambda token: token[::-1], PROOF),
    "hex, vertical lines": _hex("|"),
    "hex, dots": _hex("."),
    "hex, slashes": _hex("/"),
    "hex, dollar signs (assembler)": SilentKind(each("$%02x", ","), NEEDLE),
    "hex, quotes (VHDL)": SilentKind(each('x"%02x"', ","), NEEDLE),
    "hex, zero first and h last (assembler)": SilentKind(each("%03xh", ","), NEEDLE),
    "hex, groups of two bytes with underscores": _of(lambda token: token.hex("_", 2).encode(), NEEDLE),
    "hex, 64-bit words of an assembler (.quad)": _of(
        lambda token: b"".join(
            b"\t.quad\t0x%b\n" % token[at : at + 8].ljust(8, b"\0")[::-1].hex().encode()
            for at in range(0, len(token), 8)
        ),
        NEEDLE,
    ),
    "octal numbers of C (0162)": SilentKind(each("0%o", ","), NEEDLE),
    "octal numbers of Python (0o162)": SilentKind(each("0o%o", ", "), NEEDLE),
    "octal numbers, spaces": SilentKind(each("%03o", " "), NEEDLE),
    "binary digits, spaces": _of(lambda token: " ".join(f"{byte:08b}" for byte in token).encode(), NEEDLE),
    "binary digits": _of(lambda token: "".join(f"{byte:08b}" for byte in token).encode(), NEEDLE),
    "od -An -c": _of(lambda token: _without_offsets(dump_tools.od_characters(token)), NEEDLE),
    "od -t d4": _of(
        lambda token: "".join(
            f"{at:07o}" + "".join(f"{int.from_bytes(row[i : i + 4], 'little'):12}" for i in range(0, 16, 4)) + "\n"
            for at, row in dump_tools.rows(token.ljust(48, b"\0"), 16)
        ).encode(),
        RARE,
    ),
    "codes beside their characters (x/cb of GDB)": _of(
        lambda token: "\t".join(f"{byte} '{chr(byte)}'" for byte in token).encode(), RARE
    ),
    "percent, three times, every letter": SilentKind(each("%%2525%02X"), NEEDLE),
    "Unicode name of a letter (Python)": _of(
        lambda token: b"\\N{LATIN SMALL LETTER %b}" % token[:1].upper() + token[1:], NEEDLE
    ),
    "characters of Lisp (?r)": SilentKind(each("?%c", " "), NEEDLE),
    "spaces between all letters": SilentKind(each("%c", " "), NEEDLE),
    "hyphens between all letters": SilentKind(each("%c", "-"), NEEDLE),
    "each letter on its own line": SilentKind(each("%c", "\n"), NEEDLE),
    "full-width letters": _of(lambda token: "".join(chr(byte + 0xFEE0) for byte in token).encode(), NEEDLE),
    "mathematical letters": _of(
        lambda token: "".join(chr(0x1D5BA + byte - 97) if 97 <= byte <= 122 else chr(byte) for byte in token).encode(),
        NEEDLE,
    ),
    "only the first letter as an escape of CSS": _of(lambda token: b"\\%x " % token[0] + token[1:], NEEDLE),
    "bold by overstriking (man)": _of(lambda token: b"".join(b"%c\b%c" % (byte, byte) for byte in token), NEEDLE),
    "underlined by overstriking (man)": _of(lambda token: b"".join(b"_\b%c" % byte for byte in token), NEEDLE),
    "a letter corrected in a terminal": _of(lambda token: token[:12] + b"x\b \b" + token[12:], RARE),
    "note of Jenkins inside": _of(lambda token: token[:12] + b"\x1b[8mha:AAAA\x1b[0m" + token[12:], RARE),
    "8-bit control character inside": _of(lambda token: token[:12] + b"\x9b0m" + token[12:], RARE),
    "prefix of a log line inside (docker compose)": _of(lambda token: token[:20] + b"\nweb-1  | " + token[20:], RARE),
    "variable directly before other letters ($aAb1…)": _of(
        lambda token: b'val a = "%b"\nval key = "$a%b"\n' % (prefix_of(token), body_of(token)), PROOF
    ),
    "word diff inside": _of(
        lambda token: b"K=[-%b-]{+%b+}%b" % (prefix_of(token), prefix_of(token), body_of(token)), RARE
    ),
    "expression for the underscore (Ruby)": _of(lambda token: token.replace(b"_", b"#{95.chr}", 1), NEEDLE),
    "expression for the underscore (-f of PowerShell)": _of(
        lambda token: b"'{0}_{1}' -f 'r8','%b'" % body_of(token), RARE
    ),
    "escaped underscore in a format (printf)": _of(lambda token: b"printf 'r8\\137%%s' %b" % body_of(token), RARE),
    "caret before the underscore (batch file)": _of(lambda token: token.replace(b"_", b"^_", 1), NEEDLE),
    "list of codes with a tail (Erlang)": _of(lambda token: b'[114,56,95|"%b"]' % body_of(token), RARE),
    "two variables, joined elsewhere": _of(
        lambda token: b'a = "' + token[:20] + b'"\n' + b"print()\n" * 20 + b'b = "' + token[20:] + b'"\n', DISTANCE
    ),
    "parts in another order": _of(_mixed_up, DISTANCE),
    "parts of two letters": _of(
        lambda token: "".join(f'p{at} = "{token[at : at + 2].decode()}"\n' for at in range(0, len(token), 2)).encode(),
        DISTANCE,
    ),
    "hex dump in short base64": _of(lambda token: base64.b64encode(_hex_dump(token)), NESTED),
    "list of numbers in short base64": _of(lambda token: base64.b64encode(_list(token)), NESTED),
    "terminal recording in short base64": _of(lambda token: base64.b64encode(_recording(token)), NESTED),
    "tags inside, in short base64": _of(
        lambda token: base64.b64encode(b"<i>" + token[:10] + b"</i><b>" + token[10:] + b"</b>"), NESTED
    ),
    "halves in two literals, in short base64": _of(
        lambda token: base64.b64encode(b'k = "' + token[:20] + b'" + "' + token[20:] + b'"'), NESTED
    ),
    "file of Outlook in short base64": _of(lambda token: base64.b64encode(outlook_store(token)), NESTED),
    "hex dump in a JSON string": _of(lambda token: json.dumps({"log": _hex_dump(token).decode()}).encode(), NEEDLE),
    "array of characters in a JSON string": _of(
        lambda token: json.dumps({"log": json.dumps(list(token.decode()), indent=1)}).encode(), NEEDLE
    ),
    "terminal recording in a JSON string": _of(
        lambda token: json.dumps({"log": _recording(token).decode()}).encode(), NEEDLE
    ),
    "gzip in a list of numbers, in a JSON string": _of(
        lambda token: json.dumps({"log": _numbers(gzip.compress(_text(token) * 2, mtime=0))}).encode(), NEEDLE
    ),
    "deflate in base64 (PowerShell, PHP, SAML)": _of(
        lambda token: b"gzinflate(base64_decode('%b'))" % base64.b64encode(deflated(_text(token))), PROOF
    ),
    "deflate in the alphabet of PlantUML": _of(
        lambda token: base64.b64encode(deflated(_text(token))).translate(_PLANTUML), PROOF
    ),
    "Brotli in short base64": _of(lambda token: base64.b64encode(brotli.compress(_text(token) * 2)), PROOF),
    "zlib in a list of decimal numbers": _of(lambda token: _list(zlib.compress(_text(token) * 2)), NEEDLE),
    "gzip in a JSON string": _of(lambda token: _json_string(gzip.compress(_text(token) * 2, mtime=0)), NEEDLE),
    "zlib in a JSON string": _of(lambda token: _json_string(zlib.compress(_text(token) * 2)), NEEDLE),
    "gzip in quoted-printable": _of(
        lambda token: quopri.encodestring(gzip.compress(_text(token) * 2, mtime=0)), NEEDLE
    ),
    **{
        f"{name} in {writing}": _compressed(compress, write)
        for name, compress in _COMPRESSORS.items()
        for writing, write in (
            ("hex, short", lambda stream: stream.hex().encode()),
            ("a list of numbers", _list),
            ("escapes", _escapes),
            ("base64 of base64", lambda stream: base64.b64encode(base64.b64encode(stream))),
        )
    },
    "xz in quoted-printable": _compressed(lzma.compress, quopri.encodestring),
    "zstd in quoted-printable": _compressed(zstandard.compress, quopri.encodestring),
    "zip in hex, short": _of(lambda token: zipped(_text(token) * 2).hex().encode(), NEEDLE),
    "raw LZMA2 stream": _of(lambda token: lzma.compress(_text(token) * 3, lzma.FORMAT_RAW, filters=_LZMA2), PROOF),
    "token divided by two packets (pcap)": _of(_packets, RARE),
    "one letter in each record (ttyrec)": _of(_terminal_records, RARE),
    "numbers of eight bytes (NumPy)": _of(
        lambda token: _NUMPY + b"".join(struct.pack("<q", byte) for byte in token), RARE
    ),
    "floating-point numbers (NumPy)": _of(lambda token: _NUMPY + struct.pack(f"<{len(token)}f", *token), RARE),
    "raw deflate inside another file": _of(
        lambda token: b"ACME\0\1" + bytes(40) + deflated(_text(token) * 2) + bytes(9), PROOF
    ),
    "Ansible Vault": _encrypted(b"$ANSIBLE_VAULT;1.1;AES256\n", written=lambda data: data.hex().encode()),
    "SOPS": _encrypted(b"key: ENC[AES256_GCM,data:", written=lambda data: base64.b64encode(data[:40]) + b",type:str]"),
    "sealed secret (Kubernetes)": _encrypted(b"encryptedData:\n  key: AgB", written=base64.b64encode),
    "age": _encrypted(b"age-encryption.org/v1\n-> X25519 abc\ndef\n--- mac\n"),
    "git-crypt": _encrypted(b"\0GITCRYPT\0"),
    "OpenSSL enc": _encrypted(b"Salted__"),
    "KeePass": _encrypted(bytes.fromhex("03d9a29a67fb4bb5")),
    "OpenPGP, compressed only": _of(
        lambda token: (
            b"-----BEGIN PGP MESSAGE-----\n\n"
            + base64.encodebytes(b"\xa3\x01" + deflated(b"\xcb\x50b\0\0\0\0\0" + _text(token)))
            + b"-----END PGP MESSAGE-----\n"
        ),
        PROOF,
    ),
    "OpenPGP": _encrypted(
        b"-----BEGIN PGP MESSAGE-----\n\n",
        written=lambda data: base64.encodebytes(data) + b"-----END PGP MESSAGE-----\n",
    ),
}
"""Ways to write a token that the detector does not find, by name, with the reason why it does not."""

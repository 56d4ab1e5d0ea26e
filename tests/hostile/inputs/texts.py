"""Functions that build hostile texts for the search for tokens, the decoders and the redaction."""

from __future__ import annotations

import base64
import gzip
import random
import string
import zlib

from tests.hostile.inputs.documents import sqlite_generated_row, sqlite_generated_search
from tests.hostile.registry import hostile, hostile_with_leak, token_of

MIB = 1 << 20
PREFIX = b"r8" + b"_"


@hostile("decoders", "1 MB of the beginning of gzip in base64")
def text_stream_starts() -> bytes:
    return b"H4sI" * (MIB // 4)


@hostile("decoders", "the beginnings of gzip and zip in base64 with lines between them")
def text_stream_starts_in_lines() -> bytes:
    return b"H4sIAAAAAAAA\nUEsDBBQAAAAI\n" * (MIB // 26)


@hostile("decoders", "300 streams in base64 that each expand to 60 MB")
def text_streams() -> bytes:
    bomb = base64.b64encode(gzip.compress(bytes(60 * MIB), 9, mtime=0))
    return b"\n\n".join([bomb[:90_000]] * 300)


@hostile("matcher", "every needle of the matcher, repeated")
def text_needles() -> bytes:
    from scanner.detection.patterns.needles import needles as all_needles

    needles = [needle.text for needle in all_needles()]
    return b"".join(needle * 40 for needle in needles) * (2 * MIB // (40 * sum(map(len, needles))) + 1)


@hostile("matcher", "every needle of the matcher in random order")
def text_needles_shuffled() -> bytes:
    from scanner.detection.patterns.needles import needles as all_needles

    chance = random.Random(1)
    needles = [needle.text for needle in all_needles()]
    return b"".join(chance.choices(needles, k=300_000))


@hostile("matcher", "prefixes of a token, each cut one letter before its end")
def text_cut_tokens() -> bytes:
    return (token_of("cut")[:-1] + b" ") * (2 * MIB // 40)


@hostile("matcher", "2 MB of the first three letters of a token")
def text_prefixes() -> bytes:
    return PREFIX * (2 * MIB // 3)


@hostile("matcher", "1,000,000 invented tokens", large=True)
def text_invented_tokens() -> bytes:
    chance = random.Random(2)
    letters = string.ascii_letters + string.digits
    text = "".join(chance.choices(letters, k=37 * 10_000)).encode()
    lines = []
    for number in range(1_000_000):
        at = number % 9_999 * 37
        lines.append(b"%s%07d%s\n" % (PREFIX, number, text[at : at + 30]))
    return b"".join(lines)


@hostile("matcher", "quotes, pluses and line breaks after the first letters of a token")
def text_joints() -> bytes:
    joint = b'"\n + "' + b"'" * 6 + b"\\\\\\\n" + b'" +' + b" " * 110 + b'"'
    return (PREFIX + b"a" + joint * 3) * (2 * MIB // (len(joint) * 3))


@hostile("matcher", "a token with hundreds of joints between any two letters")
def text_joints_in_token() -> bytes:
    letters = token_of("joints")
    return b"".join(bytes([letter]) + b'" + "' * 400 for letter in letters) * 20


@hostile("matcher", "escapes of escapes: percent, backslash, entity")
def text_escapes() -> bytes:
    return (
        b"%25" * 3000
        + b"72"
        + b"\\" * 3000
        + b"x72"
        + b"&"
        + b"amp;" * 3000
        + b"#x72;"
        + b"\\u{"
        + b"0" * 3000
        + b"72}"
    ) * 60


@hostile("matcher", "1 MB of backslashes behind a prefix")
def text_backslashes() -> bytes:
    return (PREFIX + b"\\" * MIB) + (b"r" + b"\\" * 5000) * 200


@hostile("decoders", "base64 in base64, 12 layers around 16 kB")
def text_base64_layers() -> bytes:
    content = token_of("layers") * 400
    for _ in range(12):
        content = base64.b64encode(content)
    return content


@hostile("decoders", "16 MB of one long run of base64 letters")
def text_long_run() -> bytes:
    return b"QUFB" * (4 * MIB)


@hostile("decoders", "100,000 runs of 64 letters")
def text_short_runs() -> bytes:
    chance = random.Random(3)
    letters = string.ascii_letters + string.digits + "+/"
    text = "".join(chance.choices(letters, k=64 * 1000)).encode()
    return b"".join(text[at : at + 64] + b" \n" for at in range(0, len(text), 64)) * 100


@hostile("decoders", "4 MB of hex digits in lines, and of hex dumps")
def text_hex_dumps() -> bytes:
    dump = b"00000010  72 38 5f 41 41 41 41 41  41 41 41 41 41 41 41 41  |r8_AAAAAAAAAAAAA|\n"
    return dump * 20_000 + b"72385f41" * 250_000


@hostile("decoders", "decimal lists that begin like a token")
def text_decimal_lists() -> bytes:
    return b"114, 56, 95, " * 150_000 + b"114,\n" * 100_000


@hostile("decoders", "hex lists with wide gaps")
def text_hex_lists() -> bytes:
    return (b"0x72" + b" " * 38 + b"0x38" + b" " * 38 + b"0x5f" + b" " * 38) * 20_000


@hostile("wide text", "UTF-16 of the beginnings of streams")
def text_utf16() -> bytes:
    return b"\xff\xfe" + ("H4sI" * (MIB // 2)).encode("utf-16-le")


@hostile("wide text", "UTF-32 of quotes and prefixes")
def text_utf32() -> bytes:
    return b"\xff\xfe\0\0" + ((PREFIX.decode() + '" + "') * (MIB // 2)).encode("utf-32-le")


@hostile("wide text", "UTF-16 in UTF-16 in UTF-16")
def text_utf16_layers() -> bytes:
    content = ("H4sI" * 200_000).encode()
    for _ in range(3):
        content = b"\xff\xfe" + content.decode("latin-1").encode("utf-16-le")
    return content


@hostile("markup", "8 MB of opened tags in a member of a zip")
def text_markup() -> bytes:
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"<" + b"<w:t" * (2 * MIB))
        archive.writestr("word/other.xml", b"<a>r8</a>" * MIB)
    return buffer.getvalue()


def in_base64(content: bytes) -> bytes:
    """Return the content compressed with gzip, in base64."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return base64.b64encode(packer.compress(content) + packer.flush())


@hostile("issue comment", "236 letters: gzip in base64 of a database with a generated column", delivery="comment")
def comment_database_search() -> bytes:
    return in_base64(sqlite_generated_search())


@hostile("issue comment", "a database whose row needs 3 GB", delivery="comment")
def comment_database_row() -> bytes:
    return in_base64(sqlite_generated_row())


@hostile("issue comment", "64 kB of the beginnings of streams", delivery="comment")
def comment_stream_starts() -> bytes:
    return b"H4sI" * 16_000


@hostile("issue comment", "a gzip bomb of 320 MB, compressed twice, in base64", delivery="comment")
def comment_bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    inner = b"".join([*(packer.compress(bytes(4 * MIB)) for _ in range(2)), packer.flush()])
    return in_base64(gzip.compress(inner * 40, 9, mtime=0))[:64_000]


@hostile("issue comment", "joints and prefixes up to the longest body", delivery="comment")
def comment_joints() -> bytes:
    return text_joints()[:65_000]


@hostile_with_leak("issue comment", "a leak behind the beginnings of streams", delivery="comment")
def comment_leak_behind_streams(leak: bytes) -> bytes:
    return b"H4sI" * 10_000 + b"\n\n" + leak


@hostile("redact", "a log line of 1 MB of the beginnings of streams", delivery="text")
def redact_stream_starts() -> bytes:
    return text_stream_starts()


@hostile("redact", "the comment of 236 letters in a log line", delivery="text")
def redact_database() -> bytes:
    return comment_database_search()


@hostile("redact", "base64 layers in a path", delivery="text")
def redact_layers() -> bytes:
    return text_base64_layers()


@hostile("redact", "every needle of the matcher in a note", delivery="text")
def redact_needles() -> bytes:
    return text_needles()[: 256 * 1024]


@hostile("redact", "256 kB of joints and prefixes", delivery="text")
def redact_joints() -> bytes:
    return text_joints()[: 256 * 1024]


@hostile("redact", "256 kB of whole tokens", delivery="text")
def redact_tokens() -> bytes:
    return b" ".join(token_of(f"redact {number}") for number in range(6_000))


@hostile("redact", "lone surrogates between the letters of tokens", delivery="text")
def redact_surrogates() -> bytes:
    return (PREFIX + "\ud800".encode("utf-8", "surrogatepass") * 3) * 40_000

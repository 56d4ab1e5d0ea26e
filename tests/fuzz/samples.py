"""Small valid samples of every format that r8scan parses. The fuzz tests damage them."""

from __future__ import annotations

import base64
import functools
import gzip
import json
import random
import struct
import tempfile
from pathlib import Path

from tests.benchmarks.firehose import Objects
from tests.hostile.inputs.git import OFFSET_DELTA, delta_entry, entry_head, length, pack_of, plain_entry
from tests.hostile.registry import token_of
from tests.scanner.detection.container_builders import CONTAINERS
from tests.scanner.detection.token_encoders import ENCODINGS

TOKEN = token_of("fuzz")
CONTENT = b"key: " + TOKEN + b"\n"

FAMILIES: dict[str, tuple[str, ...]] = {
    "zip": ("zip", "docx"),
    "tar": ("tar",),
    "7z": ("7z",),
    "streams": ("gzip", "bzip2", "xz", "lzma", "Zstandard", "zlib"),
    "packages": ("ar", "deb", "cpio", "rpm"),
    "pdf": ("PDF",),
    "sqlite": ("SQLite",),
    "png": ("PNG",),
    "embedded": ("embedded",),
    "files": ("Avro", "OLE", "event stream"),
    "dumps": ("Redis", "PostgreSQL"),
    "lz": ("lz4", "Snappy", "compress", "lzip", "Feather"),
    "brotli": ("Brotli", "WOFF2"),
    "blosc": ("Blosc", "shuffled"),
    "text_files": ("diagram", "PHP", "archive after", "7z after"),
    "exports": ("RTF of Outlook", "event stream with text", "array of answers", "diagram of draw.io in", "drawing"),
    "stores": ("Outlook", "LevelDB", "HTTP response", "Figma"),
    "git_files": ("git pack", "git bundle"),
}
"""For each fuzz test of containers, the beginnings of the names of the formats that it tests."""


@functools.cache
def containers(family: str) -> tuple[bytes, ...]:
    """Return one small file of each container format in a group, for example of each archive format.

    `family` is the group's key in FAMILIES.
    """
    beginnings = FAMILIES[family]
    return tuple(build(CONTENT) for name, build in CONTAINERS.items() if name.startswith(beginnings))


@functools.cache
def encoded() -> tuple[bytes, ...]:
    """Return the sample token in every encoding that r8scan finds."""
    return tuple(encode(TOKEN, random.Random(7)) for encode in ENCODINGS.values())


@functools.cache
def needles() -> tuple[bytes, ...]:
    """Return byte strings from which a fuzz test builds its inputs, for example the first bytes of a token."""
    from scanner.detection.patterns.needles import needles as all_needles

    found = [needle.text for needle in all_needles()]
    joints = [b'" + "', b"\\n", b"=\n", b"\xe2\x80\x8b", b"&#x72;", b"%72", b"\\u0072", b"\r\n", b"0x72, ", b"'", b"\\"]
    return (*found, *joints, TOKEN, TOKEN[:20], base64.b64encode(TOKEN), base64.b64encode(gzip.compress(CONTENT)))


@functools.cache
def packs() -> tuple[bytes, ...]:
    """Return three git packs: one from a push, one with a delta, and one whose delta has no base."""
    objects = Objects()
    blob = objects.add("blob", CONTENT)
    tree = objects.add("tree", b"100644 a.py\0" + bytes.fromhex(blob))
    person = "A <a@b> 1700000000 +0000"
    objects.add("commit", f"tree {tree}\nauthor {person}\ncommitter {person}\n\nx {TOKEN.decode()}\n".encode())
    base = CONTENT * 4
    delta = length(len(base)) + length(len(base) + 3) + b"\x90" + bytes([len(base)]) + b"\3abc"
    first = plain_entry(base)
    return objects.pack(), pack_of([first, delta_entry(delta, len(first))]), pack_of([entry_head(OFFSET_DELTA, 4)])


@functools.cache
def indexes() -> tuple[bytes, ...]:
    """Return the indexes that git makes for the first two packs in `packs()`."""
    from workers.sandbox.git_backend import git

    with tempfile.TemporaryDirectory() as folder:
        for number, pack in enumerate(packs()[:2]):
            Path(folder, f"{number}.pack").write_bytes(pack)
            git("index-pack", f"{number}.pack", cwd=Path(folder))
        return tuple(Path(folder, f"{number}.idx").read_bytes() for number in range(2))


def deltas() -> tuple[bytes, ...]:
    """Return git deltas that apply to the base `CONTENT * 4`."""
    size = len(CONTENT) * 4
    copy = length(size) + length(size) + b"\x90" + bytes([size])
    return copy, length(size) + length(3) + b"\3abc", length(size) + length(size * 2) + (b"\x90" + bytes([size])) * 2


def answers() -> tuple[bytes, ...]:
    """Return answers of a git server: a list of refs, a pack, the capabilities, and an error."""
    from tests.benchmarks.firehose import pkt_line

    oid = "0123456789abcdef" * 2 + "01234567"
    refs = pkt_line(f"{oid} HEAD symref-target:refs/heads/main\n") + pkt_line(f"{oid} refs/heads/main\n") + b"0000"
    pack = pkt_line("packfile\n") + pkt_line(b"\x01" + packs()[0]) + pkt_line(b"\x02slow") + b"0000"
    return (
        refs,
        pack,
        pkt_line("version 2\n") + pkt_line("fetch=shallow filter\n") + b"0000",
        pkt_line("ERR no") + b"0001",
    )


def mails() -> tuple[bytes, ...]:
    """Return mails about failed deliveries."""
    parts = (
        b"Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n\r\nFinal-Recipient: rfc822; a@b\r\n"
        b"Action: failed\r\nStatus: 5.1.1\r\nDiagnostic-Code: smtp; 550 no\r\n\r\n",
        b"Content-Type: text/rfc822-headers\r\n\r\nMessage-ID: <1.abc@vendor.example>\r\n\r\n",
        b"Content-Type: message/rfc822\r\n\r\nMessage-ID: <1.abc@vendor.example>\r\n\r\nhi\r\n",
    )
    head = b'From: <>\r\nContent-Type: multipart/report; boundary="b"\r\n\r\n'
    return tuple(head + b"".join(b"--b\r\n" + part for part in chosen) + b"--b--\r\n" for chosen in (parts, parts[1:]))


def usage() -> tuple[bytes, ...]:
    """Return two usage records as JSON: one with all fields, one with only a digest and a time."""
    full = {"token": TOKEN.decode(), "time": "2026-01-01T00:00:00+00:00", "ip": "203.0.113.7", "country": "de"}
    return json.dumps({**full, "user_agent": "x"}).encode(), b'{"digest": "%s", "time": 1767225600}' % (b"0" * 64)


def json_bodies() -> tuple[bytes, ...]:
    """Return some JSON bodies that Python's parser accepts, and some that it refuses."""
    deep = b'{"a":[' * 2_000 + b'"x"' + b"]}" * 2_000
    digits = b"1" * 5_000
    return (b'[{"id": "1", "n": [1, 2.5e3, null, "\\u0041"]}]', b"[" + deep + b", 1]", b'{"n": ' + digits + b"}", deep)


def reader_answers() -> tuple[bytes, ...]:
    """Return two answers of a confined process that reads a pack."""
    oid = "ab" * 20
    scan = {
        "hits": [[oid, "blob", [[TOKEN.decode(), 1, 2, ["plain"], []]]]],
        "locations": [[oid, "a/b", oid, 1000]],
        "unread": {"damaged": 1},
        "not_read": [{"oid": oid, "type": "blob", "reasons": ["damaged"], "digest": "0" * 64, "size": 1}],
        "reached": [oid],
        "numbers": [1, 2],
        "flags": [True, False, False, False],
        "seconds": 0.5,
        "retires": False,
    }
    frames = []
    for kind, value, content in ((b"o", [oid, "blob"], b"content"), (b"s", scan, b"")):
        raw = json.dumps(value).encode()
        frames.append(struct.pack("<cQI", kind, len(content), len(raw)) + raw + content)
    return (b"".join(frames), frames[1])

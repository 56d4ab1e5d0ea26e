"""Builds texts and git packs that contain a new token, to check that r8scan finds the token and disables it."""

from __future__ import annotations

import hashlib
import secrets
import struct
import zlib
from dataclasses import dataclass, field

from scanner.detection.digests import Digester
from scanner.detection.patterns.token_formats import active_formats, hint_of

FILE_NAME = "canary.txt"
_BLOB, _TREE, _COMMIT = 3, 2, 1
_AUTHOR = b"r8scan <canary@localhost> 0 +0000"


@dataclass(frozen=True, slots=True)
class CanaryContent:
    """A text that contains a new token, and the token's digest and hint, which may be stored."""

    text: bytes = field(repr=False)
    digest: str
    hint: str


@dataclass(frozen=True, slots=True)
class CanaryPack:
    """A git pack that contains one commit with one file. `head` is the id of the commit."""

    content: bytes = field(repr=False)
    head: str


def fresh_canary(digester: Digester) -> CanaryContent:
    """Generate a new token of the first active token format, and return a text that contains it."""
    token = active_formats()[0].invented(secrets.choice).encode("ascii")
    text = (
        b"This token is a canary: it was planted to test the scanner, and belongs to nobody.\n\nTOKEN=" + token + b"\n"
    )
    return CanaryContent(text, digester(token), hint_of(token))


def packed(text: bytes) -> CanaryPack:
    """Return a git pack that contains one commit with one file, whose content is `text`.

    The format: https://git-scm.com/docs/gitformat-pack
    """
    blob = _object_id(b"blob", text)
    tree = b"100644 " + FILE_NAME.encode() + b"\0" + bytes.fromhex(blob)
    root = _object_id(b"tree", tree)
    commit = b"tree %s\nauthor %s\ncommitter %s\n\nA canary\n" % (root.encode(), _AUTHOR, _AUTHOR)
    entries = b"".join(_entry(kind, content) for kind, content in ((_COMMIT, commit), (_TREE, tree), (_BLOB, text)))
    body = b"PACK" + struct.pack(">II", 2, 3) + entries
    checksum = hashlib.sha1(body, usedforsecurity=False).digest()
    return CanaryPack(body + checksum, _object_id(b"commit", commit))


def _object_id(kind: bytes, content: bytes) -> str:
    return hashlib.sha1(b"%s %d\0" % (kind, len(content)) + content, usedforsecurity=False).hexdigest()


def _entry(kind: int, content: bytes) -> bytes:
    size, header = len(content), bytearray()
    byte, size = (kind << 4) | (size & 15), size >> 4
    while size:
        header.append(byte | 0x80)
        byte, size = size & 0x7F, size >> 7
    header.append(byte)
    return bytes(header) + zlib.compress(content)

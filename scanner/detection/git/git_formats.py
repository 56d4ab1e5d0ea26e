"""Detection of a repository's object format, SHA-1 or SHA-256, from its configuration, objects and packs."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

SHA1, SHA256 = 20, 32
"""The size of an object id in bytes."""

_SECTION = re.compile(rb"[ \t]*\[([\w.-]*)(?:[ \t]+(\"(?:[^\"\\]|\\.)*\"))?\]")
_SETTING = re.compile(rb"[ \t]*objectformat[ \t]*=[ \t]*\"?(\w*)", re.IGNORECASE)
_LOOSE = {38: SHA1, 62: SHA256}
OBJECT_ID = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_FANOUT = re.compile(r"[0-9a-f]{2}")


def configured(config: bytes) -> int:
    """Return the size of an object id, in bytes, that a repository's configuration sets (`extensions.objectFormat`)."""
    section = value = b""
    for line in config.removeprefix(b"\xef\xbb\xbf").replace(b"\\\n", b"").splitlines():
        position = 0
        while head := _SECTION.match(line, position):
            section, position = head[1].lower() + (head[2] or b""), head.end()
        setting = _SETTING.match(line, position)
        if setting and section == b"extensions":
            value = setting[1].lower()
    return SHA256 if value == b"sha256" else SHA1


def is_fanout(name: str) -> bool:
    """Return whether `name` is the name of a folder for loose objects: two hexadecimal digits."""
    return _FANOUT.fullmatch(name) is not None


def of_loose_object(name: str) -> int | None:
    """Return the size in bytes of a loose object's id, or None if the file is not a loose object."""
    return _LOOSE.get(len(name)) if re.fullmatch(r"[0-9a-f]+", name) else None


def of_index(path: Path) -> int | None:
    """Return the size in bytes of the object ids in a pack's index, or None if the index is empty or invalid."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            state = os.fstat(file.fileno())
            head = file.read(1032) if stat.S_ISREG(state.st_mode) else b""
    except OSError:
        return None
    has_version = head.startswith(b"\xfftOc")
    if len(head) < 1032 or (has_version and head[4:8] != b"\0\0\0\2"):
        return None
    count = int.from_bytes(head[1028:1032] if has_version else head[1020:1024])
    for size in (SHA1, SHA256) if count else ():
        least = 1032 + count * (size + 8) + 2 * size if has_version else 1024 + count * (size + 4) + 2 * size
        # An index of version 2 has eight more bytes for each object at an offset above 2 GB. The first object of a pack
        # never has such an offset.
        most = least + 8 * (count - 1) if has_version else least
        if least <= state.st_size <= most:
            return size
    return None

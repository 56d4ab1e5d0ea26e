"""Search for the central directory of a zip archive, backwards from the end of the content."""

from __future__ import annotations

import struct

_CENTRAL_MAGIC, _END_MAGIC, _END_64_MAGIC, _LOCATOR_MAGIC = b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"
_LOCAL_MAGIC = b"PK\x03\x04"
_LOCAL_SIZE = 30
_CENTRAL_SIZE = 46
_END = struct.Struct("<4sHHHHIIH")
_END_64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR_SIZE = 20
_UNKNOWN_32 = 0xFFFFFFFF

_MAX_VERSION = 100
_UNASSIGNED_FLAGS = 0xC780
_METHODS = frozenset((*range(21), *range(93, 100)))
_MAX_NAME_LENGTH = 1024
_NAME_BYTES = bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
MAX_END_DISTANCE = 80 << 10
"""The maximum number of bytes between the end record of a zip and the end of the content, for example for a comment."""


def is_local_header(content: bytes, at: int) -> bool:
    """Return whether the local header of a file in a zip archive begins at offset `at`."""
    head = content[at : at + _LOCAL_SIZE + 1]
    if len(head) <= _LOCAL_SIZE or not head.startswith(_LOCAL_MAGIC):
        return False
    version, flags, method, _, date = struct.unpack_from("<5H", head, 4)
    name_size = int.from_bytes(head[26:28], "little")
    name = content[at + _LOCAL_SIZE : at + _LOCAL_SIZE + name_size]
    return (
        version & 0xFF < _MAX_VERSION
        and not flags & _UNASSIGNED_FLAGS
        and method in _METHODS
        and (not date or (1 <= date >> 5 & 15 <= 12 and date & 31 > 0))
        and 0 < name_size <= _MAX_NAME_LENGTH
        and not name.translate(None, _NAME_BYTES)
    )


def has_directory(content: bytes) -> bool:
    """Return whether the content ends with the central directory of a zip archive and its end record."""
    end = content.rfind(_END_MAGIC, max(0, len(content) - MAX_END_DISTANCE))
    if end < 0 or len(content) < end + _END.size:
        return False
    _, disk, first_disk, _, count, size, _, comment_size = _END.unpack_from(content, end)
    if disk != first_disk or end + _END.size + comment_size > len(content):
        return False
    if size == _UNKNOWN_32 or count == 0xFFFF:
        return content[max(0, end - _LOCATOR_SIZE) : end].startswith(_LOCATOR_MAGIC)
    return count > 0 and _CENTRAL_SIZE * count <= size <= end and content.startswith(_CENTRAL_MAGIC, end - size)


def directory(content: bytes) -> tuple[int, int, int] | None:
    """Return the start and end offsets of a zip's central directory, and the number of bytes before the archive.

    Return None if there is no directory.
    """
    end = content.rfind(_END_MAGIC)
    while end >= 0:
        if len(content) >= end + _END.size:
            _, _, _, _, _, size, offset, _ = _END.unpack_from(content, end)
            found = _placed(content, end, size, offset)
            if found is not None:
                return found
        # This is not the zip's end record. Search for an earlier one, but only near the end of the content.
        if end < len(content) - MAX_END_DISTANCE:
            return None
        end = content.rfind(_END_MAGIC, 0, end)
    return None


def _placed(content: bytes, end: int, size: int, offset: int) -> tuple[int, int, int] | None:
    locator = end - _LOCATOR_SIZE
    if locator >= 0 and content.startswith(_LOCATOR_MAGIC, locator):
        record = content.rfind(_END_64_MAGIC, max(0, locator - 4096), locator)
        if record >= 0 and record + _END_64.size <= len(content):
            size, offset = _END_64.unpack_from(content, record)[8:]
            end = record
    begin = end - size
    if begin < 0 or offset > begin or (size and not content.startswith(_CENTRAL_MAGIC, begin)):
        return None
    return begin, end, begin - offset

"""Reader of LevelDB's log files, in which programs such as Chrome store values of web pages.

The format: https://github.com/google/leveldb/blob/main/doc/log_format.md
"""

from __future__ import annotations

from collections.abc import Iterator

from scanner.detection.containers.members import Container, Member, whole

_BLOCK = 32 << 10
_HEADER = 7
"""The number of bytes in a record's header: a checksum, the length in two bytes, and the type."""
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_WANDB_START = b":W&B"
_WANDB_HEADER = 7


def is_record_log(content: bytes) -> bool:
    """Return whether the content is a LevelDB log whose first block ends in the middle of a record."""
    at = _start(content)
    if len(content) <= _BLOCK or content[at + 6] not in (_FULL, _FIRST):
        return False
    last = _FULL
    while at + _HEADER <= _BLOCK:
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        begins = last in (_FULL, _LAST)
        if (kind not in (_FULL, _FIRST)) if begins else (kind not in (_MIDDLE, _LAST)):
            return False
        at, last = at + _HEADER + length, kind
    return at <= _BLOCK and not content[at:_BLOCK].strip(b"\0") and last in (_FIRST, _MIDDLE)


def record_log_members(container: Container) -> Iterator[Member]:
    """Yield the records of a LevelDB log as one member, without the headers of blocks."""
    content, meter = whole(container), container.meter
    at = _start(content)
    pieces: list[bytes] = []
    while at + _HEADER <= len(content):
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        end = (at // _BLOCK + 1) * _BLOCK
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or at + _HEADER + length > end:
            # No valid record follows in this block. Continue with the next block.
            at = end
            continue
        meter.step(1)
        pieces.append(content[at + _HEADER : at + _HEADER + length])
        if kind in (_FULL, _LAST):
            pieces.append(b"\0")
        at += _HEADER + length
        at = end if end - at < _HEADER else at
    meter.enter()
    meter.take(sum(map(len, pieces)))
    yield Member("records", b"".join(pieces))


def _start(content: bytes) -> int:
    return _WANDB_HEADER if content.startswith(_WANDB_START) else 0

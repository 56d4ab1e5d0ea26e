"""Reader of PHP archives (PHAR). The format: https://www.php.net/manual/en/phar.fileformat.phar.php."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from scanner.detection.containers import decompressors
from scanner.detection.containers.compressed import Inflated, raw_deflate
from scanner.detection.containers.members import Container, Member, UnreadableError, shown_name, whole

_STUB_END = re.compile(rb"__HALT_COMPILER\(\);(?: ?\?>)?(?:\r\n|\n)?")
_DEFLATED, _BZIP2 = 0x1000, 0x2000
_MAX_NAME_BYTES = 4096


def phar_members(container: Container) -> Iterator[Member]:
    """Yield the files of a PHP archive."""
    content, meter = whole(container), container.meter
    end = _STUB_END.search(content)
    if end is None or len(content) < end.end() + 18:
        # The program contains the text `__HALT_COMPILER();` but has no archive after it.
        return
    size, count, _, _, alias = struct.unpack_from("<IIHII", content, end.end())
    begin = end.end() + 4 + size
    at = end.end() + 18 + alias
    if not 14 <= size <= len(content) - end.end() or count > size // 28:
        return
    at += 4 + int.from_bytes(content[at : at + 4], "little")
    for _ in range(count):
        meter.enter()
        length = int.from_bytes(content[at : at + 4], "little")
        fields = content[at + 4 + length : at + 28 + length]
        if length > _MAX_NAME_BYTES or len(fields) < 24:
            raise UnreadableError("damaged")
        _, _, packed, _, flags, metadata = struct.unpack("<IIIIII", fields)
        name = shown_name(content[at + 4 : at + 4 + length])
        at += 28 + length + metadata
        body = Container(name, content[begin : begin + packed], meter)
        begin += packed
        if flags & _DEFLATED:
            yield Member(name, raw_deflate(body))
        elif flags & _BZIP2:
            yield Member(name, Inflated(body, decompressors.bzip2_codec()))
        else:
            yield Member(name, body.source)

"""Reader of Figma's canvas files: a schema and a drawing, each compressed by deflate or Zstandard."""

from __future__ import annotations

from collections.abc import Iterator

from scanner.detection.containers import decompressors
from scanner.detection.containers.compressed import Inflated, raw_deflate
from scanner.detection.containers.members import Container, Member, whole

MAGICS = (b"fig-kiwi", b"fig-jam.")
_HEADER = 12
"""The number of bytes before the first part of the file: eight for the magic number and four for the version."""
_ZSTD = b"\x28\xb5\x2f\xfd"


def figma_members(container: Container) -> Iterator[Member]:
    """Yield each part of the Figma canvas, decompressed."""
    content, meter = whole(container), container.meter
    at, number = _HEADER, 0
    while at + 4 < len(content):
        end = at + 4 + int.from_bytes(content[at : at + 4], "little")
        number += 1
        part = Container(f"part {number}", content[at + 4 : end], meter)
        meter.enter()
        is_zstd = content.startswith(_ZSTD, at + 4)
        yield Member(part.name, Inflated(part, decompressors.zstd_codec()) if is_zstd else raw_deflate(part))
        at = end

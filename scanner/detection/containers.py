"""Which container a content is, by its first bytes and never by its name, and which reader opens it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from importlib import import_module
from typing import Literal, NamedTuple

from scanner.detection.members import Container, Member, Reader

ContainerKind = Literal[
    "zip",
    "tar",
    "gzip",
    "zlib",
    "bzip2",
    "xz",
    "zstd",
    "7z",
    "ar",
    "cpio",
    "rpm",
    "pdf",
    "sqlite",
    "png",
    "git_pack",
    "git_bundle",
]


class _Format(NamedTuple):
    """How a kind is opened.

    `streamed`: its reader goes through it once, so it may be larger than one member. `compressed`: one stream, an
    encoding rather than an archive.
    """

    module: str
    reader: str
    streamed: bool = False
    compressed: bool = False


_FORMATS: dict[ContainerKind, _Format] = {
    "zip": _Format("archives", "zip_members"),
    "tar": _Format("archives", "tar_members", streamed=True),
    "7z": _Format("archives", "seven_zip_members"),
    "ar": _Format("archives", "ar_members", streamed=True),
    "cpio": _Format("archives", "cpio_members", streamed=True),
    "rpm": _Format("archives", "rpm_members", streamed=True),
    "gzip": _Format("compressed", "gzip_members", streamed=True, compressed=True),
    "zlib": _Format("compressed", "zlib_members", streamed=True, compressed=True),
    "bzip2": _Format("compressed", "bzip2_members", streamed=True, compressed=True),
    "xz": _Format("compressed", "xz_members", streamed=True, compressed=True),
    "zstd": _Format("compressed", "zstd_members", streamed=True, compressed=True),
    "pdf": _Format("pdf", "pdf_members"),
    "sqlite": _Format("sqlite_files", "sqlite_members"),
    "png": _Format("png_text", "png_members", streamed=True),
    "git_pack": _Format("git_packs", "pack_members"),
    "git_bundle": _Format("git_packs", "bundle_members"),
}

_MAGIC: dict[bytes, tuple[tuple[bytes, ContainerKind], ...]] = {
    b"PK": ((b"PK\x03\x04", "zip"), (b"PK\x05\x06", "zip"), (b"PK\x07\x08", "zip")),
    b"\x1f\x8b": ((b"\x1f\x8b\x08", "gzip"),),
    b"BZ": tuple((b"BZh%d1AY&SY" % level, "bzip2") for level in range(1, 10)),
    b"\xfd7": ((b"\xfd7zXZ\0", "xz"),),
    b"]\0": ((b"]\0\0", "xz"),),
    b"(\xb5": ((b"(\xb5/\xfd", "zstd"),),
    b"7z": ((b"7z\xbc\xaf\x27\x1c", "7z"),),
    b"!<": ((b"!<arch>\n", "ar"),),
    b"07": ((b"070701", "cpio"), (b"070702", "cpio")),
    b"\xed\xab": ((b"\xed\xab\xee\xdb", "rpm"),),
    b"%P": ((b"%PDF-", "pdf"),),
    b"SQ": ((b"SQLite format 3\0", "sqlite"),),
    b"\x89P": ((b"\x89PNG\r\n\x1a\n", "png"),),
    b"PA": ((b"PACK\0\0\0", "git_pack"),),
    b"# ": ((b"# v2 git bundle\n", "git_bundle"), (b"# v3 git bundle\n", "git_bundle")),
}
_ZLIB_HEADERS = frozenset((b"x\x01", b"x\x5e", b"x\x9c", b"x\xda"))
_ZIP_END = b"PK\x05\x06"
_ZIP_END_SIZE = 22
_OCTAL = frozenset(b"01234567 \0")


def container_kind(content: bytes) -> ContainerKind | None:
    """The kind of container that `content` (its first 512 bytes at least) is, or None. Costs next to nothing."""
    start = content[:2]
    if start in _MAGIC:
        for magic, kind in _MAGIC[start]:
            if content.startswith(magic):
                return kind
    if start in _ZLIB_HEADERS and _inflates(content[:256]):
        return "zlib"
    if len(content) >= 512 and (content[257:262] == b"ustar" or _is_old_tar(content[:512])):
        return "tar"
    # A program or a script in front of a zip: its directory still stands at the end.
    if content[-_ZIP_END_SIZE : -_ZIP_END_SIZE + 4] == _ZIP_END:
        return "zip"
    return None


def is_streamed(kind: ContainerKind) -> bool:
    """Its reader goes through it once and needs no more than a piece of it in memory."""
    return _FORMATS[kind].streamed


def is_compressed(kind: ContainerKind) -> bool:
    """It is one compressed stream, with no members of its own."""
    return _FORMATS[kind].compressed


def members_of(kind: ContainerKind, container: Container) -> Iterator[Member]:
    """The container's parts. Raises UnreadableError, LimitReachedError, and what libraries make of hostile bytes."""
    chosen = _FORMATS[kind]
    # Most contents are no container: the libraries are loaded when the first one of a kind is met.
    reader: Reader = getattr(import_module(f"scanner.detection.{chosen.module}"), chosen.reader)
    return reader(container)


def _inflates(head: bytes) -> bool:
    try:
        return bool(zlib.decompressobj().decompress(head, 16))
    except zlib.error:
        return False


def _is_old_tar(header: bytes) -> bool:
    """The form before POSIX has no magic: its checksum is the sign."""
    field = header[148:156]
    if not _OCTAL.issuperset(field) or not header[0]:
        return False
    digits = field.strip(b" \0")
    return digits.isdigit() and int(digits, 8) == sum(header) - sum(field) + 8 * 32

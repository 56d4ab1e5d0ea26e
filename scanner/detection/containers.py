"""Which container a content is, by its first bytes and never by its name, and which reader opens it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import NamedTuple

from scanner.detection.members import Container, Member, Reader
from scanner.detection.signatures import PROGRAM_STARTS, SIGNATURES, ContainerKind
from scanner.detection.tar_files import is_tar_header
from scanner.detection.zip_ends import has_directory


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
    "zip": _Format("zip_files", "zip_members"),
    "tar": _Format("tar_files", "tar_members", streamed=True),
    "7z": _Format("seven_zip_files", "seven_zip_members"),
    "ar": _Format("archives", "ar_members", streamed=True),
    "cpio": _Format("archives", "cpio_members", streamed=True),
    "rpm": _Format("archives", "rpm_members", streamed=True),
    "gzip": _Format("compressed", "gzip_members", streamed=True, compressed=True),
    "zlib": _Format("compressed", "zlib_members", streamed=True, compressed=True),
    "bzip2": _Format("compressed", "bzip2_members", streamed=True, compressed=True),
    "xz": _Format("compressed", "xz_members", streamed=True, compressed=True),
    "lzma": _Format("compressed", "lzma_members", streamed=True, compressed=True),
    "lzip": _Format("compressed", "lzip_members", streamed=True, compressed=True),
    "zstd": _Format("compressed", "zstd_members", streamed=True, compressed=True),
    "lz4": _Format("lz_files", "lz4_members", streamed=True, compressed=True),
    "mozilla_lz4": _Format("lz_files", "mozilla_lz4_members", compressed=True),
    "snappy": _Format("lz_files", "snappy_members", streamed=True, compressed=True),
    "compress": _Format("lz_files", "compress_members", streamed=True, compressed=True),
    "pdf": _Format("pdf", "pdf_members"),
    "sqlite": _Format("sqlite_files", "sqlite_members"),
    "png": _Format("png_text", "png_members", streamed=True),
    "git_pack": _Format("git_packs", "pack_members"),
    "git_bundle": _Format("git_packs", "bundle_members"),
    "redis": _Format("database_dumps", "redis_members"),
    "postgresql": _Format("database_dumps", "postgresql_members"),
    "unsupported": _Format("signatures", "unsupported_members"),
}


def container_kind(content: bytes) -> ContainerKind | None:
    """Return the kind of container that `content` is, or None. Costs next to nothing.

    Args:
        content: the whole content, or its first 512 bytes at least.
    """
    signatures = SIGNATURES.get(content[:2])
    if signatures is not None:
        for signature in signatures:
            if content.startswith(signature.magic) and (signature.proof is None or signature.proof(content)):
                return signature.kind
    if len(content) >= 512 and (content[257:262] == b"ustar" or is_tar_header(content[:512])):
        return "tar"
    # A program or a script in front of a zip: its directory still stands near the end.
    if content[:2] in PROGRAM_STARTS or content[-22:-18] == b"PK\x05\x06" or b"\0" in content[:64]:
        return "zip" if has_directory(content) else None
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

"""Recognition of containers by their bytes, and the choice of the reader for each format."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import NamedTuple

from scanner.detection.containers.brotli_streams import is_brotli, is_firefox_cache
from scanner.detection.containers.embedded import holds_streams, is_binary
from scanner.detection.containers.headless_streams import is_magicless_zstd, is_rare_lzma
from scanner.detection.containers.members import Container, Member, Reader
from scanner.detection.containers.record_logs import is_record_log
from scanner.detection.containers.signatures import PROGRAM_STARTS, SIGNATURES, ContainerKind
from scanner.detection.containers.tar_files import is_tar_header
from scanner.detection.containers.zip_ends import has_directory


class _Format(NamedTuple):
    """A container format: the function that reads it, and the properties of the format."""

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
    "magicless_zstd": _Format("compressed", "magicless_zstd_members", streamed=True, compressed=True),
    "lz4": _Format("lz_files", "lz4_members", streamed=True, compressed=True),
    "mozilla_lz4": _Format("lz_files", "mozilla_lz4_members", compressed=True),
    "lzop": _Format("lz_files", "lzop_members", streamed=True, compressed=True),
    "snappy": _Format("lz_files", "snappy_members", streamed=True, compressed=True),
    "compress": _Format("lz_files", "compress_members", streamed=True, compressed=True),
    "pdf": _Format("pdf", "pdf_members"),
    "sqlite": _Format("sqlite_files", "sqlite_members"),
    "png": _Format("png_text", "png_members", streamed=True),
    "git_pack": _Format("git_packs", "pack_members"),
    "git_bundle": _Format("git_packs", "bundle_members"),
    "redis": _Format("database_dumps", "redis_members"),
    "postgresql": _Format("database_dumps", "postgresql_members"),
    "avro": _Format("avro_files", "avro_members"),
    "ole": _Format("ole_files", "ole_members"),
    "event_stream": _Format("event_streams", "event_stream_members"),
    "brotli": _Format("brotli_streams", "brotli_members", streamed=True, compressed=True),
    "chrome_cache": _Format("brotli_streams", "chrome_cache_members"),
    "firefox_cache": _Format("brotli_streams", "firefox_cache_members"),
    "woff2": _Format("brotli_streams", "woff2_members"),
    "diagram": _Format("base64_fields", "diagram_members"),
    "excalidraw": _Format("excalidraw_files", "excalidraw_members"),
    "http_bodies": _Format("base64_fields", "http_body_members"),
    "blosc": _Format("blosc_chunks", "blosc_members"),
    "phar": _Format("phar_files", "phar_members"),
    "outlook": _Format("outlook_files", "outlook_members"),
    "record_log": _Format("record_logs", "record_log_members"),
    "chunked": _Format("http_messages", "chunked_members"),
    "figma": _Format("figma_files", "figma_members"),
    "encrypted": _Format("signatures", "encrypted_members"),
    "embedded": _Format("embedded", "embedded_members"),
    "unsupported": _Format("signatures", "unsupported_members"),
}


_MAX_ASCII_TEST = 256 << 10


def is_ascii_text(content: bytes) -> bool:
    """Return whether the content is ASCII text without zero bytes and not larger than 256 kB."""
    return len(content) <= _MAX_ASCII_TEST and content.isascii() and b"\0" not in content


def signed_kind(content: bytes) -> ContainerKind | None:
    """Return the container format that the first bytes of the content identify, or None."""
    for signature in SIGNATURES.get(content[:2], ()):
        if content.startswith(signature.magic) and (signature.proof is None or signature.proof(content)):
            return signature.kind
    return None


def container_kind(content: bytes) -> ContainerKind | None:
    """Return the container format of the content, or None. At least the first 512 bytes of the content are needed."""
    kind = signed_kind(content)
    if kind is not None or is_ascii_text(content):
        return kind
    binary = is_binary(content)
    # The header of a tar file contains zeros, so test binary contents only.
    if binary and len(content) >= 512 and (content[257:262] == b"ustar" or is_tar_header(content[:512])):
        return "tar"
    # A zip may be appended to a program, so search for the zip's directory near the end of the content.
    may_end_as_zip = content[:2] in PROGRAM_STARTS or content[-22:-18] == b"PK\x05\x06" or b"\0" in content[:64]
    if may_end_as_zip and has_directory(content):
        return "zip"
    if not binary:
        return None
    if is_record_log(content):
        return "record_log"
    # Test this before Brotli, because the beginning of an entry can look like Brotli data.
    if is_firefox_cache(content):
        return "firefox_cache"
    if is_brotli(content):
        return "brotli"
    if is_rare_lzma(content):
        return "lzma"
    if is_magicless_zstd(content):
        return "magicless_zstd"
    return "embedded" if holds_streams(content) else None


def is_streamed(kind: ContainerKind) -> bool:
    """Return whether the reader of this format keeps only one piece of the container in memory."""
    return _FORMATS[kind].streamed


def is_compressed(kind: ContainerKind) -> bool:
    """Return whether a container of this format is a single compressed stream, and not an archive."""
    return _FORMATS[kind].compressed


def members_of(kind: ContainerKind, container: Container) -> Iterator[Member]:
    """Yield the members (files or parts) of a container.

    Raises:
        UnreadableError: the rest of the container cannot be read.
        LimitReachedError: the scan reached a cost limit.
        Exception: a library failed on malformed bytes. The exception may have any type.
    """
    chosen = _FORMATS[kind]
    # Import the reader only when it is needed, because it may import a large library.
    reader: Reader = getattr(import_module(f"{__package__}.{chosen.module}"), chosen.reader)
    return reader(container)

"""Functions that build archives and compressed files, for tests and for the tables in docs/detection.md."""

from __future__ import annotations

import base64
import bz2
import gzip
import lzma
import pickle
import zipfile
import zlib
from collections.abc import Callable

from tests.scanner.detection.archive_builders import (
    ar,
    cpio,
    cpio_in_octal,
    deb,
    docx_in_runs,
    old_tar,
    rpm,
    seven_zipped,
    tarred,
    zipped,
)
from tests.scanner.detection.compression_builders import (
    lz4_frame,
    lzip,
    mozilla_lz4,
    raw_deflated,
    snappy_stream,
    unix_compressed,
    zstandard_compressed,
)
from tests.scanner.detection.document_builders import (
    avro,
    compound_file,
    event_stream,
    json_stream,
    pdf,
    pdf_form,
    pdf_with_glyph_numbers,
    pdf_with_kerning,
    png,
    postgresql_dump,
    redis_dump,
    sqlite_database,
    sqlite_in_utf16,
    sqlite_with_gzip,
)
from tests.scanner.detection.export_builders import EXPORTS
from tests.scanner.detection.git_builders import git_bundle, git_pack, loose_object
from tests.scanner.detection.store_builders import STORES
from tests.scanner.detection.stream_builders import STREAMS

Builder = Callable[[bytes], bytes]


def behind_a_header(stream: bytes) -> bytes:
    """Return a file of an unknown format: a header, the compressed stream, and a trailer."""
    return b"ACME\x01\0\0\0" + bytes(range(24)) + stream + b"\0trailer"


CONTAINERS: dict[str, Builder] = {
    "zip": zipped,
    "zip, stored": lambda content: zipped(content, method=zipfile.ZIP_STORED),
    "zip, bzip2": lambda content: zipped(content, method=zipfile.ZIP_BZIP2),
    "zip, LZMA": lambda content: zipped(content, method=zipfile.ZIP_LZMA),
    "zip after a program": lambda content: b"#!/bin/sh\nexec java -jar $0\n" + zipped(content),
    "zip without its directory": lambda content: zipped(content)[:-60],
    "zip in a zip": lambda content: zipped(zipped(content), "inner.zip"),
    "docx, text split over runs": docx_in_runs,
    "tar": tarred,
    "tar, old form": old_tar,
    "tar.gz": lambda content: gzip.compress(tarred(content)),
    "gzip": gzip.compress,
    "gzip, several streams": lambda content: gzip.compress(b"first\n") + gzip.compress(content),
    "gzip, cut off": lambda content: gzip.compress(content + bytes(100_000), 1)[:-200],
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lzma": lambda content: lzma.compress(content, lzma.FORMAT_ALONE),
    "Zstandard": zstandard_compressed,
    "zlib (loose git object)": loose_object,
    "lzip": lzip,
    "lz4": lz4_frame,
    "lz4 of Mozilla": mozilla_lz4,
    "Snappy": snappy_stream,
    "compress (.Z)": unix_compressed,
    "7z": seven_zipped,
    "ar": lambda content: ar((b"a.o", gzip.compress(content))),
    "deb": deb,
    "cpio, compressed": lambda content: gzip.compress(cpio(content)),
    "cpio, older form": lambda content: gzip.compress(cpio_in_octal(content)),
    "rpm": rpm,
    "PDF, Flate": pdf,
    "PDF, ASCII85": lambda content: pdf(content, "ASCII85Decode"),
    "PDF, ASCIIHex": lambda content: pdf(content, "ASCIIHexDecode"),
    "PDF, LZW": lambda content: pdf(content, "LZWDecode"),
    "PDF, kerned text": pdf_with_kerning,
    "PDF, glyph numbers": pdf_with_glyph_numbers,
    "PDF, form value in UTF-16": pdf_form,
    "SQLite, value over two pages": sqlite_database,
    "SQLite, gzip in a value": sqlite_with_gzip,
    "SQLite in UTF-16, table without row ids": sqlite_in_utf16,
    "Redis dump, LZF": redis_dump,
    "PostgreSQL dump, custom format": postgresql_dump,
    "PNG tEXt": png,
    "PNG zTXt": lambda content: png(content, b"zTXt"),
    "PNG iTXt": lambda content: png(content, b"iTXt"),
    "git pack": git_pack,
    "git bundle": git_bundle,
    "pickle": lambda content: pickle.dumps({"key": content.decode("latin-1")}),
    "Python bytecode": lambda content: b"\xa7\r\r\n" + bytes(12) + b"\xda\x28" + content,
    "Avro, deflate": avro,
    "OLE (old Office, Outlook)": compound_file,
    "event stream of a chat model": event_stream,
    "JSON stream of a chat model (Ollama)": json_stream,
    "raw deflate": raw_deflated,
    "embedded zlib": lambda content: behind_a_header(zlib.compress(content)),
    "embedded gzip": lambda content: behind_a_header(gzip.compress(content)),
    "embedded bzip2": lambda content: behind_a_header(bz2.compress(content)),
    "embedded xz": lambda content: behind_a_header(lzma.compress(content)),
    "embedded Zstandard": lambda content: behind_a_header(zstandard_compressed(content)),
    "embedded zip": lambda content: behind_a_header(zipped(content) + bytes(70_000)),
    **STREAMS,
    **STORES,
    **EXPORTS,
    "zip in base64": lambda content: b'{"file": "' + base64.b64encode(zipped(content)) + b'"}',
    "tar.gz in base64": lambda content: base64.encodebytes(gzip.compress(tarred(content))),
}
"""The functions that build the containers that the detector must open, by the container's name."""

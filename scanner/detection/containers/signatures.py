"""The signatures of container formats: their first bytes, and tests of their headers."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from scanner.detection.containers.base64_fields import has_diagram, has_http_bodies
from scanner.detection.containers.blosc_chunks import has_filters, is_blosc_chunk
from scanner.detection.containers.http_messages import has_chunks
from scanner.detection.containers.members import Container, Member, UnreadableError, read_up_to, readable
from scanner.detection.containers.outlook_files import is_outlook_store

ContainerKind = Literal[
    "zip",
    "tar",
    "gzip",
    "zlib",
    "bzip2",
    "xz",
    "lzma",
    "lzip",
    "zstd",
    "magicless_zstd",
    "lz4",
    "mozilla_lz4",
    "lzop",
    "snappy",
    "compress",
    "7z",
    "ar",
    "cpio",
    "rpm",
    "pdf",
    "sqlite",
    "png",
    "git_pack",
    "git_bundle",
    "redis",
    "postgresql",
    "avro",
    "ole",
    "event_stream",
    "brotli",
    "chrome_cache",
    "firefox_cache",
    "woff2",
    "diagram",
    "excalidraw",
    "http_bodies",
    "blosc",
    "phar",
    "outlook",
    "record_log",
    "chunked",
    "figma",
    "encrypted",
    "embedded",
    "unsupported",
]
"""The container formats. `unsupported` stands for all formats that cannot be read."""


PHAR_END = b"__HALT_COMPILER();"
"""The end of the program at the beginning of a PHP archive."""


class Signature(NamedTuple):
    """The signature of a container format.

    Attributes:
        magic: The first bytes.
        proof: Tests the rest of the content. None if the first bytes are enough.
    """

    magic: bytes
    kind: ContainerKind
    proof: Callable[[bytes], bool] | None = None
    name: str = ""


def _is_zlib(content: bytes) -> bool:
    """Return whether the content begins with a zlib stream."""
    inflater = zlib.decompressobj()
    try:
        return bool(inflater.decompress(content[:512], 1 << 16)) or inflater.eof
    except zlib.error as error:
        # If only the checksum is wrong, the bytes before it were a zlib stream.
        return "incorrect data check" in str(error)


def _is_lzma(content: bytes) -> bool:
    """Return whether the content begins with a usual header of a `.lzma` file."""
    dictionary, size = int.from_bytes(content[1:5], "little"), content[5:13]
    usual = dictionary >= 4096 and (dictionary & (dictionary - 1) == 0 or dictionary.bit_count() == 2)
    return len(content) > 13 and usual and content[13] == 0 and (size == b"\xff" * 8 or size[5:] == bytes(3))


def _is_ar(content: bytes) -> bool:
    return len(content) == 8 or content[66:68] == b"`\n"


_CPIO = re.compile(rb"07070[12][0-9A-Fa-f]{104}|070707[0-7]{70}")


def _is_cpio(content: bytes) -> bool:
    """Return whether the content begins with a valid cpio header."""
    if _CPIO.match(content) is None:
        return False
    octal = content[5:6] == b"7"
    size = int(content[59:65], 8) if octal else int(content[94:102], 16)
    end = (75 if octal else 109) + size
    return 0 < size <= 4096 and content[end : end + 1] in (b"", b"\0")


def _is_compress(content: bytes) -> bool:
    return len(content) > 3 and content[2] & 0x60 == 0 and 9 <= content[2] & 31 <= 16 and not content[4] & 1


def _is_arj(content: bytes) -> bool:
    size = int.from_bytes(content[2:4], "little")
    header = content[4 : 4 + size]
    return 30 <= size <= 2600 and zlib.crc32(header).to_bytes(4, "little") == content[4 + size : 8 + size]


_SQUASHFS_STREAMS = (b"\1\0", b"\4\0", b"\6\0")


def _is_squashfs(content: bytes) -> bool:
    """Return whether a squashfs header is valid: https://dr-emann.github.io/squashfs/."""
    order: Literal["little", "big"] = "big" if content[:4] == b"sqsh" else "little"
    logarithm = int.from_bytes(content[22:24], order)
    return len(content) >= 96 and logarithm <= 20 and int.from_bytes(content[12:16], order) == 1 << logarithm


def _holds_streams(content: bytes) -> bool:
    """Return whether a squashfs image is compressed with zlib, xz or Zstandard."""
    return _is_squashfs(content) and content[20:22] in _SQUASHFS_STREAMS


def _is_cab(content: bytes) -> bool:
    return len(content) >= 36 and content[4:8] == bytes(4) and content[25] == 1


def _is_parquet(content: bytes) -> bool:
    return len(content) >= 12 and (content[4] == 0x15 or content[-4:] == b"PAR1")


def _is_ole(content: bytes) -> bool:
    """Return whether the header of an OLE file has an allowed byte order and allowed sector sizes ([MS-CFB] 2.2)."""
    return content[28:30] == b"\xfe\xff" and content[30:34] in (b"\x09\0\x06\0", b"\x0c\0\x06\0")


def _is_json_stream(content: bytes) -> bool:
    """Return whether the content is a stream of JSON objects, one on each line, as Ollama sends them."""
    return b'"done":false}\n{"model":' in content[:4096]


def _is_array_stream(content: bytes) -> bool:
    """Return whether the content is a stream of answers of Gemini, which are the objects of one JSON array."""
    return b'"candidates"' in content[:64]


def _is_event_stream(content: bytes) -> bool:
    """Return whether the content is a stream of events with JSON or text (`text/event-stream`)."""
    start = content.find(b"data:", 0, 1024)
    if start < 0:
        return False
    is_json = content[start + 5 : start + 7].strip()[:1] == b"{"
    return b"\ndata:" in content[start:] if is_json else content.count(b"\n\ndata: ") + content.count(b"\n\nevent:") > 1


def _is_bzip2(content: bytes) -> bool:
    # After `BZh`, a bzip2 file has the compression level, and then the magic number of the first block. An empty file
    # has the magic number of the end.
    return content[3:4] in b"123456789" and content[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")


def _is_gzip(content: bytes) -> bool:
    return len(content) > 3 and content[3] < 0x20


def _unsupported(name: str, magic: bytes, proof: Callable[[bytes], bool] | None = None) -> Signature:
    return Signature(magic, "unsupported", proof, name)


_ALL = (
    Signature(b"PK\x03\x04", "zip"),
    Signature(b"PK\x05\x06", "zip"),
    Signature(b"PK\x07\x08", "zip"),
    Signature(b"\x1f\x8b\x08", "gzip", _is_gzip),
    Signature(b"BZh", "bzip2", _is_bzip2),
    Signature(b"\xfd7zXZ\0", "xz"),
    Signature(b"]\0", "lzma", _is_lzma),
    Signature(b"LZIP\x01", "lzip"),
    Signature(b"\x28\xb5\x2f\xfd", "zstd"),
    Signature(b"\x04\x22\x4d\x18", "lz4"),
    Signature(b"\x89LZO\0\r\n\x1a\n", "lzop"),
    Signature(b"mozLz40\0", "mozilla_lz4"),
    Signature(b"\xff\x06\0\0sNaPpY", "snappy"),
    Signature(b"\x1f\x9d", "compress", _is_compress),
    Signature(b"7z\xbc\xaf\x27\x1c", "7z"),
    Signature(b"!<arch>\n", "ar", _is_ar),
    Signature(b"07070", "cpio", _is_cpio),
    Signature(b"\xed\xab\xee\xdb", "rpm"),
    Signature(b"%PDF-", "pdf"),
    Signature(b"SQLite format 3\0", "sqlite"),
    Signature(b"\x89PNG\r\n\x1a\n", "png"),
    Signature(b"PACK\0\0\0", "git_pack"),
    Signature(b"# v2 git bundle\n", "git_bundle"),
    Signature(b"# v3 git bundle\n", "git_bundle"),
    Signature(b"REDIS0", "redis", lambda content: content[5:9].isdigit() and content[9:10] > b"\xef"),
    Signature(b"PGDMP\x01", "postgresql"),
    Signature(b"Obj\x01", "avro"),
    Signature(b"ANDROID BACKUP\n", "encrypted", lambda content: b"\nAES-256\n" in content[:40]),
    Signature(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "ole", _is_ole),
    Signature(b"data:", "event_stream", _is_event_stream),
    Signature(b"event:", "event_stream", _is_event_stream),
    Signature(b"id:", "event_stream", _is_event_stream),
    Signature(b'{"model":', "event_stream", _is_json_stream),
    *(Signature(start, "event_stream", _is_array_stream) for start in (b"[{", b"[\n", b"[\r")),
    Signature(b"\x30\x5c\x72\xa7\x1b\x6d\xfb\xfc", "chrome_cache"),
    Signature(b"wOF2", "woff2"),
    *(Signature(start, "diagram", has_diagram) for start in (b"<mxfile", b"<svg", b"<?xml", b"%3Cmxfile")),
    Signature(b'{"version":"1","encoding":"bstring"', "excalidraw"),
    Signature(b"<svg", "excalidraw", lambda content: b"payload-start -->" in content[:4096]),
    *(
        Signature(start, "http_bodies", has_http_bodies)
        for start in (b'{"', b"{\n", b"{\r", b"{ ", b"[{", b"[\n", b"[\r")
    ),
    Signature(b"\x02\x01", "blosc", is_blosc_chunk),
    Signature(b"\x89HDF\r\n\x1a\n", "embedded", has_filters),
    Signature(b"!BDN", "outlook", is_outlook_store),
    *(Signature(start, "chunked", has_chunks) for start in (b"HTTP/1.", b"WARC/1.", b"GET /", b"POST /", b"PUT /")),
    Signature(b"fig-kiwi", "figma"),
    Signature(b"fig-jam.", "figma"),
    Signature(b"<?", "phar", lambda content: PHAR_END in content),
    Signature(b"#!", "phar", lambda content: PHAR_END in content),
    *(Signature(start, "zlib", _is_zlib) for start in (b"x\x01", b"x\x5e", b"x\x9c", b"x\xda")),
    _unsupported("rar", b"Rar!\x1a\x07\0"),
    _unsupported("rar", b"Rar!\x1a\x07\x01\0"),
    _unsupported("cab", b"MSCF", _is_cab),
    _unsupported("arj", b"\x60\xea", _is_arj),
    Signature(b"hsqs", "embedded", _holds_streams),
    _unsupported("squashfs", b"hsqs", _is_squashfs),
    _unsupported("squashfs", b"sqsh", _is_squashfs),
    _unsupported("parquet", b"PAR1", _is_parquet),
    _unsupported("xar", b"xar!\0"),
    _unsupported("orc", b"ORC", lambda content: content[-4:-1] == b"ORC"),
    _unsupported("qcow2", b"QFI\xfb\0\0\0"),
    _unsupported("vmdk", b"KDMV\x01\0\0\0"),
    _unsupported("zpaq", b"7kSt\xa0\x31\x83\xd3"),
    _unsupported("lrzip", b"LRZI\0"),
    _unsupported("szdd", b"SZDD\x88\xf0\x27\x33"),
    _unsupported("chm", b"ITSF\x03\0\0\0"),
    _unsupported("blosc2", b"\x9e\xa8b2frame\0"),
    _unsupported("swf_lzma", b"ZWS", lambda content: b"\x0c" < content[3:4] < b"\x3c" and b"\0" in content[4:20]),
    _unsupported("wim", b"MSWIM\0\0\0"),
    _unsupported("lzfse", b"bvx2", lambda content: b"\0" in content[4:16]),
    _unsupported("pbzx", b"pbzx\0"),
)


def _by_start() -> dict[bytes, tuple[Signature, ...]]:
    starts: dict[bytes, tuple[Signature, ...]] = {}
    for signature in _ALL:
        starts[signature.magic[:2]] = (*starts.get(signature.magic[:2], ()), signature)
    return starts


SIGNATURES = _by_start()
"""The signatures of all formats, by the first two bytes of the signature."""

PROGRAM_STARTS = frozenset((b"MZ", b"\x7fE", b"#!", b"\xcf\xfa", b"\xce\xfa", b"\xca\xfe", b"\xfe\xed", b"Cr"))
"""The first bytes of programs and packages that may be followed by a zip."""


def encrypted_members(container: Container) -> Iterator[Member]:
    """Raise UnreadableError, because the container is encrypted."""
    del container
    yield from ()
    raise UnreadableError("encrypted")


def unsupported_members(container: Container) -> Iterator[Member]:
    """Raise UnreadableError with the format's name, because r8scan cannot read the format."""
    head = read_up_to(readable(container.source), 4096)
    for signature in SIGNATURES.get(head[:2], ()):
        if signature.kind == "unsupported" and head.startswith(signature.magic):
            raise UnreadableError(f"unsupported_container:{signature.name}")
    yield from ()

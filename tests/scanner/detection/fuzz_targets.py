"""Functions for fuzzing. Each passes arbitrary bytes to a parser of an untrusted file format.

A parser may raise only UnreadableError or LimitReachedError.
"""

from __future__ import annotations

from collections.abc import Callable

from scanner.detection.containers.members import Container, UnreadableError, readable
from scanner.detection.containers.recognition import container_kind, members_of
from scanner.detection.containers.signatures import ContainerKind
from scanner.detection.limits import LimitReachedError, Limits, Meter
from scanner.detection.wide import wide_codec, wide_pieces

LIMITS = Limits(
    expanded_bytes=2 << 20,
    ratio_floor=1 << 20,
    entries=1_000,
    seconds=3_600.0,
    piece_bytes=64 << 10,
    member_bytes=256 << 10,
    decoding_steps=200_000,
)
"""Limits that are so small that a fuzzer reaches them."""

# A reader counts each piece of output only after reading it, so the output may exceed its size limit by one piece.
_SLACK = 4 << 20
_READ = 16 << 10


def read_all(kind: ContainerKind, data: bytes, limits: Limits = LIMITS) -> Meter:
    """Read all members of a container as the detector does. Return the meter that counted the work."""
    meter = Meter(limits, len(data))
    try:
        for member in members_of(kind, Container("fuzzed", data, meter)):
            assert isinstance(member.name, str)
            stream = readable(member.source)
            while stream.read(_READ):
                continue
    except UnreadableError as stop:
        meter.note(stop.reason)
    except LimitReachedError as stop:
        meter.note_limit(stop)
    assert meter.expanded <= limits.expanded_bytes + _SLACK
    assert meter.entries <= limits.entries + 1
    return meter


def _target(kind: ContainerKind) -> Callable[[bytes], None]:
    def fuzz(data: bytes) -> None:
        read_all(kind, data)

    return fuzz


fuzz_zip = _target("zip")
fuzz_tar = _target("tar")
fuzz_7z = _target("7z")
fuzz_ar = _target("ar")
fuzz_cpio = _target("cpio")
fuzz_rpm = _target("rpm")
fuzz_gzip = _target("gzip")
fuzz_zlib = _target("zlib")
fuzz_bzip2 = _target("bzip2")
fuzz_xz = _target("xz")
fuzz_lzma = _target("lzma")
fuzz_lzip = _target("lzip")
fuzz_zstd = _target("zstd")
fuzz_magicless_zstd = _target("magicless_zstd")
fuzz_lz4 = _target("lz4")
fuzz_mozilla_lz4 = _target("mozilla_lz4")
fuzz_lzop = _target("lzop")
fuzz_snappy = _target("snappy")
fuzz_compress = _target("compress")
fuzz_pdf = _target("pdf")
fuzz_sqlite = _target("sqlite")
fuzz_png = _target("png")
fuzz_redis = _target("redis")
fuzz_postgresql = _target("postgresql")
fuzz_avro = _target("avro")
fuzz_ole = _target("ole")
fuzz_event_stream = _target("event_stream")
fuzz_brotli = _target("brotli")
fuzz_chrome_cache = _target("chrome_cache")
fuzz_firefox_cache = _target("firefox_cache")
fuzz_woff2 = _target("woff2")
fuzz_diagram = _target("diagram")
fuzz_http_bodies = _target("http_bodies")
fuzz_blosc = _target("blosc")
fuzz_phar = _target("phar")
fuzz_outlook = _target("outlook")
fuzz_record_log = _target("record_log")
fuzz_chunked = _target("chunked")
fuzz_figma = _target("figma")
fuzz_excalidraw = _target("excalidraw")
fuzz_encrypted = _target("encrypted")
fuzz_embedded = _target("embedded")
fuzz_unsupported = _target("unsupported")


def fuzz_container_kind(data: bytes) -> None:
    """Check that arbitrary bytes cause no exception when their container format is determined."""
    container_kind(data)


def fuzz_wide(data: bytes) -> None:
    """Check that arbitrary bytes, decoded as UTF-16 or UTF-32, give no text that is too long."""
    codec = wide_codec(data) or "utf-16-le"
    for piece in wide_pieces(data, codec):
        assert len(piece.text) <= 3 * len(data) + 3


TARGETS: dict[str, Callable[[bytes], None]] = {
    name.removeprefix("fuzz_"): target for name, target in globals().items() if name.startswith("fuzz_")
}
"""The fuzz functions by container kind."""

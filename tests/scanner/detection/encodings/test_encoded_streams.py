"""Tests for compressed streams that are written in hexadecimal digits."""

from __future__ import annotations

import gzip
import hashlib
import random
import zlib

import pytest

from scanner.detection import Detector, Document, Place, redact, sha256_digest
from scanner.detection.engine import all_findings
from scanner.detection.limits import Limits, Meter
from tests.scanner.detection.token_encoders import random_token

TOKEN = random_token(random.Random(11))
TEXT = b"REPLICATE_API_TOKEN=" + TOKEN + b"\n"


def digests(content: bytes) -> list[str]:
    return [found.digest for found in Detector().scan(Document(content, Place("file"))).candidates]


@pytest.mark.parametrize(
    "written",
    [
        lambda digits: b"0x2f000000" + digits,
        lambda digits: b"\\\\x" + digits,
        lambda digits: b"'" + digits[:60] + b"'\n    '" + digits[60:] + b"'",
        lambda digits: b'"' + b"\\n".join(digits[at : at + 64] for at in range(0, len(digits), 64)) + b'"',
    ],
    ids=["MySQL", "PostgreSQL", "literals", "JSON"],
)
def test_a_stream_in_hex_is_read_as_databases_and_programs_write_it(written: object) -> None:
    assert callable(written)
    for packed in (zlib.compress(TEXT), gzip.compress(TEXT, mtime=0)):
        assert digests(b"x = " + written(packed.hex().encode()) + b";\n") == [sha256_digest(TOKEN)]


def test_hashes_that_contain_a_magic_number_start_no_stream() -> None:
    hashes = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(100_000)]
    chosen = "\n".join(f"{text}  file" for text in hashes if any(magic in text for magic in ("789c", "1f8b08")))
    assert len(chosen) > 5_000
    meter = Meter(Limits(), len(chosen))
    assert all_findings(chosen.encode(), "a", meter) == []
    assert (meter.expanded, meter.unread) == (0, {})
    assert redact(chosen) == chosen


@pytest.mark.parametrize("needle", [b"789c", b"1f8b0800"])
def test_repeated_beginnings_cost_linear_work(needle: bytes) -> None:
    costs = []
    for size in (1 << 14, 1 << 16):
        meter = Meter(Limits(work_floor=1 << 40), size)
        all_findings((needle + b"A" * 90 + b" ") * (size // (len(needle) + 91)), "a", meter)
        costs.append(meter.work)
    assert costs[1] <= 5 * costs[0]


def test_redaction_withholds_streams_without_opening_them() -> None:
    for text in (f"data {zlib.compress(TEXT).hex()} end", f"data {gzip.compress(TEXT).hex()} end"):
        masked = redact(text)
        assert "[withheld]" in masked
        assert digests(masked.encode()) == []
        assert (masked[:4], masked[-4:]) == (text[:4], " end")

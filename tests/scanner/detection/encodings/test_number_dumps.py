"""Tests for dumps that show bytes as characters or as octal, decimal or binary numbers."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable

import pytest

from scanner.detection import Detector, Document, Place, redact, sha256_digest
from scanner.detection.engine import all_findings
from scanner.detection.limits import Limits, Meter
from tests.scanner.detection import dump_tools
from tests.scanner.detection.token_encoders import random_token

TOKEN = random_token(random.Random(7))
TOOLS: tuple[Callable[[bytes], str], ...] = (
    *(dump_tools.od_characters, dump_tools.od_octal_bytes, dump_tools.od_octal_words),
    *(dump_tools.od_decimal_bytes, dump_tools.od_decimal_words, dump_tools.xxd_binary),
    *(dump_tools.od_bytes_and_characters, dump_tools.od_words_and_characters, dump_tools.od_decimal_offsets),
    *(dump_tools.hexdump_characters, dump_tools.hexdump_octal, dump_tools.hexdump_decimal, dump_tools.xxd_binary_wide),
)


def found_in(text: str) -> list[str]:
    return [found.digest for found in Detector().scan(Document(text.encode(), Place("file"))).candidates]


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.__name__)
def test_a_dump_is_read_wherever_the_token_begins_in_its_lines(tool: Callable[[bytes], str]) -> None:
    texts = [tool(b"=" * before + TOKEN + b"\nmore text that follows it") for before in range(32)]
    assert [text for text in texts if found_in("$ od file\n" + text + "$\n") != [sha256_digest(TOKEN)]] == []


# Dumps that show the bytes as characters do not show every byte of a stream.
_OF_NUMBERS = [
    tool for tool in TOOLS if tool.__name__ not in ("od_characters", "od_decimal_offsets", "hexdump_characters")
]


@pytest.mark.parametrize("tool", _OF_NUMBERS, ids=lambda tool: tool.__name__)
def test_a_compressed_stream_in_a_dump_is_read(tool: Callable[[bytes], str]) -> None:
    assert found_in(tool(zlib.compress(b"text " * 9 + TOKEN))) == [sha256_digest(TOKEN)]


def test_several_dumps_and_repeated_lines_are_read() -> None:
    text = dump_tools.od_octal_bytes(b"nothing here, but two lines")
    again = dump_tools.od_octal_bytes(b"key: " + TOKEN).replace("0000020 ", "0000020 ", 1)
    first, rest = again.split("\n", 1)
    assert found_in(text + "\n" + again) == [sha256_digest(TOKEN)]
    assert found_in(f"{first}\n{rest}*\n{text}") == [sha256_digest(TOKEN)]


def test_a_dump_is_masked_as_a_whole() -> None:
    text = "see\n" + dump_tools.od_characters(b"key: " + TOKEN) + "end"
    masked = redact(text)
    assert found_in(masked) == []
    assert (masked[:4], masked[-3:]) == ("see\n", "end")
    assert redact(masked) == masked


def test_offsets_before_other_text_begin_no_dump() -> None:
    for line in ("0000000 some text\n0000020 more text\n", "00000000: 1\n00000006: 2\n", "x\n0000020 \n0000020 \n"):
        meter = Meter(Limits(), 1)
        assert all_findings(line.encode() * 50, "a", meter) == []
        assert (meter.expanded, meter.unread) == (0, {})


@pytest.mark.parametrize(
    "row",
    [dump_tools.od_octal_bytes(b"r8_" * 11), dump_tools.od_bytes_and_characters(b"r8_" * 11), " " * 99 + "\n0000020 "],
)
def test_many_beginnings_of_dumps_cost_linear_work(row: str) -> None:
    costs = []
    for count in (100, 400):
        text = (row * count).encode()
        meter = Meter(Limits(work_floor=1 << 40), len(text))
        all_findings(text, "a", meter)
        costs.append(meter.work)
    assert costs[1] <= 5 * costs[0]

"""Tests that the detector limits its work, and that the work is proportional to the content's size."""

from __future__ import annotations

import base64
import random
import tracemalloc
from typing import Any

import pytest

from scanner.detection.encodings import hex_dumps
from scanner.detection.engine import all_findings
from scanner.detection.limits import Limits, Meter
from scanner.detection.patterns.matcher import _crowd, automata, windows
from scanner.detection.patterns.needles import Needle, needles
from tests.scanner.detection.line_counts import executed_lines
from tests.scanner.detection.token_encoders import ENCODINGS, random_token

NEEDLES = needles()
BETWEEN = [b"", b"\n", b'"+"', b"A", b"\n" + b" " * 200]
UNBOUNDED = Limits(work=1 << 62, work_floor=1 << 62, work_per_byte=0)
SMALL = Limits(work_floor=1 << 18, work_per_byte=4)
LINES_OF_THE_SEARCH = 4
"""The number of steps per byte of the search for needles, which the detector does not count as work."""
MAX_STEP_BYTES = 1 << 20
"""The number of bytes by which the counted work may exceed its budget."""
MAX_STEPS_PER_BYTE_OF_MATCHER = 100
"""The work for the cores in 256 KB is counted at once: 200 steps for each core, and at most one core in two bytes."""


def most_work(limits: Limits, content: bytes) -> int:
    """Return the maximum work that the detector may count for `content`."""
    budget = limits.work_floor + limits.work_per_byte * len(content)
    return budget + MAX_STEP_BYTES + MAX_STEPS_PER_BYTE_OF_MATCHER * len(content)


def rows(needle: Needle) -> list[bytes]:
    """Return contents that repeat the first bytes of an encoded token (`needle`)."""
    token = random_token(random.Random(needle.text))
    encoded = base64.b64encode(token)
    cut = [needle.text + whole[:length] + b"\n" for whole in (token, encoded) for length in (5, len(whole) - 1)]
    return [needle.text + between for between in BETWEEN] + cut


def cost(content: bytes, limits: Limits) -> Meter:
    meter = Meter(limits, len(content))
    all_findings(content, "a", meter)
    return meter


# Leave out needles of the kind `run`, for tokens that were encoded in base64 twice. Their work may grow faster than the
# size of the content. Another test checks the limit of this work.
@pytest.mark.parametrize(
    "needle", [needle for needle in NEEDLES if needle.kind != "run"], ids=lambda needle: repr(needle.text)
)
def test_work_grows_no_faster_than_the_size(needle: Needle) -> None:
    # To save time, test each needle with only one of nine contents.
    for row in rows(needle)[NEEDLES.index(needle) % 9 :: 9]:
        small, large = (cost(b'"' + row * (size // len(row)), UNBOUNDED) for size in (1 << 13, 1 << 15))
        # The content grows by a factor of 4, and quadratic work would grow by a factor of 16. Allow a factor of 10.
        assert large.work <= 10 * small.work + 1_000_000, row
        assert large.expanded <= 5 * small.expanded + 10_000, row


@pytest.mark.parametrize("needle", NEEDLES, ids=lambda needle: repr(needle.text))
def test_work_ends_at_its_limit_and_plain_tokens_are_still_found(needle: Needle) -> None:
    token = random_token(random.Random(1))
    for row in rows(needle)[NEEDLES.index(needle) % 2 : 4 : 2]:
        content = row * ((1 << 16) // len(row)) + b" " + token
        meter = Meter(SMALL, len(content))
        found = {finding.token for finding in all_findings(content, "a", meter)}
        assert token in found, row
        assert meter.work <= most_work(SMALL, content), row


def test_a_used_up_budget_of_work_is_recorded() -> None:
    content = b"r8\n" * 100_000
    assert cost(content, SMALL).unread == {"work": 1}


def _lines_and_work(content: bytes) -> tuple[int, int]:
    """Scan the content. Return the number of executed lines of `scanner.detection`, and the counted work."""
    lines, meter = executed_lines(lambda: cost(content, UNBOUNDED))
    return lines, meter.work


@pytest.mark.parametrize("kind", sorted({needle.kind for needle in NEEDLES}))
def test_repeated_needles_are_charged_for_the_lines_that_python_executes(kind: str) -> None:
    same_kind = [needle for needle in NEEDLES if needle.kind == kind]
    for number, needle in enumerate(same_kind[:: -(-len(same_kind) // 3)]):
        content = (rows(needle)[number] * (1 << 12))[: 1 << 13]
        lines, work = _lines_and_work(content)
        # The detector counts its work in steps of about 10 nanoseconds. A line of Python takes about 50 nanoseconds, so
        # the detector must count at least five steps for each line.
        assert 5 * lines <= work + LINES_OF_THE_SEARCH * len(content), (needle, lines, work)


@pytest.mark.parametrize("needle", [b"", b"yADgAX", b"-117", b"x72"], ids=repr)
@pytest.mark.parametrize("offset", [b"\n00000010: ", b"\n00000000: 72\n00000010: ", b"\n0000000000000010 "], ids=repr)
def test_lines_of_hex_dumps_are_charged(needle: bytes, offset: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = 0
    match_line = hex_dumps._line_at

    def counted(*arguments: Any) -> Any:
        nonlocal lines
        lines += 1
        return match_line(*arguments)

    monkeypatch.setattr(hex_dumps, "_line_at", counted)
    meter = cost((needle + offset) * 2_000, UNBOUNDED)
    assert meter.work >= hex_dumps.LINE_STEPS * lines


def test_a_short_line_of_a_dump_is_charged_as_a_line() -> None:
    dump = b"".join(b"%08x: 72\n" % offset for offset in range(0, 16 * 4_000, 16))
    assert cost(dump, UNBOUNDED).work >= hex_dumps.LINE_STEPS * 4_000


@pytest.mark.parametrize("row", [b"3872,", b"STRY\n0000010 ", b"\n00000000000000010: "], ids=repr)
def test_the_matcher_counts_needles_at_a_limited_number_of_places(row: bytes) -> None:
    def lines(count: int) -> int:
        content = row * count
        found = [(automaton, automaton.find(content)) for automaton in automata()]
        return executed_lines(lambda: [_crowd(*one, content, 0) for one in found])[0]

    assert 0 < lines(24_000) <= 1.5 * lines(8_000)


@pytest.mark.parametrize("row", [b"eAE\n", b'eJw"', b"r8\n", b"\n0000010 \n00000010: "], ids=repr)
def test_each_core_that_the_matcher_finds_is_charged(row: bytes) -> None:
    content = row * 4_000
    cores = sum(window.cores for window in windows(content))
    assert cores >= 4_000
    assert cost(content, UNBOUNDED).work >= 200 * cores


@pytest.mark.parametrize("name", ["adjacent literals", "octal escapes", "array of characters", "soft-wrapped line"])
def test_incomplete_tokens_are_charged_for_their_bytes(name: str) -> None:
    row = ENCODINGS[name](random_token(random.Random(1)), random.Random(1))[:-6] + b"\n"
    assert cost(row * 20, UNBOUNDED).work >= 20 * 40 * len(row)


def test_layers_share_one_budget() -> None:
    content = b"cjhf" * 20_000
    for _ in range(5):
        content = base64.b64encode(content)
    meter = cost(content, SMALL)
    assert meter.unread["work"] == 1
    assert meter.work <= most_work(SMALL, content)


def test_a_document_keeps_a_limited_number_of_different_tokens() -> None:
    chance = random.Random(2)
    tokens = [random_token(chance) for _ in range(500)]
    meter = Meter(Limits(findings=100), 1)
    found = all_findings(b"\n".join(tokens), "a", meter)
    assert [finding.token for finding in found] == tokens[:100]
    assert meter.unread == {"findings_over_limit": 400}


def test_a_document_keeps_a_limited_number_of_repeats() -> None:
    token = random_token(random.Random(3))
    meter = Meter(Limits(repeats=50), 1)
    assert len(all_findings(b"\n".join([token] * 500), "a", meter)) == 51
    assert meter.unread == {"repeats_over_limit": 449}


def test_many_tokens_cost_little_memory() -> None:
    chance = random.Random(4)
    content = b"\n".join(random_token(chance) for _ in range(100_000))
    tracemalloc.start()
    found = all_findings(content, "a", Meter(Limits(), len(content)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len({finding.token for finding in found}) == Limits().findings
    assert peak < 40 << 20


def test_a_needle_inside_a_picture_starts_no_stream() -> None:
    picture = b"\x89PNG\r\n\x1a\n" + b"\0\0\x40\0IDAT" + random.Random(5).randbytes(0x4000) + b"\0\0\0\0"
    letters = bytearray(base64.b64encode(picture))
    for at in range(300, len(letters) - 300, 97):
        letters[at : at + 4] = b"eJw9"
    for text in (bytes(letters), b"\\n".join(bytes(letters[at : at + 76]) for at in range(0, len(letters), 76))):
        meter = cost(b'{"image/png": "' + text + b'"}', Limits())
        assert meter.unread == {}
        assert meter.expanded <= 2 * len(letters)

"""Tests for encoded tokens that are divided among several literals or values."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.detection import Detector, Document, Place, sha256_digest
from scanner.detection.engine import all_findings
from scanner.detection.limits import Limits, Meter
from tests.scanner.detection.token_encoders import random_token

Encode = Callable[[bytes], bytes]


def digests(content: bytes) -> list[str]:
    return [found.digest for found in Detector().scan(Document(content, Place("file"))).candidates]


def hexadecimal(part: bytes) -> bytes:
    return part.hex().encode()


@pytest.mark.parametrize("encode", [base64.b64encode, hexadecimal], ids=["base64", "hex"])
@pytest.mark.parametrize("line", [b'a = decode("%b")\n', b"PART=%b\n", b'  "name": "%b",\r\n', b"'%b' + "])
@given(
    seed=st.integers(0, 2**32), cuts=st.sets(st.integers(7, 35), min_size=1, max_size=2), before=st.binary(max_size=9)
)
@settings(max_examples=15, deadline=None)
def test_parts_that_are_encoded_one_by_one_are_joined(
    encode: Encode, line: bytes, seed: int, cuts: set[int], before: bytes
) -> None:
    token = random_token(random.Random(seed))
    ends = [*sorted(cuts), len(token)]
    parts = [token[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    if min(map(len, parts)) >= 4:
        content = before + b"\n" + b"".join(line % encode(part) for part in parts) + b"\n"
        assert digests(content) == [sha256_digest(token)], content


@pytest.mark.parametrize("encode", [base64.b64encode, hexadecimal], ids=["base64", "hex"])
@pytest.mark.parametrize("lead", range(3))
@given(seed=st.integers(0, 2**32), width=st.integers(12, 40))
@settings(max_examples=10, deadline=None)
def test_an_encoded_text_is_read_over_several_statements(encode: Encode, lead: int, seed: int, width: int) -> None:
    token = random_token(random.Random(seed))
    text = encode(b"=" * lead + token)
    content = b"".join(b"s += '%b';\n" % text[at : at + width] for at in range(0, len(text), width))
    assert digests(content) == [sha256_digest(token)], content


@pytest.mark.parametrize(
    "text",
    [
        'a = atob("cjhfQUJDRA==") + atob("TmFtZU9mVGhlTW9kZWw=") + "OfTheOwner"',
        'a = "cjhfQUJD"; b = "predictions"; c = "stability"; d = "TheNameOfTheModel"',
        "A=cjhfQUJDRA==\n" + "\n" * 1_100 + "B=RUZHSElKS0xNTk9QUVJTVFVWV1hZWmFiY2RlZmdoMTIz\n",
    ],
)
def test_words_and_distant_parts_are_no_token(text: str) -> None:
    assert digests(text.encode()) == []


@pytest.mark.parametrize(
    "row",
    [b'"cjhfQUJDRA==" ', b"K=cjhfQUJD\nB=QUJDRA==\n", b"'72385f41424344' ", b"s += 'cjhf';\n", b"'72385f'+'41';\n"],
)
def test_repeated_parts_cost_linear_work(row: bytes) -> None:
    costs = []
    for size in (1 << 13, 1 << 15):
        meter = Meter(Limits(work_floor=1 << 40), size)
        all_findings(row * (size // len(row)), "a", meter)
        costs.append(meter.work)
    assert costs[1] <= 5 * costs[0]

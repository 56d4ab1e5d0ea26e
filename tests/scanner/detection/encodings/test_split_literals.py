"""Tests for tokens that are split into several string literals or values."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.detection import Detector, Document, Place, sha256_digest
from scanner.detection.engine import all_findings
from scanner.detection.limits import Limits, Meter
from tests.scanner.detection.token_encoders import random_token

TOKEN = random_token(random.Random(5)).decode()
DETECTOR = Detector()


def digests(content: str) -> set[str]:
    return {found.digest for found in DETECTOR.scan(Document(content.encode(), Place("file"))).candidates}


def parts(token: str, cuts: set[int]) -> list[str]:
    ends = [*sorted(cuts), len(token)]
    return [token[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize(
    ("line", "separator"),
    [
        ('const p{} = "{}";', "\n"),
        ('"part{}": "{}"', ",\n"),
        ("k{} += '{}'", "\n"),
        ('.append({}, "{}")', ""),
        ("PART_{}={}", "\n"),
        ("  part{}: {}", "\n"),
    ],
)
@given(seed=st.integers(0, 2**32), cuts=st.sets(st.sampled_from((7, 11, 15, 19, 23, 27)), min_size=2, max_size=4))
@settings(max_examples=25, deadline=None)
def test_a_token_in_several_parts_is_found(line: str, separator: str, seed: int, cuts: set[int]) -> None:
    token = random_token(random.Random(seed)).decode()
    text = separator.join(line.format(number, part) for number, part in enumerate(parts(token, cuts)))
    if any(letter.isdigit() for letter in token[3:]):
        assert digests(f"# settings\n{text}\n\nend") == {sha256_digest(token.encode())}


@pytest.mark.parametrize(
    "text",
    [
        'if key.startswith("r8_"): return "Authorization", "TokenOfReplicate", "predictions"',
        'prefixes = ["r8_", "sk", "Bearer", "TheNameOfTheModel", "AnotherNameOfTwo"]',
        "KEY=r8_TheNameOf\nMODEL=stableDiffusion\nOWNER=ReplicateInc\n",
        f'a = "{TOKEN[:12]}"\n' + "\n" * 15 + f'b = "{TOKEN[12:24]}"\nc = "{TOKEN[24:]}"',
        f'a = "{TOKEN[:12]}"\nb = "{TOKEN[12:24]}"\nc = "{TOKEN[24:]}x"',
        f"A={TOKEN[:12]}\n\nB={TOKEN[12:24]}\nC={TOKEN[24:]}\n",
    ],
)
def test_words_and_distant_parts_are_no_token(text: str) -> None:
    assert digests(text) == set()


@given(
    st.lists(
        st.sampled_from(('"r8_', '"', "r8_", "abcD1", "=", "\n", "A=", ",", ":", " ", "]", "`", "\\")), max_size=60
    )
)
@settings(max_examples=200, deadline=None)
def test_no_sequence_of_literals_is_an_error(pieces: list[str]) -> None:
    digests("".join(pieces))


@pytest.mark.parametrize(
    "row",
    ['"r8_" "abcd" "efgH" "ijk1" x', '"r8_abcd","efgh","ijkl","mnop",\n', "K=r8_abcd\nB=efgh\nC=ijkl\n", "'r8_'\n"],
)
def test_repeated_parts_cost_linear_work(row: str) -> None:
    costs = []
    for size in (1 << 13, 1 << 15):
        meter = Meter(Limits(work_floor=1 << 40), size)
        all_findings(row.encode() * (size // len(row)), "a", meter)
        costs.append(meter.work)
    assert costs[1] <= 5 * costs[0]

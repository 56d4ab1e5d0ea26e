"""Nothing that leaves the detector holds a token, and everything else is left as it is."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scanner.detection import Detector, Document, Place, redact
from scanner.detection.digests import hint_of
from tests.scanner.detection.spelling_encoders import SPELLINGS, random_token

TEXTS = st.text(max_size=60) | st.text(alphabet="r8_cjhfI4X%\\&#;x72=\"'\n\u200b\ud800 A", max_size=60)


def tokens_in(text: str) -> int:
    return len(Detector().scan(Document(text.encode("utf-8", "surrogatepass"), Place("other"))).candidates)


@pytest.mark.parametrize("name", SPELLINGS)
@given(seed=st.integers(0, 2**32), before=TEXTS, after=TEXTS)
@settings(max_examples=15, deadline=None)
def test_a_token_is_masked_in_every_spelling_of_text(name: str, seed: int, before: str, after: str) -> None:
    chance = random.Random(seed)
    token = random_token(chance)
    try:
        spelled = SPELLINGS[name](token, chance).decode()
    except UnicodeDecodeError:
        return
    text = before + spelled + after
    masked = redact(text)
    assert token.decode() not in masked
    assert tokens_in(masked) == 0
    assert hint_of(token) in masked
    assert redact(masked) == masked


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_any_text_can_be_redacted_and_only_once(text: str) -> None:
    masked = redact(text)
    assert redact(masked) == masked
    if not tokens_in(text):
        assert masked == text


def test_only_the_token_is_replaced() -> None:
    token = random_token(random.Random(1))
    hint = hint_of(token)
    text = f"é {token.decode()}, then {token.hex()} and \ud800"
    assert redact(text) == f"é {hint}, then {hint} and \ud800"


def test_a_token_over_another_one_is_masked_too() -> None:
    first, second = (random_token(random.Random(seed)).decode() for seed in (1, 2))
    masked = redact(f"{first}{second}{second}" + "".join(f"\\x{ord(letter):02x}" for letter in first))
    assert tokens_in(masked) == 0
    assert masked.count("…") == 4


def test_ordinary_text_is_returned_as_it_is() -> None:
    text = "folder/char8_t.h"
    assert redact(text) is text

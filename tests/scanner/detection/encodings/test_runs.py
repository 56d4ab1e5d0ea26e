"""Tests for the search for short runs of base64 letters."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from scanner.detection.encodings.runs import min_run_length, run_spots

PIECES = st.lists(
    st.binary(max_size=30)
    | st.text("Az09+/-_", max_size=80).map(str.encode)
    | st.integers(0, 3).map(lambda more: b"A" * (min_run_length() - 1 + more)),
    max_size=8,
)


@given(PIECES)
def test_every_run_that_is_long_enough_for_a_token_is_found(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    runs = re.finditer(rb"[0-9A-Za-z+/_-]{%d,}" % min_run_length(), content)

    assert run_spots(content) == [run.start() for run in runs]

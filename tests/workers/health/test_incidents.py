"""Tests for the statistics about the time until a leaked token is disabled."""

from __future__ import annotations

import pytest

from workers.health.incidents import percentile_95


@pytest.mark.parametrize(
    ("delays", "expected"),
    [([38.0], 38.0), ([1, 2, 3, 4, 5, 6, 7, 38.0], 38.0), (list(range(1, 21)), 19), (list(range(1, 101)), 95)],
)
def test_the_95th_percentile_is_one_of_the_delays_and_never_above_the_slowest(
    delays: list[float], expected: float
) -> None:
    assert percentile_95(delays) == expected

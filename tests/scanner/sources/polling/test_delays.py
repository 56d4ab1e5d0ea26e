"""Tests that requests that failed together are retried at different times, and never too early."""

from __future__ import annotations

from scanner.sources.polling.backoff import MAX_SHARE, spread


def test_a_delay_is_spread_and_never_shortened() -> None:
    delays = [spread(100.0) for _ in range(200)]
    assert all(100.0 <= delay <= 100.0 * (1 + MAX_SHARE) for delay in delays)
    assert len(set(delays)) > 100

"""Tests that a long outage of a server causes only a few log lines."""

from __future__ import annotations

import logging

import pytest

from workers.outage import Outage


def test_an_hour_of_failures_is_a_handful_of_lines_and_one_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    outage = Outage(logging.getLogger("test"), "Redis", "waiting", clock=lambda: now[0])
    outage.worked()
    for second in range(3600):
        now[0] = float(second)
        outage.failed(ConnectionError())
    assert 5 < len(caplog.records) < 12
    assert caplog.records[0].getMessage() == "Redis is unavailable (ConnectionError); waiting"
    outage.worked()
    outage.worked()
    assert [record.getMessage() for record in caplog.records].count("Redis answers again") == 1
    outage.failed(ConnectionError())
    assert caplog.records[-1].getMessage().startswith("Redis is unavailable"), "the next outage is logged at once"

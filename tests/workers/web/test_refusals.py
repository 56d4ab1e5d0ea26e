"""Tests for the limited number of log lines about refused requests."""

from __future__ import annotations

import logging

import pytest

from scanner.records import security_log
from workers.web.refusals import MAX_LINES, PERIOD_SECONDS, Refusals


def test_a_flood_of_refusals_is_a_bounded_number_of_lines_that_counts_them_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, security_log.LOGGER)
    now = [0.0]
    limited = Refusals(clock=lambda: now[0])
    for _ in range(10_000):
        limited.add("alert_refused", "203.0.113.0/24", "the signature is wrong")
    limited.add("sign_in_refused", "203.0.113.0/24", "wrong name or password")
    assert len(caplog.records) == MAX_LINES + 1, "another kind of refusal has its own lines"
    now[0] += PERIOD_SECONDS
    limited.flush()
    limited.flush()
    (last,) = caplog.records[MAX_LINES + 1 :]
    assert last.__dict__["refusals"] == 10_000 - MAX_LINES
    limited.add("alert_refused", "203.0.113.0/24", "the signature is wrong")
    assert caplog.records[-1].__dict__["network"] == "203.0.113.0/24", "the limit begins again in the next minute"

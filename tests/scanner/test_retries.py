"""Tests that short failures are retried, and that a long outage does not fill the log."""

from __future__ import annotations

import logging

import pytest
import stamina

from scanner.retries import tries


def test_a_retry_logs_one_debug_line_and_prints_nothing(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)

    def call() -> None:
        for attempt in tries(ConnectionError, attempts=3, timeout=None):
            with attempt:
                raise ConnectionError("away")

    with stamina.set_testing(True, attempts=3), pytest.raises(ConnectionError):
        call()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("DEBUG", "try 1 has failed: away"),
        ("DEBUG", "try 2 has failed: away"),
    ]
    assert capsys.readouterr().out == ""

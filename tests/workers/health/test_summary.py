"""Tests for the log line that sums up each minute of the service."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
from sqlalchemy import update

from scanner.records import audit, security_log, tallies
from scanner.records.database import Database
from scanner.records.health_models import NotifiedProblem
from scanner.records.models import db_now
from scanner.settings import load_settings
from workers.health import summary

Summarize = Callable[[], logging.LogRecord]


@pytest.fixture
def summarize(database: Database, caplog: pytest.LogCaptureFixture) -> Summarize:
    """Return a function that lets a minute pass, logs the summary, and returns the log record."""
    caplog.set_level(logging.INFO)

    def run() -> logging.LogRecord:
        with database.write() as session:
            session.execute(update(NotifiedProblem).values(last_at=db_now(-61)))
        assert summary.write_due(database, load_settings())
        assert not summary.write_due(database, load_settings()), "another process wrote it just now"
        return next(record for record in reversed(caplog.records) if record.name == "r8scan.summary")

    return run


def test_a_summary_counts_what_was_read_since_the_last_summary(database: Database, summarize: Summarize) -> None:
    with database.write() as session:
        tallies.add(session, "public_events", {"pushes": 5})
    assert "read" not in summarize().__dict__, "what was read before the first summary may be an hour old"
    with database.write() as session:
        tallies.add(session, "public_events", {"pushes": 3, "error_not_found": 1})
    found = summarize().__dict__
    assert found["read"] == {"pushes": 3}
    assert "queue_without_consumer:polling" in found["problems"] or "not_running" in found["problems"]
    assert "read" not in summarize().__dict__


def test_an_operators_action_by_a_command_is_logged_once(
    database: Database, summarize: Summarize, caplog: pytest.LogCaptureFixture
) -> None:
    summarize()
    with database.write() as session:
        audit.record(session, "brake_released", {"reason": "all of them leaked"}, who="operator:ana")
        audit.record(session, "token_held", {}, who=audit.SYSTEM)
    caplog.clear()
    summarize()
    summarize()
    lines = [record for record in caplog.records if record.name == security_log.LOGGER]
    assert [(line.__dict__["kind"], line.__dict__["who"]) for line in lines] == [("brake_released", "operator:ana")]

"""Tests that each security event is logged as one line after its commit, without text that people wrote."""

from __future__ import annotations

import logging
import uuid
from contextlib import suppress

import pytest

from scanner.records import audit, security_log
from scanner.records.database import Database


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, security_log.LOGGER)


def test_an_audit_entry_is_a_line_after_the_commit_and_none_after_a_rollback(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    incident = uuid.uuid4()
    with security_log.of_job(17), database.write() as session:
        audit.record(session, "token_disabled", {"source": "gists", "new_places": 2}, incident_id=incident)
        assert not caplog.records, "the transaction may still be rolled back"
    with suppress(ZeroDivisionError), database.write() as session:
        audit.record(session, "token_held", {})
        raise ZeroDivisionError
    (line,) = caplog.records
    assert line.getMessage() == "token disabled"
    wanted = {"kind": "token_disabled", "source": "gists", "incident": str(incident), "job": 17, "who": audit.SYSTEM}
    assert wanted.items() <= line.__dict__.items()


def test_addresses_of_people_and_their_words_stay_in_the_audit(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    evidence = {"recipient": "ana@example.com", "text": "call Ana", "note": "Ana", "error": "ana@example.com refused"}
    with database.write() as session:
        audit.record(session, "mail_failed", {**evidence, "occasion": "disabled"})
    (line,) = caplog.records
    assert line.__dict__["occasion"] == "disabled"
    assert "ana" not in str(line.__dict__).lower().replace("mana", "")


def test_a_line_names_a_job_only_inside_the_block_of_this_job() -> None:
    with security_log.of_job(1):
        with security_log.of_job(2):
            assert security_log.current_job() == 2
        assert security_log.current_job() == 1
    assert security_log.current_job() is None

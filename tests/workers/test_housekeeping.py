"""Tests that a periodic task with several parts does the remaining parts after one of them fails."""

from __future__ import annotations

import logging
from datetime import datetime

import pytest
from sqlalchemy import select

from scanner.detection import Candidate, Place
from scanner.records.database import Database
from scanner.records.models import ApiToken, Incident, Sighting
from scanner.records.states import Cause, SightingState
from scanner.response import incidents, sightings
from scanner.response.policy import Policy
from scanner.response.responder import look_up_due
from scanner.tokens.imports import ImportedToken
from scanner.tokens.protocol import TokenRecord
from scanner.tokens.registry import ImportRun
from workers.tasks import housekeeping
from workers.tasks.due_work import DueWork

GOOD, BAD = "a" * 64, "b" * 64


STEPS = ("look_up", "_finish", "_settle_canaries", "settle_reports", "_recover_spool", "_shed_sightings")


@pytest.mark.parametrize("broken", STEPS)
def test_a_failed_step_does_not_prevent_the_sweeper_from_waking_tasks(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, broken: str
) -> None:
    done: list[str] = []
    names = (*STEPS, "_wake_due")
    for name in names:

        def step(name: str = name) -> None:
            if name == broken:
                raise ValueError("spoilt")
            done.append(name)

        monkeypatch.setattr(housekeeping, name, step)
    monkeypatch.setattr(housekeeping, "due_work", lambda *_, **__: DueWork())
    with caplog.at_level(logging.ERROR):
        housekeeping.sweep()
    assert sorted([*done, broken]) == sorted(names)
    assert done[-1] == "_wake_due"
    assert "a housekeeping step failed" in caplog.text


def test_all_steps_run_if_the_query_for_their_work_fails(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    done: list[str] = []
    for name in (*STEPS, "_wake_due"):
        monkeypatch.setattr(housekeeping, name, lambda name=name: done.append(name))

    def fail(*_: object, **__: object) -> DueWork:
        raise ValueError("spoilt")

    monkeypatch.setattr(housekeeping, "due_work", fail)
    with caplog.at_level(logging.ERROR):
        housekeeping.sweep()
    assert sorted(done) == sorted((*STEPS, "_wake_due"))
    assert "could not find out which steps have work" in caplog.text


def test_a_sighting_that_fails_does_not_affect_the_others(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with database.write() as session:
        rows = [ImportedToken(digest, "", "ci", "ana", ("ana@example.com",)) for digest in (GOOD, BAD)]
        ImportRun.begin().write(session, rows)
        place = Place("file", url="https://github.com/ana/app", repository="ana/app", path="a.py")
        found = [Candidate(digest, "", place) for digest in (BAD, GOOD)]
        sightings.record(session, found, source="gists", state=SightingState.UNCHECKED)
    real = incidents.new_incident

    def trip(token: TokenRecord, hint: str, cause: Cause, now: datetime) -> Incident:
        if token.digest == BAD:
            raise ValueError("spoilt")
        return real(token, hint, cause, now)

    monkeypatch.setattr(incidents, "new_incident", trip)
    looked_up = look_up_due(database, policy=Policy(operator_email="op@example.com"))
    assert (looked_up.sightings, len(looked_up.response.disabled)) == (2, 1)
    with database.read() as session:
        live = session.execute(select(ApiToken.digest).where(ApiToken.disabled_at.is_(None))).scalars().all()
        waiting = session.execute(select(Sighting.digest, Sighting.state)).all()
    assert live == [BAD]
    assert [tuple(row) for row in waiting] == [(BAD, "unchecked")]
    assert look_up_due(database, policy=Policy()).sightings == 0, (
        "the sighting is postponed, not looked up again and again"
    )

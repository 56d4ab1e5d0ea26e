"""Tests for the database query that finds due work of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from scanner.detection import Candidate, Place
from scanner.records import canaries, jobs
from scanner.records.canary_models import Canary
from scanner.records.compromise_models import Report
from scanner.records.database import Database
from scanner.records.models import Incident, Notification
from scanner.records.states import CanaryWay, Cause, Channel, Decision, JobKind, SightingState
from scanner.response import sightings
from workers.context import current_context, forget_context
from workers.tasks import housekeeping
from workers.tasks.due_work import DueWork, due_work

DIGEST = "a" * 64
NOW = datetime.now(UTC)
PAST, FUTURE = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
NOTHING = DueWork(False, False, False, False, False, False)


def sighting(session: Any, state: SightingState) -> None:
    place = Place("file", url="https://github.com/ana/app", repository="ana/app", path="a.py")
    sightings.record(session, [Candidate(DIGEST, "", place)], source="gists", state=state)


def incident(session: Any, action: Decision, cause: Cause, at: datetime | None = None) -> None:
    session.add(
        Incident(
            digest=DIGEST,
            hint="",
            token_id="1",
            token_name="",
            cause=cause,
            action=action,
            detected_at=PAST,
            next_attempt_at=at,
        )
    )


def canary(session: Any, action: Decision) -> None:
    number = canaries.plant(session, CanaryWay.PUSHES, 1)
    session.get_one(Canary, number).digest = DIGEST
    incident(session, action, Cause.CANARY)


def report(session: Any, at: datetime) -> None:
    fields = {"digest": DIGEST, "sign": "s", "idempotency_key": "k", "reporter": "r"}
    session.add(Report(**fields, received_at=PAST, next_check_at=at))


def mail(session: Any, at: datetime) -> None:
    fields = {"channel": Channel.EMAIL, "merge_key": "k", "message_id": "<m@x>"}
    session.add(Notification(**fields, next_attempt_at=at, created_at=PAST))


def job(session: Any, delay: float) -> None:
    jobs.enqueue(session, JobKind.PUSHES, {"pushes": []}, source="timeline", delay=delay)


WORK: dict[str, tuple[Callable[[Any], None], str]] = {
    "a due sighting": (lambda session: sighting(session, SightingState.UNCHECKED), "look_up"),
    "a disable to finish": (
        lambda session: incident(session, Decision.DISABLING, Cause.COMPROMISE_SIGNS, PAST),
        "finish",
    ),
    "a disabled canary": (lambda session: canary(session, Decision.DISABLED), "settle_canaries"),
    "a due report": (lambda session: report(session, PAST), "settle_reports"),
    "a due job": (lambda session: job(session, 0), "wake"),
    "a job that waits, which may be one too many": (lambda session: job(session, 60), "wake"),
    "a due mail": (lambda session: mail(session, PAST), "wake"),
}
LATER: dict[str, Callable[[Any], None]] = {
    "nothing": lambda _: None,
    "a sighting to look up later": lambda session: sighting(session, SightingState.UNKNOWN),
    "a disable to finish later": lambda session: incident(session, Decision.DISABLING, Cause.COMPROMISE_SIGNS, FUTURE),
    "a canary that is being disabled": lambda session: canary(session, Decision.UNDECIDED),
    "a report to look up later": lambda session: report(session, FUTURE),
    "a mail to send later": lambda session: mail(session, FUTURE),
}


@pytest.mark.parametrize("name", WORK)
def test_each_kind_of_due_work_is_found(database: Database, name: str) -> None:
    write, step = WORK[name]
    with database.write() as session:
        write(session)
    found = due_work(database, max_sightings=100)
    assert [field for field in DueWork.__slots__ if getattr(found, field)] == [step]


@pytest.mark.parametrize("name", LATER)
def test_work_that_is_not_due_is_left_alone(database: Database, name: str) -> None:
    with database.write() as session:
        LATER[name](session)
    assert due_work(database, max_sightings=100) == NOTHING


def test_too_many_sightings_are_due_work(database: Database) -> None:
    with database.write() as session:
        for number in range(3):
            place = Place("file", url="https://github.com/ana/app", repository="ana/app", path=f"{number}.py")
            sightings.record(session, [Candidate(DIGEST, "", place)], source="gists", state=SightingState.UNKNOWN)
    assert due_work(database, max_sightings=2).shed_sightings
    assert not due_work(database, max_sightings=3).shed_sightings


@pytest.fixture
def own(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """Yield a database that all tasks in this process use."""
    monkeypatch.setenv("R8SCAN_DATABASE_URL", database.url.render_as_string(hide_password=False))
    forget_context()
    housekeeping.sweep()  # open the connection before the statements are counted
    yield current_context().database
    current_context().close()
    forget_context()


def test_an_idle_sweep_is_one_query(own: Database) -> None:
    statements: list[str] = []
    event.listen(own.engine, "before_cursor_execute", lambda *a: statements.append(a[2]))
    housekeeping.sweep()
    assert [statement for statement in statements if not statement.startswith("BEGIN")] == statements[-1:]


def test_a_sweep_that_finds_work_wakes_its_tasks(own: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with own.write() as session:
        canary(session, Decision.DISABLED)
    done: list[bool] = []
    monkeypatch.setattr(housekeeping, "_wake_due", lambda: done.append(True))
    housekeeping.sweep()
    with own.read() as session:
        assert session.execute(text("SELECT count(*) FROM incidents")).scalar_one() == 0
    assert done == [True]

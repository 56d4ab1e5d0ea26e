"""Tests for the console's actions on jobs: rescan, retry and cancel."""

from __future__ import annotations

import httpx
from sqlalchemy import select

from scanner.records.audit_models import AuditEntry
from scanner.records.database import Database
from scanner.records.models import ScanJob
from scanner.records.states import JobState


def job(database: Database, job_id: int) -> ScanJob:
    with database.read() as session:
        return session.get_one(ScanJob, job_id)


def one_in(database: Database, state: JobState) -> int:
    with database.read() as session:
        return session.execute(select(ScanJob.id).where(ScanJob.state == state).limit(1)).scalar_one()


def number_of(database: Database) -> int:
    with database.read() as session:
        return len(session.execute(select(ScanJob.id)).all())


def entry(database: Database, what: str) -> AuditEntry:
    with database.read() as session:
        return session.execute(select(AuditEntry).where(AuditEntry.what == what)).scalar_one()


def queued_as(answer: httpx.Response) -> int:
    assert answer.status_code == 303, answer.text
    path, _, query = answer.headers["Location"].partition("?")
    assert query == "said=queued"
    return int(path.rpartition("/")[2])


def test_a_pasted_address_is_rescanned_and_the_audit_names_the_person(
    operator: httpx.Client, own_database: Database, woken: list[str]
) -> None:
    answer = operator.post("/console/jobs/rescan", data={"address": " https://github.com/acme/weather-bot "})
    queued = job(own_database, queued_as(answer))
    assert (queued.kind, queued.state, queued.target["repository"]) == ("repository", "queued", "acme/weather-bot")
    found = entry(own_database, "rescan_queued")
    assert (found.who, found.evidence["job"]) == ("console:ana", queued.id)
    assert len(woken) == 1
    assert "acme/weather-bot" in operator.get(answer.headers["Location"]).text


def test_an_address_that_leads_nowhere_queues_nothing(operator: httpx.Client, own_database: Database) -> None:
    before = number_of(own_database)
    for address in ("", "javascript:alert(1)", "https://evil.example/acme/app", "https://github.com/" + "x" * 3000):
        assert operator.post("/console/jobs/rescan", data={"address": address}).status_code == 409, address
    assert number_of(own_database) == before


def test_a_failed_job_is_tried_again_as_a_new_job(
    operator: httpx.Client, own_database: Database, woken: list[str]
) -> None:
    failed = one_in(own_database, JobState.FAILED)
    new = queued_as(operator.post(f"/console/jobs/{failed}/retry"))
    assert new != failed
    old, again = job(own_database, failed), job(own_database, new)
    assert (old.state, again.state) == ("failed", "queued")
    assert (again.kind, again.target) == (old.kind, old.target)
    assert entry(own_database, "job_retried").evidence == {"job": failed, "as": new}
    assert len(woken) == 1


def test_only_a_job_that_ended_badly_is_tried_again(operator: httpx.Client, own_database: Database) -> None:
    before = number_of(own_database)
    for state in (JobState.DONE, JobState.QUEUED, JobState.RUNNING):
        assert operator.post(f"/console/jobs/{one_in(own_database, state)}/retry").status_code == 409, state
    assert operator.post("/console/jobs/999999/retry").status_code == 404
    assert number_of(own_database) == before


def test_a_job_is_cancelled_once(operator: httpx.Client, own_database: Database) -> None:
    running = one_in(own_database, JobState.RUNNING)
    answer = operator.post(f"/console/jobs/{running}/cancel")
    assert answer.headers["Location"] == f"/console/jobs/{running}?said=cancelled"
    assert job(own_database, running).state == JobState.CANCELLED
    found = entry(own_database, "jobs_cancelled")
    assert (found.who, found.evidence["jobs"]) == ("console:ana", [running])
    assert operator.post(f"/console/jobs/{running}/cancel").status_code == 409


def test_a_viewer_changes_no_job(viewer: httpx.Client, own_database: Database) -> None:
    before = number_of(own_database)
    running = one_in(own_database, JobState.RUNNING)
    for path in ("rescan", f"{running}/cancel", f"{one_in(own_database, JobState.FAILED)}/retry"):
        answer = viewer.post(f"/console/jobs/{path}", data={"address": "https://github.com/acme/weather-bot"})
        assert answer.status_code == 403, path
    assert job(own_database, running).state == JobState.RUNNING
    assert number_of(own_database) == before


def test_contents_that_a_job_could_not_read_are_listed_with_reason_and_place(
    viewer: httpx.Client, own_database: Database
) -> None:
    with own_database.read() as session:
        statement = select(ScanJob.id).where(ScanJob.state == JobState.PARTIAL).order_by(ScanJob.id.desc()).limit(1)
        partial = session.execute(statement).scalar_one()
    page = viewer.get(f"/console/jobs/{partial}").text
    assert "models/weights.bin" in page
    assert "too large, reader deadline" in page
    assert 'href="https://github.com/lab42/diffusion-notes/blob/main/0"' in page
    assert "<img src=x" not in page
    assert f'href="/console/jobs/{partial}#unread"' in viewer.get("/console/jobs").text

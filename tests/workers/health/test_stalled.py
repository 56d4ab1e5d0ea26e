"""Tests that the status reports jobs and polls that were stopped or make no progress."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from scanner.records import jobs, time_limits
from scanner.records.database import Database
from scanner.records.models import ScanJob, db_now
from scanner.records.source_models import SourceState
from scanner.records.states import JobKind, JobState
from scanner.settings import load_settings
from scanner.sources.polling import leased_poll
from scanner.sources.polling.leased_poll import LeasedPoll
from workers.health import stalled
from workers.health.overview import read_rows
from workers.health.problems import Kind


def problems(database: Database, sources: str = "") -> list[str]:
    # The status does not count the tokens of a token store behind HTTP.
    settings = load_settings(sources=sources, token_store_url="https://api.example.com", token_store_secret="x" * 32)
    with database.read() as session:
        found = read_rows(session, settings)
    assert [stalled.problem(one) for one in found.stalled] == [
        problem for problem in found.problems if problem.kind == Kind.STALLED
    ]
    return [str(problem) for problem in found.problems]


def claimed(database: Database) -> jobs.ClaimedJob:
    with database.write() as session:
        jobs.enqueue(session, JobKind.PUSHES, {"pushes": [{}]}, source="test")
    job = jobs.claim_next(database, JobKind.PUSHES)
    assert job is not None
    return job


def polled(database: Database) -> LeasedPoll:
    leased = leased_poll.take(database, "gists")
    assert leased is not None
    return leased


def test_work_with_progress_is_no_problem(database: Database) -> None:
    claimed(database)
    polled(database)
    assert problems(database, "gists") == []


def test_a_job_without_progress_is_named_before_it_is_stopped(database: Database) -> None:
    job = claimed(database)
    with database.write() as session:
        session.execute(update(ScanJob).values(claimed_at=db_now(-500), deadline_at=db_now(100.4)))
    assert problems(database) == [
        f"job {job.id} (pushes) makes no progress, 8 minutes after its start: it is stopped in 100 s; "
        "see the worker's log"
    ]


def test_a_job_that_nothing_stops_is_named_with_what_to_do(database: Database) -> None:
    job = claimed(database)
    with database.write() as session:
        session.execute(update(ScanJob).values(claimed_at=db_now(-900), deadline_at=db_now(-300)))
    assert problems(database) == [
        f"job {job.id} (pushes) is 5 minutes over its time limit of 10 minutes and was not stopped: restart the workers"
    ]


@pytest.mark.parametrize(("seconds", "is_named"), [(-300, True), (-60, False), (300, False)])
def test_work_whose_lease_has_ended_is_named_if_nobody_takes_it_over(
    database: Database, seconds: float, is_named: bool
) -> None:
    job = claimed(database)
    polled(database)
    with database.write() as session:
        for model in (ScanJob, SourceState):
            session.execute(update(model).values(leased_until=db_now(-30), deadline_at=db_now(seconds)))
    named = [problem for problem in problems(database, "gists") if "was not stopped" in problem]
    assert [problem.partition(" is ")[0] for problem in named] == (
        [f"job {job.id} (pushes)", "gists: a poll"] if is_named else []
    )


def test_a_job_that_was_stopped_is_named_until_it_has_ended(database: Database) -> None:
    job = claimed(database)
    assert jobs.record_time_limit(database, job.lease, 600)
    sentence = (
        f"job {job.id} (pushes) was stopped at its time limit of 10 minutes: it is split or failed if it hangs again; "
        "see the worker's log for what it read"
    )
    assert problems(database) == [sentence]
    again = jobs.claim_next(database, JobKind.PUSHES)
    assert again is not None
    assert problems(database) == [sentence]
    with database.write() as session:
        jobs.finish(session, again, JobState.DONE, counts={})
    assert problems(database) == []


@pytest.mark.parametrize("seconds", [250.4, -60.4])
def test_a_poll_without_progress_is_named(database: Database, seconds: float) -> None:
    polled(database)
    with database.write() as session:
        session.execute(update(SourceState).values(claimed_at=db_now(-350), deadline_at=db_now(seconds)))
    (problem,) = problems(database, "gists")
    assert problem.startswith("gists: a poll ")
    assert ("makes no progress" in problem) == (seconds > 0)


def test_a_poll_that_was_stopped_is_named_until_the_next_one_succeeds(database: Database) -> None:
    leased = polled(database)
    assert leased_poll.record_time_limit(database, leased, 600)
    assert problems(database, "gists") == [
        "gists: a poll was stopped at its time limit of 10 minutes: the source is polled again; "
        "see the worker's log for what it read"
    ]
    with database.write() as session:
        session.execute(update(SourceState).values(next_poll_at=db_now()))
    again = polled(database)
    assert (again.polls_over_time, again.budget().is_spent) == (1, False)
    with database.write() as session:
        leased_poll.end(session, again, cursor={}, interval=60, counts={})
    assert problems(database, "gists") == []


def test_a_source_whose_polls_are_stopped_repeatedly_gets_no_more_budget_for_costly_texts(database: Database) -> None:
    for _ in range(leased_poll.MAX_POLLS_OVER_TIME):
        assert leased_poll.record_time_limit(database, polled(database), 600)
        with database.write() as session:
            session.execute(update(SourceState).values(next_poll_at=db_now()))
    assert polled(database).budget().is_spent
    assert time_limits.TIME_LIMIT in problems(database, "gists")[0].replace(" ", "_")

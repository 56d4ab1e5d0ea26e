"""Tests that a job is taken from its worker at the job's time limit, and is retried a limited number of times."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from sqlalchemy import select, update

from scanner.records import jobs, leases, tallies, time_limits
from scanner.records.database import Database
from scanner.records.leases import HeldLeases, LeaseLost
from scanner.records.models import ScanJob, db_now
from scanner.records.states import JobKind, JobState


@pytest.fixture(autouse=True)
def _short_limit(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(time_limits.JOB_SECONDS, JobKind.PUSHES, 0.05)
    yield
    assert not leases.all_held()


def queue(database: Database, items: int = 1) -> int:
    with database.write() as session:
        job_id = jobs.enqueue(session, JobKind.PUSHES, {"pushes": [{}] * items}, source="test")
    assert job_id is not None
    return job_id


def state(database: Database, job_id: int) -> ScanJob:
    with database.read() as session:
        return session.execute(select(ScanJob).where(ScanJob.id == job_id)).scalar_one()


def hang_until_stopped(database: Database) -> jobs.ClaimedJob:
    """Claim the next job, and wait until the job is taken from this worker."""
    job = jobs.claim_next(database, JobKind.PUSHES)
    assert job is not None
    with jobs.keep_renewed(database, job) as keeping:
        assert keeping.lost.wait(60)
    return job


def test_a_hung_job_loses_its_lease_and_its_worker_can_write_no_more(database: Database) -> None:
    job_id = queue(database)
    job = hang_until_stopped(database)
    left = state(database, job_id)
    assert (left.state, left.leased_until, left.failures) == ("running", None, 2)
    assert str(left.error).startswith("time_limit: the job made no progress for 0 s")
    with pytest.raises(LeaseLost), database.write() as session:
        jobs.finish(session, job, JobState.DONE, counts={})
    with database.read() as session:
        assert tallies.since(session, 1) == {"test": {"error_time_limit": 1}}


def test_a_job_that_hangs_each_time_is_claimed_three_times_and_then_visibly_failed(database: Database) -> None:
    job_id = queue(database)
    for _ in range(3):
        hang_until_stopped(database)
    assert jobs.claim_next(database, JobKind.PUSHES) is None
    left = state(database, job_id)
    assert left.state == "failed"
    assert "time_limit" in str(left.error)
    assert left.counts == {"given_up": 1}


def test_an_optional_step_is_skipped_before_the_job_fails(database: Database) -> None:
    """A job that exceeds its time limit gets one last attempt, in which it skips its optional step."""
    job_id = queue(database)
    with database.write() as session:
        session.execute(update(ScanJob).values(failures=3))
    hang_until_stopped(database)
    assert state(database, job_id).failures == jobs.MAX_FAILURES - 1
    again = jobs.claim_next(database, JobKind.PUSHES)
    assert again is not None
    assert again.failures == jobs.MAX_FAILURES - 1


def test_progress_moves_the_deadline_but_not_beyond_the_total_limit() -> None:
    now = [0.0]
    keeping = HeldLeases((), limit_seconds=10, max_seconds=25, clock=lambda: now[0])
    now[0] = 9
    keeping.progressed()
    assert keeping.seconds_left == 10
    now[0] = 18
    keeping.progressed()
    assert keeping.seconds_left == 7
    now[0] = 26
    keeping.progressed()
    assert keeping.seconds_left < 0


def test_the_row_says_when_the_job_counts_as_hung(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(time_limits.JOB_SECONDS, JobKind.PUSHES, 500.0)
    job_id = queue(database)
    job = jobs.claim_next(database, JobKind.PUSHES)
    assert job is not None

    def is_between(low: float, high: float) -> bool:
        with database.read() as session:
            between = ScanJob.deadline_at.between(db_now(low), db_now(high))
            return session.execute(select(between).where(ScanJob.id == job_id)).scalar_one()

    assert is_between(400, 501)
    assert leases.renew(database, job.lease, seconds_left=900)
    assert is_between(800, 901)


def test_a_job_beside_a_hung_one_is_released_without_a_failure(database: Database) -> None:
    job_id = queue(database)
    job = jobs.claim_next(database, JobKind.PUSHES)
    assert job is not None
    jobs.release(database, job.lease)
    left = state(database, job_id)
    assert (left.failures, left.leased_until) == (0, None)
    again = jobs.claim_next(database, JobKind.PUSHES)
    assert again is not None
    jobs.release(database, job.lease)  # another worker has the lease now, so this changes nothing
    assert state(database, job_id).leased_until is not None


def test_the_lease_ends_at_the_limit_even_if_this_cannot_be_recorded(database: Database) -> None:
    queue(database)
    job = jobs.claim_next(database, JobKind.PUSHES)
    assert job is not None
    recorded = threading.Event()
    never = threading.Event()

    def hang() -> None:
        recorded.set()
        never.wait(60)

    with leases.keep_renewed(database, job.lease, limit_seconds=0, on_limit=hang) as keeping:
        assert recorded.wait(60)
        assert keeping.lost.is_set()
        assert keeping in leases.all_held()
        never.set()

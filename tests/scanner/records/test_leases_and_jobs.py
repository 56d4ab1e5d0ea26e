"""Tests that only one worker at a time has a job, and that another worker takes over the jobs of a dead worker."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select, update

from scanner.records import jobs, leases, tallies
from scanner.records.database import Database
from scanner.records.leases import LeaseLost
from scanner.records.models import ScanJob, db_now
from scanner.records.states import JobKind, JobState


def queue(database: Database, **options: object) -> int:
    with database.write() as session:
        job_id = jobs.enqueue(session, JobKind.PUSHES, {"pushes": []}, source="test", **options)  # type: ignore[arg-type]
    assert job_id is not None
    return job_id


def age(database: Database, job_id: int, **values: object) -> None:
    with database.write() as session:
        session.execute(update(ScanJob).where(ScanJob.id == job_id).values(**values))


def state(database: Database, job_id: int) -> ScanJob:
    with database.read() as session:
        return session.execute(select(ScanJob).where(ScanJob.id == job_id)).scalar_one()


def test_a_job_is_claimed_once_until_its_lease_ends(database: Database) -> None:
    job_id = queue(database)
    assert jobs.claim_next(database, JobKind.PUSHES) is not None
    assert jobs.claim_next(database, JobKind.PUSHES) is None
    age(database, job_id, leased_until=db_now(-1))
    again = jobs.claim_next(database, JobKind.PUSHES)
    assert again is not None
    assert again.lease.attempts == 2


def test_of_many_workers_at_once_exactly_one_gets_the_job(database: Database) -> None:
    queue(database)
    won: list[object] = []
    start = threading.Barrier(6)

    def work() -> None:
        start.wait()
        job = jobs.claim_next(database, JobKind.PUSHES)
        if job is not None:
            won.append(job)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_a_worker_that_lost_its_lease_writes_nothing(database: Database) -> None:
    job_id = queue(database)
    first = jobs.claim_next(database, JobKind.PUSHES)
    assert first is not None
    age(database, job_id, leased_until=db_now(-1))
    second = jobs.claim_next(database, JobKind.PUSHES)
    assert second is not None

    def finish_too_late() -> None:
        with database.write() as session:
            jobs.enqueue(session, JobKind.PUSHES, {"pushes": []}, source="retry")
            jobs.finish(session, first, JobState.DONE, counts={})

    with pytest.raises(LeaseLost):
        finish_too_late()
    with database.write() as session:
        jobs.finish(session, second, JobState.DONE, counts={"pushes": 1})
    assert state(database, job_id).counts == {"pushes": 1}
    with database.read() as session:
        assert len(session.execute(select(ScanJob.id)).all()) == 1


def test_a_lease_is_renewed_during_the_work_and_its_loss_is_noticed(database: Database) -> None:
    job_id = queue(database)
    job = jobs.claim_next(database, JobKind.PUSHES)
    assert job is not None
    age(database, job_id, leased_until=db_now(1))
    with leases.keep_renewed(database, job.lease, every=0.02) as keeping:
        while True:
            with database.read() as session:
                far = session.execute(
                    select(ScanJob.leased_until > db_now(20)).where(ScanJob.id == job_id)
                ).scalar_one()
            if far:
                break
        assert not keeping.lost.is_set()
        with database.write() as session:
            assert jobs.cancel(session, job_id)
        assert keeping.lost.wait(30)
    with pytest.raises(LeaseLost), database.write() as session:
        jobs.finish(session, job, JobState.DONE, counts={})
    assert state(database, job_id).state == "cancelled"


def test_a_job_without_progress_is_visibly_failed_and_blocks_no_other(database: Database) -> None:
    bad, good = queue(database, priority=1), queue(database, priority=2)
    for _ in range(jobs.MAX_FAILURES):
        job = jobs.claim_next(database, JobKind.PUSHES)
        assert job is not None
        assert job.id == bad
        age(database, bad, leased_until=None)
    following = jobs.claim_next(database, JobKind.PUSHES)
    assert following is not None
    assert following.id == good
    failed = state(database, bad)
    assert failed.state == "failed"
    assert "without progress" in str(failed.error)


def test_failed_jobs_are_counted_in_the_tallies(database: Database) -> None:
    with database.write() as session:
        jobs.enqueue(session, JobKind.FILES, {"files": [{}, {}, {}]}, source="gists")
        jobs.enqueue(session, JobKind.REPOSITORY, {"repository": "ana/app"}, source="public_events")
        session.execute(update(ScanJob).values(failures=jobs.MAX_FAILURES))
    assert jobs.claim_next(database, JobKind.FILES, JobKind.REPOSITORY) is None
    with database.read() as session:
        counted = tallies.since(session, 1)
    assert {source: one["given_up"] for source, one in counted.items()} == {"gists": 3, "public_events": 1}


def test_a_long_job_that_makes_progress_is_not_failed(database: Database) -> None:
    job_id = queue(database)
    for step in range(3 * jobs.MAX_FAILURES):
        job = jobs.claim_next(database, JobKind.PUSHES)
        assert job is not None
        jobs.checkpoint(database, job, {"step": step})
        age(database, job_id, leased_until=None)
    assert state(database, job_id).progress == {"step": 3 * jobs.MAX_FAILURES - 1}


@pytest.mark.parametrize("column", ["next_attempt_at", "leased_until"])
def test_a_time_further_ahead_than_any_plan_counts_as_due(database: Database, column: str) -> None:
    job_id = queue(database)
    age(database, job_id, **{column: db_now(10 * leases.MAX_DELAY_SECONDS)})
    assert jobs.claim_next(database, JobKind.PUSHES) is not None


def test_a_job_in_the_future_waits(database: Database) -> None:
    queue(database, delay=60)
    assert jobs.claim_next(database, JobKind.PUSHES) is None


def test_urgent_jobs_go_first(database: Database) -> None:
    queue(database, priority=100)
    urgent = queue(database, priority=10)
    job = jobs.claim_next(database, JobKind.PUSHES)
    assert job is not None
    assert job.id == urgent


def test_a_job_with_the_same_key_is_queued_once_and_again_after_it_began(database: Database) -> None:
    queue(database, dedupe_key="repository:a/b")
    with database.write() as session:
        assert jobs.enqueue(session, JobKind.PUSHES, {}, source="test", dedupe_key="repository:a/b") is None
    assert jobs.claim_next(database, JobKind.PUSHES) is not None
    queue(database, dedupe_key="repository:a/b")


def test_a_request_after_a_job_began_stays_a_separate_job(database: Database) -> None:
    first = queue(database, dedupe_key="repository:a/b")
    job = jobs.claim_next(database, JobKind.PUSHES)
    assert job is not None
    second = queue(database, dedupe_key="repository:a/b")
    with database.write() as session:
        jobs.defer(session, job, delay=0, error=None)
        assert jobs.enqueue(session, JobKind.PUSHES, {}, source="test", dedupe_key="repository:a/b") is None
    assert [state(database, one).state for one in (first, second)] == ["queued", "queued"]
    claimed = [jobs.claim_next(database, JobKind.PUSHES) for _ in range(3)]
    assert sorted(one.id for one in claimed if one is not None) == [first, second]


@pytest.mark.parametrize("has_twin", [False, True])
def test_a_job_that_has_read_nothing_yet_covers_later_requests(database: Database, has_twin: bool) -> None:
    queue(database, dedupe_key="repository:a/b")
    job = jobs.claim_next(database, JobKind.PUSHES)
    assert job is not None
    if has_twin:
        queue(database, dedupe_key="repository:a/b", delay=60)
    with database.write() as session:
        jobs.requeue_unread(session, job, delay=0, error="a limit")
        assert jobs.enqueue(session, JobKind.PUSHES, {}, source="test", dedupe_key="repository:a/b") is None
    given_back = state(database, job.id)
    assert (given_back.state, given_back.failures, given_back.begun_at is not None) == ("queued", 0, has_twin)
    again = jobs.claim_next(database, JobKind.PUSHES)
    assert again is not None
    assert again.id == job.id


def test_an_urgent_request_makes_a_waiting_job_due_at_once(database: Database) -> None:
    urgent = queue(database, priority=1, dedupe_key="a")
    waiting = queue(database, priority=100, delay=3600, dedupe_key="b")
    with database.write() as session:
        for key in ("a", "b"):
            jobs.enqueue_urgent(session, JobKind.PUSHES, {}, source="rescan", priority=10, dedupe_key=key)
        child = jobs.enqueue_urgent(
            session, JobKind.PUSHES, {}, source="rescan", priority=20, dedupe_key="b", parent_id=urgent
        )
    assert child == waiting
    hastened = state(database, waiting)
    assert (hastened.priority, hastened.source, hastened.parent_id) == (10, "rescan", urgent)
    assert state(database, urgent).priority == 1
    assert [jobs.claim_next(database, JobKind.PUSHES) is not None for _ in range(3)] == [True, True, False]


def test_cancelling_a_job_cancels_children_that_only_it_requested(database: Database) -> None:
    parent = queue(database)
    child = queue(database, parent_id=parent)
    with database.write() as session:
        assert jobs.cancel_with_children(session, parent) == [parent, child]
        assert jobs.cancel_with_children(session, parent) == []


@pytest.mark.parametrize("is_first", [False, True])
@pytest.mark.parametrize("is_operator", [False, True])
def test_a_child_that_was_also_requested_separately_is_not_cancelled(
    database: Database, is_first: bool, is_operator: bool
) -> None:
    parent = queue(database)

    def led_to() -> None:
        jobs.enqueue_urgent(session, JobKind.PUSHES, {}, source="rescan", priority=20, dedupe_key="b", parent_id=parent)

    def asked_for() -> None:
        if is_operator:
            jobs.enqueue_urgent(session, JobKind.PUSHES, {}, source="rescan", priority=10, dedupe_key="b")
        else:
            jobs.enqueue(session, JobKind.PUSHES, {}, source="public_events", dedupe_key="b")

    with database.write() as session:
        for ask in (asked_for, led_to) if is_first else (led_to, asked_for):
            ask()
        led_to()
        assert jobs.cancel_with_children(session, parent) == [parent]


def test_a_child_requested_twice_by_its_parent_is_cancelled_with_it(database: Database) -> None:
    parent = queue(database)
    with database.write() as session:
        child = [
            jobs.enqueue_urgent(
                session, JobKind.PUSHES, {}, source="rescan", priority=20, dedupe_key="b", parent_id=parent
            )
            for _ in range(2)
        ]
        assert jobs.cancel_with_children(session, parent) == [parent, child[0]]


def test_a_waiting_job_takes_the_priority_of_a_more_urgent_request(database: Database) -> None:
    waiting = queue(database, priority=200, dedupe_key="b")
    for priority in (100, 150):
        with database.write() as session:
            assert jobs.enqueue(session, JobKind.PUSHES, {}, source="test", priority=priority, dedupe_key="b") is None
        assert state(database, waiting).priority == 100


def test_old_jobs_are_deleted_and_failed_ones_kept_longer(database: Database) -> None:
    ended = {name: queue(database) for name in ("done", "failed", "queued")}
    for name, job_id in ended.items():
        age(database, job_id, state=name, finished_at=None if name == "queued" else db_now(-5 * 86400))
    with database.write() as session:
        assert jobs.purge_expired(session, days=3, failed_days=30) == 1
    with database.read() as session:
        assert set(session.execute(select(ScanJob.state)).scalars()) == {"failed", "queued"}


def test_claiming_several_rows_skips_held_ones(database: Database) -> None:
    ids = [queue(database) for _ in range(5)]
    with database.write() as session:
        assert leases.claim(session, ScanJob, ids[1]) is not None
    age(database, ids[3], next_attempt_at=db_now(60))
    with database.write() as session:
        held = leases.claim_all(session, ScanJob, ids, ScanJob.kind == JobKind.PUSHES, state="running")
    assert sorted((lease.key, lease.attempts) for lease in held) == [(ids[0], 1), (ids[2], 1), (ids[4], 1)]
    assert [state(database, one).state for one in ids] == ["running", "queued", "running", "queued", "running"]
    with database.write() as session:
        assert leases.claim_all(session, ScanJob, ids) == []
        assert leases.claim_all(session, ScanJob, []) == []


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite allows only one writer at a time
def test_claiming_skips_locked_rows(database: Database) -> None:
    ids = [queue(database) for _ in range(3)]
    with database.write() as other:
        other.execute(update(ScanJob).where(ScanJob.id == ids[0]).values(error="busy"))
        with database.write() as session:
            held = leases.claim_all(session, ScanJob, ids)
    assert sorted(lease.key for lease in held) == ids[1:]


def test_writing_several_rows_skips_lost_leases(database: Database) -> None:
    ids = [queue(database) for _ in range(3)]
    with database.write() as session:
        held = leases.claim_all(session, ScanJob, ids)
    age(database, ids[1], attempts=2, error="somebody else's")
    with database.write() as session:
        assert leases.write_all(session, held, error="ours") == {ids[0], ids[2]}
        assert leases.write_all(session, [], error="nobody's") == set()
    assert [state(database, one).error for one in ids] == ["ours", "somebody else's", "ours"]

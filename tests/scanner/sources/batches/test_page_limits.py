"""Tests that a hostile item in a job does not affect the other items of the job."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from scanner.detection import Detector, budgets, candidate_limits
from scanner.detection.git.packs import PackLimits
from scanner.github.client import GitHub
from scanner.records import jobs, tallies, time_limits
from scanner.records.database import Database
from scanner.records.leases import LeaseLost
from scanner.records.models import ScanJob, Sighting
from scanner.records.states import JobKind
from scanner.response.policy import Policy
from scanner.sources.pushes import scan as push_scan
from scanner.sources.pushes.push import Push, PushReading
from scanner.sources.pushes.reading import read_push
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.workplace import Workplace
from workers.sandbox.world import until

HANGING = "hangs/app"


def push_of(repository: str, before: str = "a" * 40, head: str = "b" * 40, repository_id: int = 1) -> Push:
    return Push(repository, repository_id, before, head, "refs/heads/main", "branch", None, "push")


@pytest.fixture
def scan(database: Database, client: GitHub, tmp_path: Path) -> Callable[[], bool]:
    """Return a function that runs the next job for reading pushes, or returns False if there is none."""

    def once() -> bool:
        response = push_scan.scan_next(
            database, client, Detector(), Policy(), limits=PackLimits(), threads=2, state_dir=tmp_path
        )
        return response is not None

    return once


def queue(database: Database, *pushes: Push) -> None:
    with database.write() as session:
        jobs.enqueue(session, JobKind.PUSHES, {"pushes": [push.to_json() for push in pushes]}, source="test")


def test_a_page_with_a_push_that_hangs_is_split_and_only_that_push_is_failed(
    database: Database, scan: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped() -> int:
        with database.read() as session:
            return tallies.since(session, 1).get("test", {}).get("error_time_limit", 0)

    def read(_github: object, push: Push, *_: object, **__: object) -> PushReading:
        if push.repository == HANGING:
            before = stopped()
            until(lambda: stopped() > before, 60)
        return PushReading()

    monkeypatch.setattr(push_scan, "read_push", read)
    monkeypatch.setitem(time_limits.JOB_SECONDS, JobKind.PUSHES, 0.2)
    queue(database, push_of(HANGING), push_of("ana/app"), push_of("bo/app"))
    lost = 0
    while True:
        try:
            if not scan():
                break
        except LeaseLost:
            lost += 1
    assert lost == 1 + 3, "the page loses its lease once, and the single push three times"
    with database.read() as session:
        found = session.execute(select(ScanJob.state, ScanJob.target, ScanJob.counts).order_by(ScanJob.id)).all()
    page, *singles = found
    assert page.counts == {"split": 3}
    assert {row.target["pushes"][0]["repository"]: row.state for row in singles} == {
        HANGING: "failed",
        "ana/app": "done",
        "bo/app": "done",
    }


def pushed(work: Workplace, sandbox: SandboxGitHub) -> Push:
    """Commit and push the files of the working copy. Return the push as r8scan queues it."""
    before = work.head()
    work.commit("more")
    work.push()
    return push_of("ana/app", before, work.head(), sandbox.repositories["ana/app"].id)


@pytest.fixture
def work(workplace: Callable[..., Workplace]) -> Workplace:
    copy = workplace("ana/app")
    copy.write("README", "first")
    copy.commit("first")
    copy.push()
    return copy


def test_variants_of_one_bomb_share_the_budget_of_their_push(
    client: GitHub,
    sandbox: SandboxGitHub,
    work: Workplace,
    fresh_token: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budgets, "PUSH_WORK", 3_000_000)
    for number in range(10):
        work.write(f"bomb{number}.gz", gzip.compress(bytes(1_000_000) + bytes([number])))
    work.write("z.txt", f"x = '{fresh_token()}'")
    reading = read_push(client, pushed(work, sandbox), Detector(), limits=PackLimits())
    assert len(reading.candidates) == 1
    assert reading.unread["budget"] >= 6
    assert not reading.is_cut_off, "reading the push by itself would cost the same"


def test_a_push_whose_budget_other_pushes_spent_is_read_again_by_itself(
    client: GitHub, sandbox: SandboxGitHub, work: Workplace, fresh_token: Callable[[], str]
) -> None:
    page = budgets.ScanBudget.for_page()
    page.spend(seconds=page.seconds)
    work.write("a.gz", gzip.compress(f"x = '{fresh_token()}'".encode()))
    push = pushed(work, sandbox)
    reading = read_push(client, push, Detector(), limits=PackLimits(), page_budget=page)
    assert (reading.candidates, reading.unread, reading.is_cut_off) == ([], {"budget": 1}, True)
    alone = read_push(client, push, Detector(), limits=PackLimits(), page_budget=budgets.ScanBudget.for_page())
    assert (len(alone.candidates), alone.complete) == (1, True)


def test_a_flood_of_invented_tokens_is_cut_and_counted(
    database: Database,
    scan: Callable[[], bool],
    sandbox: SandboxGitHub,
    work: Workplace,
    fresh_token: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(candidate_limits, "MAX_DIGESTS", 50)
    monkeypatch.setattr(candidate_limits, "MAX_PLACES", 3)
    common = fresh_token()
    for number in range(10):
        work.write(f"a{number}.txt", "\n".join([common, *(fresh_token() for _ in range(10))]))
    queue(database, pushed(work, sandbox))
    assert scan()
    with database.read() as session:
        job = session.execute(select(ScanJob).order_by(ScanJob.id).limit(1)).scalar_one()
        rows = session.execute(select(Sighting.digest)).scalars().all()
    assert len(set(rows)) == 50
    assert len(rows) == 49 + 3
    assert job.state == "partial"
    assert job.counts["unread_candidates_over_limit"] == 101 - 50
    assert job.counts["unread_places_over_limit"] == 10 - 3

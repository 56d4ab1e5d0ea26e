"""Tests that a rescan reads issues, comments, reviews and releases page by page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from sqlalchemy import select, update
from starlette.responses import Response

from scanner.github.addresses import Target
from scanner.github.client import get_json
from scanner.github.errors import RateLimited
from scanner.records import jobs
from scanner.records.database import Database
from scanner.records.models import Exposure, ScanJob, db_now
from scanner.response.respond import Response as Responded
from scanner.sources.rescan import conversations
from scanner.sources.rescan.steps import Work
from tests.scanner.sources.knowing import make_due
from tests.scanner.sources.rescan.rescanning import Token, enqueue, job, known, run
from workers.sandbox.github import SandboxGitHub


def test_issues_comments_and_other_texts_are_read_page_by_page(
    database: Database,
    sandbox: SandboxGitHub,
    fresh_token: Token,
    rescan: Callable[[], Responded | None],
) -> None:
    sandbox.create_repository("ana/app")
    listings = sandbox.repositories["ana/app"].listings
    tokens = {name: fresh_token() for name in ("issues", "issues/comments", "pulls/comments", "comments", "releases")}
    for name, token in tokens.items():
        known(database, token)
        listings[name] += [{"body": "nothing", "html_url": None} for _ in range(119)]
        listings[name].append({"body": "nothing", "html_url": "https://["})
        page = f"{sandbox.url}/ana/app/{name}/121"
        listings[name].append({"body": f"key: {token}", "html_url": page, "created_at": "2026-01-01T00:00:00Z"})
    listings["issues"][-1]["pull_request"] = {"url": "x"}
    job_id = enqueue(database, Target("repository", "ana/app"))
    run(rescan)
    done = job(database, job_id)
    assert (done.state, done.counts["issues"], done.counts["releases"]) == ("done", 121, 121)
    with database.read() as session:
        found = {place.kind: place for place in session.execute(select(Exposure)).scalars()}
    assert set(found) == {"pull_request", "issue_comment", "review_comment", "commit_comment", "release"}
    assert found["release"].url == f"{sandbox.url}/ana/app/releases/121"
    assert found["release"].published_at is not None


def test_an_interrupted_step_continues_at_its_page(
    database: Database, sandbox: SandboxGitHub, rescan: Callable[[], Responded | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.create_repository("ana/app")
    sandbox.repositories["ana/app"].listings["issues"] += [{"body": "x", "number": n} for n in range(350)]
    job_id = enqueue(database, Target("repository", "ana/app"))
    rescan()
    rescan()
    checkpoint, calls = Work.checkpoint, []

    def dies(self: Work, at: Mapping[str, Any]) -> None:
        checkpoint(self, at)
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Work, "checkpoint", dies)
    with pytest.raises(KeyboardInterrupt):
        rescan()
    monkeypatch.undo()
    assert job(database, job_id).progress["at"] == {"page": 3}
    with database.write() as session:
        session.execute(update(ScanJob).values(leased_until=None))
    sandbox.requests.clear()
    rescan()
    assert sandbox.requests["issues"] == 2
    assert job(database, job_id).progress["counts"]["issues"] == 350


def test_waiting_for_a_rate_limit_is_no_failure(
    database: Database, sandbox: SandboxGitHub, rescan: Callable[[], Responded | None]
) -> None:
    sandbox.create_repository("ana/app")
    job_id = enqueue(database, Target("repository", "ana/app"))
    for _ in range(jobs.MAX_FAILURES + 2):
        sandbox.faults["repository"].append(lambda: Response(status_code=429, headers={"retry-after": "1"}))
        with database.write() as session:
            session.execute(update(ScanJob).values(next_attempt_at=db_now()))
        rescan()
        assert (job(database, job_id).state, job(database, job_id).failures) == ("queued", 0)


def test_a_list_that_cannot_be_read_is_counted_and_the_rest_is_read(
    database: Database, sandbox: SandboxGitHub, rescan: Callable[[], Responded | None]
) -> None:
    sandbox.create_repository("ana/app")
    sandbox.faults["issues"].append(lambda: Response(status_code=410))
    sandbox.faults["releases"].append(lambda: Response(status_code=403))
    job_id = enqueue(database, Target("repository", "ana/app"))
    run(rescan)
    done = job(database, job_id)
    assert (done.state, done.counts["unread_releases"], done.counts["error_forbidden"]) == ("partial", 1, 1)


def test_reviews_are_read_and_unlisted_discussions_are_counted(
    database: Database,
    sandbox: SandboxGitHub,
    fresh_token: Token,
    rescan: Callable[[], Responded | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(conversations, "MAX_REVIEWED", 100)
    token = fresh_token()
    known(database, token)
    sandbox.create_repository("ana/app").has_discussions = True
    listings = sandbox.repositories["ana/app"].listings
    listings["pulls"] += [{"number": number} for number in range(1, 104)]
    listings["pulls/7/reviews"] += [{"body": "fine"}] * 100 + [{"body": f"use {token}", "html_url": None}]
    listings["releases"].append({"body": "v1", "assets": [{}, {}]})
    job_id = enqueue(database, Target("repository", "ana/app"))
    run(rescan)
    done = job(database, job_id)
    assert (done.state, done.counts["reviews"], done.counts["unread_reviews"]) == ("partial", 101, 3)
    assert (done.counts["unread_discussions"], done.counts["unread_release_assets"]) == (1, 2)
    with database.read() as session:
        place = session.execute(select(Exposure)).scalar_one()
    assert (place.kind, place.published_at is not None) == ("review", True)


def test_reviews_are_read_though_an_hours_budget_is_smaller_than_a_page_of_pull_requests(
    database: Database, sandbox: SandboxGitHub, rescan: Callable[[], Responded | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.create_repository("ana/app")
    listings = sandbox.repositories["ana/app"].listings
    for number in range(1, 121):
        listings["pulls"].append({"number": number})
        listings[f"pulls/{number}/reviews"] += [{"body": "fine"}] * (150 if number % 10 == 0 else 1)
    left = [0]

    def limited(*arguments: Any, **options: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise RateLimited("budget_reserved", "spent", retry_after=3600, asked=False)
        return get_json(*arguments, **options)

    job_id = enqueue(database, Target("repository", "ana/app"))
    while job(database, job_id).progress.get("phase") != "reviews":
        rescan()
    monkeypatch.setattr(conversations, "get_json", limited)
    for _ in range(10):
        left[0] = 30
        make_due(database)
        rescan()
    done = job(database, job_id)
    assert (done.state, done.counts["reviews"]) == ("done", 108 + 12 * 150)

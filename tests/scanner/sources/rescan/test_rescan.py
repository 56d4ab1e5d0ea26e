"""Tests of rescans of a repository, a gist, or all repositories of an owner."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import select, update
from starlette.responses import Response

from scanner.detection import Detector
from scanner.detection.history.scan import scan_history
from scanner.github import mirrors
from scanner.github.addresses import Target
from scanner.github.client import GitHub, get_json
from scanner.github.mirrors import MirrorStopped
from scanner.records import jobs
from scanner.records.database import Database
from scanner.records.models import Exposure, ScanJob, db_now
from scanner.records.states import JobKind
from scanner.response.policy import Policy
from scanner.response.respond import Response as Responded
from scanner.settings import Settings
from scanner.sources.pushes import memory as push_memory
from scanner.sources.pushes.push import Push
from scanner.sources.rescan import conversations, history, manual, owners
from scanner.sources.rescan import run as rescan_module
from scanner.sources.rescan.mirror_folders import FOLDER
from scanner.sources.rescan.run import rescan_next
from scanner.sources.rescan.steps import Work
from scanner.sources.timeline.event_jobs import enqueue_found
from scanner.sources.timeline.events import Found
from tests.scanner.sources.knowing import make_due
from tests.scanner.sources.rescan.rescanning import Make, Token, enqueue, job, known, queue, run
from workers.sandbox.github import SandboxGitHub


def test_a_find_in_old_history_has_its_public_address(
    database: Database, workplace: Make, fresh_token: Token, rescan: Callable[[], Responded | None], settings: Settings
) -> None:
    token = fresh_token()
    known(database, token)
    work = workplace()
    work.write("a b.py", f"one\n{token}\n")
    commit = work.commit("old")
    work.write("a b.py", "gone")
    work.commit("gone")
    work.push()
    job_id = queue(database)
    first = rescan()
    assert first is not None
    assert len(first.disabled) == 1
    with database.read() as session:
        exposure = session.execute(select(Exposure)).scalar_one()
        assert (exposure.path, exposure.commit, exposure.line) == ("a b.py", commit, 2)
        assert exposure.url.endswith(f"/ana/app/blob/{commit}/a%20b.py#L2")
        assert exposure.repository_id == 1001, "the id that the events of the timeline state"
    assert job(database, job_id).state == "queued", "the wiki is the next step"
    while rescan() is not None:
        pass
    done = job(database, job_id)
    assert (done.state, done.counts["candidates"]) == ("done", 1)
    assert not list((settings.state_dir / FOLDER).iterdir())
    assert rescan() is None


def test_an_unknown_repository_fails_in_one_line(database: Database, rescan: Callable[[], Responded | None]) -> None:
    job_id = queue(database, "no/body")
    rescan()
    failed = job(database, job_id)
    assert (failed.state, failed.error) == ("failed", "there is no public repository no/body")


def test_a_repository_over_the_limit_fails_visibly(
    database: Database, client: GitHub, workplace: Make, settings: Settings
) -> None:
    work = workplace()
    work.write("a.bin", os.urandom(3 << 20))
    work.commit("big")
    work.push()
    job_id = queue(database)
    small = settings.model_copy(update={"rescan_max_bytes": 1 << 20})
    rescan_next(database, client, Detector(), Policy(), settings=small)
    assert job(database, job_id).counts == {"error_mirror_over_limit": 1}
    assert not list((settings.state_dir / FOLDER).iterdir())


def test_an_outage_is_waited_for(
    database: Database, workplace: Make, sandbox: SandboxGitHub, rescan: Callable[[], Responded | None]
) -> None:
    workplace().commit("first")
    job_id = queue(database)
    sandbox.faults["repository"].append(lambda: Response(status_code=503))
    rescan()
    assert (job(database, job_id).state, rescan()) == ("queued", None)
    with database.write() as session:
        session.execute(update(ScanJob).values(next_attempt_at=db_now()))
    assert rescan() is not None


def test_retries_of_a_rescan_are_spread_and_refusals_by_the_gate_are_no_failures(
    database: Database,
    client: GitHub,
    workplace: Make,
    sandbox: SandboxGitHub,
    rescan: Callable[[], Responded | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workplace().commit("first")
    monkeypatch.setattr(rescan_module, "spread", lambda seconds: seconds + 5000)
    sandbox.faults["repository"].append(lambda: Response(status_code=500))
    job_id = queue(database)
    rescan()
    with database.write() as session:
        assert session.execute(select(ScanJob.next_attempt_at > db_now(4900))).scalar_one()
        session.execute(update(ScanJob).values(next_attempt_at=db_now()))
    client.gate.reject()
    rescan()
    refused = job(database, job_id)
    assert (refused.failures, "rejects the credential" in str(refused.error)) == (0, True)


def test_a_cancelled_rescan_ends_and_leaves_nothing(
    database: Database,
    workplace: Make,
    settings: Settings,
    rescan: Callable[[], Responded | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workplace().commit("first")
    job_id = queue(database)

    def cancelled_meanwhile(*_: object, **__: object) -> None:
        with database.write() as session:
            assert jobs.cancel(session, job_id)
        raise MirrorStopped

    monkeypatch.setattr(mirrors, "clone", cancelled_meanwhile)
    rescan()
    assert job(database, job_id).state == "cancelled"
    assert not list((settings.state_dir / FOLDER).iterdir())


def test_a_rescan_requested_during_a_rescan_runs_afterwards(
    database: Database, sandbox: SandboxGitHub, rescan: Callable[[], Responded | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.create_repository("ana/app")
    job_id = enqueue(database, Target("repository", "ana/app"))
    clone_whole, clones = mirrors.clone, []

    def made_public_meanwhile(*arguments: Any, **options: Any) -> None:
        clones.append(1)
        clone_whole(*arguments, **options)
        if len(clones) == 1:
            with database.write() as session:
                enqueue_found(session, Found(repositories=[("ana/app", 1001, None)]))

    monkeypatch.setattr(mirrors, "clone", made_public_meanwhile)
    run(rescan)
    with database.read() as session:
        ended = session.execute(select(ScanJob).order_by(ScanJob.id)).scalars().all()
    assert [(one.source, one.state) for one in ended] == [("rescan", "done"), ("public_events", "done")]
    assert ended[0].id == job_id
    # Each of the two rescans cloned the repository and its wiki.
    assert len(clones) == 4


def test_an_unreachable_part_does_not_prevent_reading_the_rest(
    database: Database, sandbox: SandboxGitHub, rescan: Callable[[], Responded | None]
) -> None:
    sandbox.create_repository("ana/app")
    sandbox.repositories["ana/app"].listings["releases"].append({"body": "v1"})
    sandbox.faults["issues"].extend([lambda: Response(status_code=502)] * jobs.MAX_FAILURES)
    job_id = enqueue(database, Target("repository", "ana/app"))
    for _ in range(20):
        make_due(database)
        rescan()
    done = job(database, job_id)
    assert (done.state, done.counts["unread_issues"], done.counts["error_http_502"]) == ("partial", 1, 1)
    assert done.counts["releases"] == 1


def test_a_part_that_kills_its_worker_does_not_prevent_reading_the_rest(
    database: Database, sandbox: SandboxGitHub, rescan: Callable[[], Responded | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.create_repository("ana/app")
    listings = sandbox.repositories["ana/app"].listings
    listings["issues"].append({"body": "deadly"})
    listings["releases"].append({"body": "v1"})
    scan = conversations._scan

    def dies(work: Work, entry: Any, *arguments: Any) -> Any:
        if entry["body"] == "deadly":
            raise KeyboardInterrupt
        return scan(work, entry, *arguments)

    monkeypatch.setattr(conversations, "_scan", dies)
    job_id = enqueue(database, Target("repository", "ana/app"))
    for _ in range(20):
        make_due(database)
        with contextlib.suppress(KeyboardInterrupt):
            rescan()
    done = job(database, job_id)
    assert (done.state, done.counts["unread_issues"], done.counts["releases"]) == ("partial", 1, 1)


def test_a_gist_is_read_with_its_history(
    database: Database, sandbox: SandboxGitHub, fresh_token: Token, rescan: Callable[[], Responded | None]
) -> None:
    token = fresh_token()
    known(database, token)
    gist = sandbox.create_gist({"a.py": f"x = '{token}'".encode()})
    job_id = enqueue(database, Target("gist", gist.id))
    run(rescan)
    assert job(database, job_id).state == "done"
    with database.read() as session:
        place = session.execute(select(Exposure)).scalar_one()
    assert (place.kind, place.path, place.url) == ("gist", "a.py", f"{sandbox.url}/gist/{gist.id}")


def test_each_repository_and_gist_of_an_owner_becomes_a_job(
    database: Database, sandbox: SandboxGitHub, workplace: Make, rescan: Callable[[], Responded | None]
) -> None:
    for name in ("ana/one", "ana/two", "ben/other"):
        sandbox.create_repository(name)
    sandbox.create_gist({"a.py": b"x"}, owner="ana")
    job_id = enqueue(database, Target("owner", "ana"))
    run(rescan)
    done = job(database, job_id)
    assert (done.state, done.counts) == ("done", {"repositories": 2, "gists": 1})
    with database.read() as session:
        children = session.execute(select(ScanJob).where(ScanJob.parent_id == job_id)).scalars().all()
    assert sorted(child.kind for child in children) == ["gist", "repository", "repository"]
    assert {child.state for child in children} == {"done"}


def test_a_cancelled_owner_rescan_queues_no_further_jobs(
    database: Database, sandbox: SandboxGitHub, rescan: Callable[[], Responded | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox.create_repository("ana/one")
    job_id = enqueue(database, Target("owner", "ana"))

    def cancelled_meanwhile(*arguments: Any, **options: Any) -> Any:
        answer = get_json(*arguments, **options)
        with database.write() as session:
            assert jobs.cancel_with_children(session, job_id) == [job_id]
        return answer

    monkeypatch.setattr(owners, "get_json", cancelled_meanwhile)
    rescan()
    with database.read() as session:
        assert [one.state for one in session.execute(select(ScanJob)).scalars()] == ["cancelled"]


def test_a_waiting_repository_job_becomes_urgent_and_joins_the_owners_rescan(
    database: Database, sandbox: SandboxGitHub, rescan: Callable[[], Responded | None]
) -> None:
    sandbox.create_repository("ana/one")
    target = {"repository": "ana/one", "repository_id": None, "published_at": None}
    with database.write() as session:
        options: dict[str, Any] = {"priority": 100, "delay": 3600, "dedupe_key": "repository:ana/one"}
        waiting = jobs.enqueue(session, JobKind.REPOSITORY, target, source="public_events", **options)
    assert waiting is not None
    owner_id = enqueue(database, Target("owner", "ana"))
    rescan()
    assert (job(database, waiting).parent_id, job(database, waiting).priority) == (owner_id, owners.CHILD_PRIORITY)
    assert enqueue(database, Target("repository", "ana/one")) == waiting
    assert (job(database, waiting).priority, job(database, waiting).source) == (manual.PRIORITY, "rescan")
    run(rescan)
    assert job(database, waiting).state == "done"


def test_a_repository_that_became_public_is_read_even_if_its_owners_rescan_is_cancelled(
    database: Database, sandbox: SandboxGitHub, rescan: Callable[[], Responded | None]
) -> None:
    for name in ("ana/one", "ana/two"):
        sandbox.create_repository(name)
    owner_id = enqueue(database, Target("owner", "ana"))
    rescan()
    with database.write() as session:
        enqueue_found(session, Found(repositories=[("ana/one", 1001, None)]))
        assert len(jobs.cancel_with_children(session, owner_id)) == 2
    run(rescan)
    with database.read() as session:
        repositories = session.execute(select(ScanJob).where(ScanJob.kind == JobKind.REPOSITORY)).scalars().all()
    assert {one.target["repository"]: one.state for one in repositories} == {"ana/one": "done", "ana/two": "cancelled"}


@pytest.mark.parametrize("target", [Target("owner", "nobody"), Target("gist", "abc"), Target("repository", "no/body")])
def test_a_missing_target_fails_with_one_line(
    database: Database, rescan: Callable[[], Responded | None], target: Target
) -> None:
    job_id = enqueue(database, target)
    run(rescan)
    failed = job(database, job_id)
    assert failed.state == "failed"
    assert "\n" not in str(failed.error)
    assert target.name in str(failed.error)


def test_two_requests_queue_one_job(database: Database) -> None:
    assert enqueue(database, Target("owner", "Ana")) == enqueue(database, Target("owner", "ana"))


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_repository_that_was_read_whole_is_remembered_up_to_its_branches_and_tags(
    database: Database,
    workplace: Make,
    rescan: Callable[[], Responded | None],
    client: GitHub,
    monkeypatch: pytest.MonkeyPatch,
    is_damaged: bool,
) -> None:
    work = workplace()
    work.write("a.py", "one")
    head = work.commit("one")
    work.git("tag", "-a", "v1", "-m", "one")
    work.git("checkout", "-q", "-b", "other")
    other = work.commit("two")
    work.push("main", "other", "v1")
    if is_damaged:

        def partly(*arguments: Any, **options: Any) -> Any:
            return replace(scan_history(*arguments, **options), unread=Counter(blob_too_large=1))

        monkeypatch.setattr(history, "scan_history", partly)
    queue(database)
    while rescan() is not None:
        pass
    push = Push("ana/app", 1001, "0" * 40, "", "", "", None, "push")
    host = urlsplit(client.web_url).netloc
    with database.read() as session:
        found = list(push_memory.recall(session, [push], host).values())
    if is_damaged:
        assert found == []
        return
    tag = work.git("rev-parse", "v1").strip()
    assert {tip.oid for tip in found[0].tips} == {head, other, tag}
    assert [tip.oid for tip in found[0].tips if tip.is_default] == [head]
    assert found[0].is_whole
    assert found[0].has_read(other)

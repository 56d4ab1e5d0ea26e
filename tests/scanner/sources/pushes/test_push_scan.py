"""Tests that a worker reads the pushes of a job, responds to their tokens, and retries failed pushes."""

from __future__ import annotations

import gzip
import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError

from scanner.detection import candidate_limits, pushed_packs
from scanner.records import jobs, spool
from scanner.records.leases import LeaseLost
from scanner.records.models import Exposure, NotificationSubject, ScanJob
from scanner.records.reading_models import RepositoryTips, UnreadContent
from scanner.records.states import JobKind
from scanner.response.policy import Policy
from scanner.response.respond import look_up_again
from scanner.sources.batches import recovery
from scanner.sources.batches import runner as page_work
from scanner.sources.pushes import scan as push_scan
from scanner.sources.pushes.reading import read_push
from scanner.sources.pushes.tips import decoded
from scanner.sources.timeline.events import parse_event, read_events
from tests.scanner.sources.knowing import exposures
from tests.scanner.sources.pushes.scanning import Bench, Make, Token, leaked, push
from workers.sandbox.github import SandboxGitHub


def test_a_page_is_read_and_its_tokens_are_disabled(bench: Bench, workplace: Make, fresh_token: Token) -> None:
    tokens = [fresh_token() for _ in range(3)]
    digests = [bench.know(token) for token in tokens]
    bench.queue(*(leaked(workplace, token, f"ana/app{n}") for n, token in enumerate(tokens)))
    done = bench.scan()
    assert done is not None
    assert len(done.disabled) == 3
    assert all(bench.is_disabled(digest) for digest in digests)
    (job,) = bench.jobs()
    assert (job.state, job.counts["pushes"], job.counts["candidates"]) == ("done", 3, 3)
    assert not bench.has_more()


def test_every_real_token_of_a_push_is_disabled_however_many_there_are(
    bench: Bench, workplace: Make, fresh_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidate_limits, "MAX_DIGESTS", 2)
    monkeypatch.setattr(pushed_packs, "MAX_CANDIDATES", 1)  # the pack is then read in a confined process
    tokens = [fresh_token() for _ in range(6)]
    digests = [bench.know(token) for token in tokens]
    work = workplace()
    before = work.commit("first")
    for number, token in enumerate([*tokens, fresh_token()]):
        work.write(f"f{number}", token)
    head = work.commit("oops")
    work.push()
    job_id = bench.queue(push(before, head))
    bench.scan()
    assert all(map(bench.is_disabled, digests))
    with bench.database.read() as session:
        job = session.get_one(ScanJob, job_id)
        places = session.execute(select(Exposure.path)).scalars().all()
    assert len(set(places)) == 6
    assert "unread_candidates_over_limit" not in job.counts


def test_a_repository_that_is_gone_is_counted_and_not_tried_again(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    found = leaked(workplace, fresh_token())
    sandbox.repositories["ana/app"].hidden = True
    bench.queue(found)
    bench.scan()
    (job,) = bench.jobs()
    assert (job.state, job.counts["error_not_found"]) == ("done", 1)


def test_the_same_push_is_not_read_twice(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    found = leaked(workplace, fresh_token())
    bench.queue(found)
    bench.scan()
    sandbox.requests.clear()
    bench.queue(found)
    bench.scan()
    assert sandbox.requests["git"] == 0
    assert bench.jobs()[-1].counts == {"pushes": 1, "skipped_already_read": 1}


def test_a_push_that_was_read_in_part_does_not_count_as_read(
    bench: Bench, workplace: Make, fresh_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = leaked(workplace, fresh_token())
    whole = read_push

    def in_part(*arguments: Any, **options: Any) -> Any:
        reading = whole(*arguments, **options)
        reading.unread["blob_over_limit"] += 1
        return reading

    monkeypatch.setattr(push_scan, "read_push", in_part)
    bench.queue(found)
    bench.scan()
    assert bench.jobs()[0].state == "partial"
    with bench.database.read() as session:
        tips = decoded(session.execute(select(RepositoryTips.tips)).scalar_one())
    assert [(tip.oid, tip.is_read) for tip in tips] == [(found.head, False), (found.before, False)]
    bench.queue(found)
    bench.scan()
    assert "skipped_already_read" not in bench.jobs()[-1].counts


def test_a_page_that_killed_its_worker_twice_is_split(bench: Bench, workplace: Make, fresh_token: Token) -> None:
    token = fresh_token()
    digest = bench.know(token)
    bench.queue(leaked(workplace, token), push("a" * 40, "b" * 40, "ana/gone"))
    for _ in range(2):
        assert jobs.claim_next(bench.database, JobKind.PUSHES) is not None
        bench.make_due()
    bench.scan()
    page, *single = bench.jobs()
    assert (page.state, len(single)) == ("done", 2)
    assert [len(job.target["pushes"]) for job in single] == [1, 1]
    bench.scan()
    bench.scan()
    assert bench.is_disabled(digest)


def test_finds_during_a_database_outage_are_disabled_after_it_even_if_github_hides_them(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = fresh_token()
    digest = bench.know(token)
    bench.queue(leaked(workplace, token))

    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("SELECT", {}, Exception("the server is gone"))

    monkeypatch.setattr(page_work, "respond_to", away)
    with pytest.raises(OperationalError):
        bench.scan()
    monkeypatch.undo()
    (kept,) = (bench.state_dir / spool.FOLDER).iterdir()
    assert token not in kept.read_text()
    sandbox.repositories["ana/app"].hidden = True
    assert recovery.take_back(bench.database, bench.state_dir) == 1
    look_up_again(bench.database, policy=Policy())
    assert bench.is_disabled(digest)


def test_a_worker_that_lost_its_lease_closes_no_job_and_nobody_is_notified_twice(
    bench: Bench, workplace: Make, fresh_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = fresh_token()
    bench.know(token)
    job_id = bench.queue(leaked(workplace, token))
    close = page_work._close

    def late(*arguments: Any) -> None:
        with bench.database.read() as session:
            assert session.get(ScanJob, job_id) is not None
        close(*arguments)

    def stolen(session: Any, job: Any, outcomes: Any) -> None:
        session.execute(update(ScanJob).values(attempts=ScanJob.attempts + 1))
        late(session, job, outcomes)

    monkeypatch.setattr(page_work, "_close", stolen)
    with pytest.raises(LeaseLost):
        bench.scan()
    monkeypatch.undo()
    assert bench.jobs()[0].state == "running"
    bench.make_due()
    bench.scan()
    assert bench.jobs()[0].state == "done"
    with bench.database.read() as session:
        assert len(session.execute(select(NotificationSubject.id)).all()) == 1


def test_unread_contents_of_a_push_are_recorded_by_name(bench: Bench, workplace: Make, fresh_token: Token) -> None:
    token = fresh_token()
    digest = bench.know(token)
    damaged = gzip.compress(os.urandom(4000))[:2000]
    work = workplace("ana/app")
    before = work.commit("first")
    work.write("cut.gz", damaged)
    work.write("a.py", f"x = '{token}'\n")
    head = work.commit("oops")
    work.push()
    bench.queue(push(before, head))
    bench.scan()
    assert bench.is_disabled(digest)
    with bench.database.read() as session:
        row = session.execute(select(UnreadContent)).scalar_one()
    assert (row.reasons, row.size, row.source) == ("damaged", len(damaged), "public_events")
    assert row.content_digest == hashlib.sha256(damaged).hexdigest()
    assert row.place["repository"] == "ana/app"
    assert row.job_id == bench.jobs()[0].id


@pytest.mark.parametrize("is_remembered", [False, True])
def test_a_token_in_a_push_that_was_missed_is_found_by_a_later_push_of_the_repository(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token, is_remembered: bool
) -> None:
    token = fresh_token()
    digest = bench.know(token)
    work = workplace()
    first, second = (work.commit(str(number)) for number in range(2))
    if is_remembered:
        work.push()
        bench.queue(push(first, second))
        bench.scan()
        bench.scan()  # this reads the commits before the push
    work.write("a.py", f"x = '{token}'\n")
    missed = work.commit("oops")
    work.write("a.py", "x = 1\n")
    seen = work.commit("remove it")
    work.push()
    sandbox.requests.clear()
    bench.queue(push(missed, seen))
    bench.scan()
    if is_remembered:
        assert sandbox.requests["git"] == 1
    else:
        assert not bench.is_disabled(digest), "the earlier history is read after every queued push"
        assert bench.scan() is not None
    assert bench.is_disabled(digest)
    assert bench.scan() is None


@pytest.mark.parametrize("is_gone", [False, True])
def test_the_old_end_of_a_force_push_that_was_never_read_is_read_too(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token, is_gone: bool
) -> None:
    token, kept = fresh_token(), fresh_token()
    digest, kept_digest = bench.know(token), bench.know(kept)
    work = workplace()
    base = work.commit("first")
    work.push()
    bench.queue(push("0" * 40, base))
    bench.scan()
    work.write("a.py", f"x = '{token}'\n")
    replaced = "f" * 40 if is_gone else work.commit("oops")
    if not is_gone:
        work.push()
        work.git("reset", "-q", "--hard", base)
    work.write("a.py", f"x = '{kept}'\n")
    head = work.commit("again")
    work.push("--force", "HEAD")
    bench.queue(push(replaced, head))
    bench.scan()
    assert (bench.is_disabled(digest), bench.is_disabled(kept_digest)) == (not is_gone, True)
    assert bench.jobs()[-1].counts.get("unread_before_gone") == (1 if is_gone else None)
    assert sandbox.requests["compare"] == 0


def test_a_push_that_an_event_and_a_listing_show_is_read_once(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    at = datetime(2026, 11, 30, 12, tzinfo=UTC)
    found = replace(leaked(workplace, fresh_token()), published_at=at)
    listed = replace(found, before="0" * 40, published_at=at - timedelta(seconds=1))
    for shown in (found, listed, found):
        bench.queue(shown)
        bench.scan()
    assert [job.counts.get("skipped_already_read") for job in bench.jobs()] == [None, 1, 1]


def test_each_rung_and_what_it_may_miss_is_counted(bench: Bench, workplace: Make) -> None:
    work = workplace()
    commits = [work.commit(str(number)) for number in range(12)]
    work.push()
    bench.queue(push("0" * 40, commits[-1]))
    bench.scan()
    counts = bench.jobs()[-1].counts
    assert (counts["rung_boundary"], counts["may_miss_other_refs"], counts["may_miss_older_commits"]) == (1, 1, 1)


def test_the_other_branches_of_a_new_repository_are_read_after_its_default_branch(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    tokens = [fresh_token(), fresh_token()]
    first, other = map(bench.know, tokens)
    work = workplace()
    work.write("a.py", f"x = '{tokens[0]}'\n")
    head = work.commit("first")
    work.push()
    work.git("checkout", "-q", "-b", "draft")
    work.write("a.py", f"x = '{tokens[1]}'\n")
    work.commit("draft")
    work.push("HEAD")
    sandbox.requests.clear()
    bench.queue(replace(push("0" * 40, head), is_new=True))
    bench.scan()
    assert (bench.is_disabled(first), bench.is_disabled(other), sandbox.requests["git"]) == (True, False, 1)
    assert len(bench.jobs()) == 1, "the job for the other branches has a lower priority"
    bench.scan()
    assert bench.is_disabled(other)
    assert bench.scan() is None


def test_pushes_and_finds_are_counted_by_band_of_likelihood(bench: Bench, workplace: Make, fresh_token: Token) -> None:
    token = fresh_token()
    bench.know(token)
    bench.queue(replace(leaked(workplace, token), likelihood="likely"))
    bench.scan()
    counts = bench.jobs()[0].counts
    assert (counts["band_read_likely"], counts["band_found_likely"]) == (1, 1)


def test_a_changed_wiki_is_read_and_its_repository_named(bench: Bench, workplace: Make, fresh_token: Token) -> None:
    token = fresh_token()
    digest = bench.know(token)
    work = workplace("ana/app.wiki")
    work.write("Home.md", f"use {token}")
    work.commit("page")
    work.push()
    event = parse_event(
        {"id": "1", "type": "GollumEvent", "repo": {"id": 1001, "name": "ana/app"}, "payload": {"pages": []}}
    )
    assert event is not None
    bench.queue(*read_events([event], bench.client.web_url).pushes)
    bench.scan()
    assert bench.is_disabled(digest)
    (exposure,) = exposures(bench.database)
    assert (exposure.repository, exposure.kind) == ("ana/app", "wiki_page")
    assert exposure.url == f"{bench.client.web_url}/ana/app/wiki"

"""A page of pushes is read, responded to and closed. Failed pushes are retried, and nothing is lost."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update
from sqlalchemy.exc import OperationalError
from starlette.responses import JSONResponse, Response

from scanner.detection import Detector, candidate_limits, pushed_packs, sha256_digest
from scanner.detection.packs import PackLimits
from scanner.detection.token_formats import hint_of
from scanner.github.client import GitHub, connect, get_json
from scanner.github.errors import RateLimited
from scanner.github.git_protocol import pkt_line
from scanner.records import jobs, spool
from scanner.records.database import Database
from scanner.records.leases import LeaseLost
from scanner.records.models import ApiToken, Exposure, NotificationSubject, ScanJob, db_now
from scanner.records.source_models import RepositoryTips, UnreadContent
from scanner.records.states import JobKind
from scanner.response.policy import Policy
from scanner.response.respond import Response as Responded
from scanner.response.respond import look_up_again
from scanner.sources.batches import recovery
from scanner.sources.batches import runner as page_work
from scanner.sources.pushes import scan as push_scan
from scanner.sources.pushes.likelihood import EARLIER_PRIORITY
from scanner.sources.pushes.push import Push
from scanner.sources.pushes.reading import read_push
from scanner.sources.pushes.scan import scan_next
from scanner.sources.pushes.tips import decoded
from scanner.sources.timeline.events import Found, parse_event, read_event
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from tests.scanner.sources.knowing import exposures
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.workplace import Workplace

Make = Callable[..., Workplace]
Token = Callable[[], str]


class Bench:
    """A database, a GitHub and a page of pushes."""

    def __init__(self, database: Database, client: GitHub, state_dir: Path) -> None:
        self.database, self.client, self.state_dir = database, client, state_dir

    def know(self, token: str) -> str:
        digest = sha256_digest(token.encode())
        with self.database.write() as session:
            row = ImportedToken(digest, hint_of(token.encode()), "ci", "ana", ("ana@example.com",))
            ImportRun.begin().write(session, [row])
        return digest

    def queue(self, *pushes: Push) -> int:
        with self.database.write() as session:
            target = {"pushes": [push.to_json() for push in pushes]}
            job_id = jobs.enqueue(session, JobKind.PUSHES, target, source="public_events")
        assert job_id is not None
        return job_id

    def scan(self, threads: int = 4) -> Responded | None:
        return scan_next(
            self.database,
            self.client,
            Detector(),
            Policy(),
            limits=PackLimits(),
            threads=threads,
            state_dir=self.state_dir,
        )

    def jobs(self) -> list[ScanJob]:
        """Return the jobs except those of the kind "earlier", which read the history before other pushes."""
        with self.database.read() as session:
            wanted = select(ScanJob).where(ScanJob.priority != EARLIER_PRIORITY).order_by(ScanJob.id)
            return list(session.execute(wanted).scalars())

    def is_disabled(self, digest: str) -> bool:
        with self.database.read() as session:
            at = session.execute(select(ApiToken.disabled_at).where(ApiToken.digest == digest)).scalar_one()
        return at is not None

    def make_due(self) -> None:
        with self.database.write() as session:
            session.execute(update(ScanJob).values(next_attempt_at=db_now(), leased_until=None))

    def has_more(self) -> bool:
        """Return whether a job is due, except those of the kind "earlier", which read the history before other
        pushes.
        """
        job = jobs.claim_next(self.database, JobKind.PUSHES)
        return job is not None and job.priority != EARLIER_PRIORITY


@pytest.fixture
def bench(database: Database, client: GitHub, tmp_path: Path) -> Bench:
    return Bench(database, client, tmp_path)


def push(before: str, head: str, repository: str = "ana/app", **changes: Any) -> Push:
    values: dict[str, Any] = {
        "repository": repository,
        "repository_id": 1001,
        "before": before,
        "head": head,
        "ref": "refs/heads/main",
        "ref_type": "",
        "published_at": None,
        "kind": "push",
    }
    return Push(**(values | changes))


def leaked(workplace: Make, token: str, repository: str = "ana/app") -> Push:
    work = workplace(repository)
    before = work.commit("first")
    work.write("a.py", f"x = '{token}'\n")
    head = work.commit("oops")
    work.push()
    return push(before, head, repository)


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
    monkeypatch.setattr(pushed_packs, "MAX_CANDIDATES", 1)  # a reader scans the pack
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


def test_a_failed_push_is_retried_separately_and_delays_no_other(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    first, second = fresh_token(), fresh_token()
    digests = [bench.know(first), bench.know(second)]
    pushes = [leaked(workplace, first, "ana/one"), leaked(workplace, second, "ana/two")]
    sandbox.faults["git"].append(lambda: Response(status_code=503))
    bench.queue(*pushes)
    bench.scan()
    assert [bench.is_disabled(digest) for digest in digests].count(True) == 1
    page, retry = bench.jobs()
    assert (page.state, page.counts["error_http_503"], page.counts["retried"]) == ("done", 1, 1)
    assert len(retry.target["pushes"]) == 1
    assert not bench.has_more(), "it is not due yet"
    bench.make_due()
    bench.scan()
    assert all(bench.is_disabled(digest) for digest in digests)


def test_a_rate_limit_is_waited_for_as_long_as_github_asks(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub
) -> None:
    sandbox.faults["git"].append(lambda: Response(status_code=429, headers={"retry-after": "1000"}))
    workplace()
    bench.queue(push("a" * 40, "b" * 40))
    bench.scan()
    with bench.database.read() as session:
        statement = select(ScanJob.id).where(ScanJob.next_attempt_at > db_now(900), ScanJob.state == "queued")
        assert session.execute(statement).first() is not None


def test_a_push_that_github_throttles_waits_and_spends_nothing_of_the_rest_api(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    token = fresh_token()
    digest = bench.know(token)
    bench.queue(leaked(workplace, token))
    sandbox.git_limit = 0
    sandbox.requests.clear()
    bench.scan()
    assert dict(sandbox.requests) == {"git": 1}
    assert [job.counts.get("error_rate_limited") for job in bench.jobs()] == [1, None]
    sandbox.git_limit = None
    bench.client = connect(sandbox.api_url, sandbox.url, None)
    bench.make_due()
    bench.scan()
    assert bench.is_disabled(digest)


def test_a_second_request_refused_by_the_gate_is_no_attempt_and_keeps_the_first_result(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    token = fresh_token()
    digest = bench.know(token)
    found = leaked(workplace, token)
    bench.queue(replace(found, before="0" * 40, kind="commit"))

    def limited_meanwhile() -> None:
        bench.client.gate.note_result(httpx.URL(sandbox.url).netloc.decode(), "git", RateLimited("rate_limited", "x"))

    sandbox.faults["git"].append(limited_meanwhile)
    bench.scan()
    assert bench.is_disabled(digest)
    (job,) = bench.jobs()
    assert (job.state, job.failures, [one["tries"] for one in job.target["pushes"]]) == ("queued", 0, [0])


def test_a_push_fails_visibly_after_eight_attempts(bench: Bench, workplace: Make, sandbox: SandboxGitHub) -> None:
    workplace()
    sandbox.faults["git"].extend([lambda: Response(status_code=500)] * 20)
    bench.queue(push("a" * 40, "b" * 40))
    for _ in range(page_work.MAX_TRIES):
        bench.make_due()
        assert bench.scan() is not None
    last = bench.jobs()[-1]
    assert (last.state, last.counts["given_up"]) == ("failed", 1)
    assert "ana/app" in str(last.error)
    bench.make_due()
    assert not bench.has_more()


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


def test_a_push_that_was_read_in_part_is_not_taken_for_read(
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


def waiting(bench: Bench) -> list[tuple[int, list[int]]]:
    """Return the number of items and their attempts, for each waiting job."""
    found = [job.target["pushes"] for job in bench.jobs() if job.state == "queued"]
    return [(len(pushes), [one["tries"] for one in pushes]) for pushes in found]


def test_a_page_refused_by_the_gate_stays_whole_and_counts_no_attempt(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub
) -> None:
    workplace()
    sandbox.faults["git"].append(lambda: Response(status_code=429, headers={"retry-after": "3000"}))
    bench.queue(push("a" * 40, "b" * 40))
    bench.scan()
    bench.queue(*(push("a" * 40, f"{number:040x}") for number in range(1, 4)))
    sandbox.requests.clear()
    for _ in range(page_work.MAX_TRIES + 2):
        bench.make_due()
        while bench.scan() is not None:
            pass
    assert sandbox.requests["git"] == 0
    assert sorted(waiting(bench)) == [(1, [1]), (3, [0, 0, 0])]


def without_git(sandbox: SandboxGitHub, answer: Callable[[], Response] | None = None) -> None:
    """Make git refuse the next push, so that the REST API is used."""
    refusal = lambda: Response(b"0010ERR no way\n0000", media_type="application/x-git")  # noqa: E731
    sandbox.faults["git"].append(answer or refusal)


def test_a_push_that_waits_for_the_rest_budget_holds_up_no_other(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    tokens = [fresh_token() for _ in range(3)]
    digests = [bench.know(token) for token in tokens]
    pushes = [leaked(workplace, token, f"ana/app{n}") for n, token in enumerate(tokens)]
    sandbox.rate_limit = 1
    get_json(bench.client, f"{sandbox.api_url}/repositories/1001", expected=dict)
    without_git(sandbox)
    bench.queue(*pushes)
    bench.scan(threads=1)
    assert [bench.is_disabled(digest) for digest in digests] == [False, True, True]
    assert waiting(bench) == [(1, [0])]


def test_pushes_waiting_for_different_budgets_wait_separately(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub
) -> None:
    for name in ("ana/one", "ana/two", "ana/three"):
        workplace(name)
    sandbox.rate_limit = 1
    get_json(bench.client, f"{sandbox.api_url}/repositories/1001", expected=dict)
    without_git(sandbox)
    without_git(sandbox, lambda: Response(status_code=429, headers={"retry-after": "30"}))
    bench.queue(*(push("a" * 40, "b" * 40, name) for name in ("ana/one", "ana/two", "ana/three")))
    bench.scan(threads=1)
    assert sorted(waiting(bench)) == [(1, [0]), (1, [0]), (1, [1])]
    with bench.database.read() as session:
        soon = select(ScanJob.target).where(ScanJob.next_attempt_at < db_now(50), ScanJob.state == "queued")
        names = {one["repository"] for target in session.execute(soon).scalars() for one in target["pushes"]}
    assert names == {"ana/two", "ana/three"}


@pytest.mark.parametrize("status", [400, 422])
def test_a_final_error_is_not_retried(bench: Bench, workplace: Make, sandbox: SandboxGitHub, status: int) -> None:
    workplace()
    without_git(sandbox)
    sandbox.faults["compare"].append(lambda: Response(status_code=status))
    bench.queue(push("a" * 40, "b" * 40))
    bench.scan()
    (job,) = bench.jobs()
    assert (job.state, job.counts["given_up"], job.counts[f"error_http_{status}"]) == ("failed", 1, 1)


def test_a_redirect_to_an_unknown_host_is_not_retried(bench: Bench, workplace: Make, sandbox: SandboxGitHub) -> None:
    workplace()
    away = lambda: Response(status_code=302, headers={"location": "https://evil.example/"})  # noqa: E731
    without_git(sandbox, away)
    sandbox.faults["compare"].append(away)
    bench.queue(push("a" * 40, "b" * 40))
    bench.scan()
    (job,) = bench.jobs()
    assert (job.state, job.counts["error_unknown_host"]) == ("failed", 1)


BLOCKED = {"message": "Repository access blocked", "block": {"reason": "tos"}}


@pytest.mark.parametrize(
    ("by_git", "by_rest", "reason"),
    [
        (lambda: Response(b"no", status_code=403), lambda: JSONResponse(BLOCKED, status_code=403), "blocked"),
        (lambda: Response(b"Repository access blocked", status_code=403), None, "blocked"),
        (lambda: Response(b"no", status_code=403), lambda: Response(status_code=451), "blocked"),
        (None, lambda: JSONResponse({"message": "Git Repository is empty."}, status_code=409), "empty"),
    ],
)
def test_a_blocked_or_empty_repository_is_skipped_and_counted_by_reason(
    bench: Bench,
    workplace: Make,
    sandbox: SandboxGitHub,
    by_git: Callable[[], Response] | None,
    by_rest: Callable[[], Response] | None,
    reason: str,
) -> None:
    workplace()
    without_git(sandbox, by_git)
    if by_rest is not None:
        sandbox.faults["compare"].append(by_rest)
    bench.queue(push("a" * 40, "b" * 40))
    bench.scan()
    (job,) = bench.jobs()
    assert (job.state, job.counts[f"error_{reason}"], "retried" in job.counts) == ("done", 1, False)
    assert (sandbox.requests["compare"], sandbox.requests["commit"]) == (by_rest is not None, 0)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_retry_is_spread(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(page_work, "spread", lambda seconds: seconds + 5000)
    workplace()
    sandbox.faults["git"].append(lambda: Response(status_code=status))
    bench.queue(push("a" * 40, "b" * 40))
    bench.scan()
    with bench.database.read() as session:
        late = select(ScanJob.id).where(ScanJob.next_attempt_at > db_now(4900), ScanJob.state == "queued")
        assert session.execute(late).first() is not None


def corrupt() -> Response:
    body = b"PACK\0\0\0\2\0\0\0\0" + bytes(20)
    return Response(pkt_line(b"packfile\n") + pkt_line(b"\x01" + body) + b"0000")


def test_a_corrupt_pack_is_requested_once_more(
    bench: Bench, workplace: Make, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    token = fresh_token()
    digest = bench.know(token)
    bench.queue(leaked(workplace, token))
    sandbox.faults["git"].append(corrupt)
    bench.scan()
    assert waiting(bench) == [(1, [1])]
    bench.make_due()
    bench.scan()
    assert bench.is_disabled(digest)
    assert [job.state for job in bench.jobs()] == ["done", "done"]


def test_a_pack_that_stays_corrupt_is_recorded(bench: Bench, workplace: Make, sandbox: SandboxGitHub) -> None:
    workplace()
    sandbox.faults["git"].extend([corrupt, corrupt])
    bench.queue(push("a" * 40, "b" * 40))
    bench.scan()
    bench.make_due()
    bench.scan()
    last = bench.jobs()[-1]
    assert (last.state, last.counts["unread_pack_checksum"], waiting(bench)) == ("partial", 1, [])


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
        bench.scan()  # read the history before that push
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
        assert not bench.is_disabled(digest), "it is read after every push that is queued"
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
    assert len(bench.jobs()) == 1, "the other branches wait behind every queued push"
    bench.scan()
    assert bench.is_disabled(other)
    assert bench.scan() is None


def test_pushes_and_finds_are_counted_by_band(bench: Bench, workplace: Make, fresh_token: Token) -> None:
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
    found = Found()
    read_event(event, bench.client.web_url, found)
    bench.queue(*found.pushes)
    bench.scan()
    assert bench.is_disabled(digest)
    (exposure,) = exposures(bench.database)
    assert (exposure.repository, exposure.kind) == ("ana/app", "wiki_page")
    assert exposure.url == f"{bench.client.web_url}/ana/app/wiki"

"""A repository is mirrored, read completely, and the mirror is removed, whatever happens in between."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import select, update
from starlette.responses import JSONResponse, Response

from scanner.detection import Detector, sha256_digest
from scanner.detection.history import scan_history
from scanner.detection.token_formats import hint_of
from scanner.github import mirrors
from scanner.github.addresses import Target
from scanner.github.circuits import FAILURES_TO_OPEN
from scanner.github.client import GitHub, get_json
from scanner.github.credentials import NoCredential
from scanner.github.errors import Forbidden, GitHubError, NotFound, RateLimited, Unavailable
from scanner.github.gate import RequestGate
from scanner.github.git_protocol import list_refs
from scanner.github.mirrors import Fetched, MirrorStopped, clone, fetch_commits, git_environment
from scanner.records import jobs
from scanner.records.database import Database
from scanner.records.models import Exposure, ScanJob, db_now
from scanner.records.states import JobKind
from scanner.response.policy import Policy
from scanner.response.respond import Response as Responded
from scanner.settings import Settings, load_settings
from scanner.sources.pushes import memory as push_memory
from scanner.sources.pushes.push import Push
from scanner.sources.rescan import conversations, history, manual, owners
from scanner.sources.rescan import run as rescan_module
from scanner.sources.rescan.mirror_folders import FOLDER, remove_abandoned
from scanner.sources.rescan.run import rescan_next
from scanner.sources.rescan.steps import Work
from scanner.sources.timeline.event_jobs import enqueue_found
from scanner.sources.timeline.events import Found
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from tests.scanner.sources.knowing import make_due
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.workplace import Workplace

Make = Callable[..., Workplace]
Token = Callable[[], str]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(state_dir=tmp_path / "state")


@pytest.fixture
def rescan(database: Database, client: GitHub, settings: Settings) -> Callable[[], Responded | None]:
    return lambda: rescan_next(database, client, Detector(), Policy(), settings=settings)


def queue(database: Database, name: str = "ana/app", repository_id: int | None = None) -> int:
    target = {"repository": name, "repository_id": repository_id, "published_at": None}
    with database.write() as session:
        job_id = jobs.enqueue(session, JobKind.REPOSITORY, target, source="rescan")
    assert job_id is not None
    return job_id


def job(database: Database, job_id: int) -> ScanJob:
    with database.read() as session:
        return session.execute(select(ScanJob).where(ScanJob.id == job_id)).scalar_one()


def known(database: Database, token: str) -> None:
    with database.write() as session:
        row = ImportedToken(sha256_digest(token.encode()), hint_of(token.encode()), "", "ana", ("ana@example.com",))
        ImportRun.begin().write(session, [row])


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
        assert exposure.repository_id == 1001, "as the timeline's events say it"
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


def test_a_repository_over_the_limit_fails_in_sight(
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


def test_a_clone_stops_on_request(client: GitHub, sandbox: SandboxGitHub, workplace: Make, tmp_path: Path) -> None:
    workplace().commit("first")
    stop = threading.Event()
    stop.set()
    sandbox.faults["git"].append(lambda: Response(status_code=503))
    before = mirrors.CHECK_SECONDS
    mirrors.CHECK_SECONDS = 0.0
    try:
        with pytest.raises(MirrorStopped):
            clone(client, sandbox.push_address("ana/app"), tmp_path / "m.git", limit_bytes=1 << 30, stop=stop)
    finally:
        mirrors.CHECK_SECONDS = before


def cloned(client: GitHub, sandbox: SandboxGitHub, folder: Path) -> GitHubError:
    with pytest.raises(GitHubError) as caught:
        clone(client, sandbox.push_address("ana/app"), folder, limit_bytes=1 << 30, stop=threading.Event())
    return caught.value


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (Response("Repository access blocked", status_code=403, media_type="text/plain"), NotFound, "blocked"),
        (Response(status_code=451), NotFound, "blocked"),
        (Response(status_code=403), Forbidden, "forbidden"),
        (Response("secondary rate limit", status_code=403, media_type="text/plain"), RateLimited, "rate_limited"),
        (Response(status_code=429), RateLimited, "rate_limited"),
        (Response(status_code=404), NotFound, "not_found"),
        (Response(status_code=502), Unavailable, "http_5xx"),
        (Response(b"0010ERR no way\n0000"), Unavailable, "clone_failed"),
    ],
)
def test_each_reason_that_ends_a_clone_has_a_name(
    client: GitHub, sandbox: SandboxGitHub, tmp_path: Path, answer: Response, error: type[GitHubError], reason: str
) -> None:
    sandbox.create_repository("ana/app")
    sandbox.faults["git"].append(lambda: answer)
    found = cloned(client, sandbox, tmp_path / "m.git")
    assert (type(found), found.reason) == (error, reason)


def test_a_clone_obeys_rate_limits_and_reports_them(client: GitHub, sandbox: SandboxGitHub, tmp_path: Path) -> None:
    sandbox.create_repository("ana/app")
    sandbox.faults["git"].append(lambda: Response(status_code=429))
    assert cloned(client, sandbox, tmp_path / "m.git").asked
    sandbox.requests.clear()
    with pytest.raises(RateLimited):
        list_refs(client, "ana/app")
    assert not cloned(client, sandbox, tmp_path / "m.git").asked
    assert not sandbox.requests


def test_clones_that_fail_count_for_the_circuit(client: GitHub, sandbox: SandboxGitHub, tmp_path: Path) -> None:
    sandbox.create_repository("ana/app")
    sandbox.faults["git"].extend([lambda: Response(status_code=503)] * (FAILURES_TO_OPEN + 1))
    for _ in range(FAILURES_TO_OPEN):
        cloned(client, sandbox, tmp_path / "m.git")
    assert cloned(client, sandbox, tmp_path / "m.git").reason == "circuit_open"


def test_a_blocked_repository_is_distinguished_from_a_missing_one(
    database: Database, sandbox: SandboxGitHub, rescan: Callable[[], Responded | None]
) -> None:
    sandbox.create_repository("ana/app")
    blocked = JSONResponse({"message": "Repository access blocked"}, status_code=403)
    sandbox.faults["repository"].append(lambda: blocked)
    job_id = queue(database)
    run(rescan)
    failed = job(database, job_id)
    assert (failed.state, failed.error, failed.counts) == (
        "failed",
        "access to ana/app is blocked",
        {"error_blocked": 1},
    )
    sandbox.faults["git"].append(
        lambda: Response("Repository access blocked", status_code=403, media_type="text/plain")
    )
    job_id = queue(database)
    run(rescan)
    assert job(database, job_id).counts == {"error_blocked": 1}


def test_abandoned_mirrors_are_removed_and_used_ones_kept(settings: Settings) -> None:
    root = settings.state_dir / FOLDER
    for name in ("job-1-dead", "job-2-alive"):
        (root / name / "mirror.git").mkdir(parents=True)
        (root / name / "lock").touch()
    with (root / "job-2-alive" / "lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert remove_abandoned(settings.state_dir) == 1
    assert [path.name for path in root.iterdir()] == ["job-2-alive"]
    assert remove_abandoned(settings.state_dir) == 1


def test_the_credential_is_in_no_argument_and_for_one_host_only() -> None:
    environment = git_environment("the-secret", "https://github.example/ana/app.git")
    keys = [value for name, value in environment.items() if name.startswith("GIT_CONFIG_KEY_")]
    assert "http.https://github.example/.extraHeader" in keys
    assert "the-secret" not in str(environment), "git gets it encoded, as a header"
    assert environment["GIT_TERMINAL_PROMPT"] == "0"


def run(rescan: Callable[[], Responded | None]) -> None:
    while rescan() is not None:
        pass


def enqueue(database: Database, target: Target) -> int:
    with database.write() as session:
        return manual.queue(session, target).id


def test_commits_replaced_by_a_force_push_are_scanned(
    database: Database, workplace: Make, fresh_token: Token, rescan: Callable[[], Responded | None]
) -> None:
    token = fresh_token()
    known(database, token)
    work = workplace()
    work.commit("first")
    work.push()
    work.write("a.py", token)
    lost = work.commit("oops")
    work.push()
    work.git("reset", "--hard", "--quiet", "HEAD~1")
    work.commit("better")
    work.push("+HEAD")
    job_id = enqueue(database, Target("repository", "ana/app"))
    run(rescan)
    done = job(database, job_id)
    assert (done.state, done.counts["unreached_commits"]) == ("done", 1)
    with database.read() as session:
        assert session.execute(select(Exposure)).scalar_one().commit == lost


def test_unreached_commits_that_are_gone_do_not_hide_the_others(
    database: Database, workplace: Make, sandbox: SandboxGitHub, rescan: Callable[[], Responded | None]
) -> None:
    work = workplace()
    work.commit("first")
    work.push()
    kept = work.commit("left behind")
    work.push()
    work.git("reset", "--hard", "--quiet", "HEAD~1")
    work.commit("other")
    work.push("+HEAD")
    activity = sandbox.repositories["ana/app"].listings["activity"]
    activity += [{"before": f"{number:040x}", "after": kept} for number in range(1, 4)]
    activity += [None, {}, {"before": 5, "after": "../x"}]  # type: ignore[list-item]
    job_id = enqueue(database, Target("repository", "ana/app"))
    run(rescan)
    counts = job(database, job_id).counts
    assert (counts["unreached_commits"], counts["unreached_commits_gone"]) == (1, 3)


class Patient(threading.Event):
    """A wait function that records the seconds and advances the gate's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.waits = 0.0, list[float]()

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        self.now += timeout or 0.0
        return self.is_set()


@dataclass
class Unreached:
    """A mirror, and a commit that no ref of its repository reaches."""

    client: GitHub
    url: str
    mirror: Path
    commit: str
    stop: Patient

    def fetch(self, *others: str) -> Fetched:
        oids = [self.commit, *others]
        return fetch_commits(self.client, self.url, self.mirror, oids, limit_bytes=1 << 30, stop=self.stop)


@pytest.fixture
def unreached(client: GitHub, sandbox: SandboxGitHub, workplace: Make, tmp_path: Path) -> Unreached:
    work = workplace()
    work.commit("first")
    work.push()
    lost = work.commit("left behind")
    work.push()
    work.git("reset", "--hard", "--quiet", "HEAD~1")
    work.commit("other")
    work.push("+HEAD")
    stop = Patient()
    patient = replace(client, gate=RequestGate("none", clock=lambda: 1_800_000_000 + stop.now))
    url, mirror = sandbox.push_address("ana/app"), tmp_path / "m.git"
    clone(patient, url, mirror, limit_bytes=1 << 30, stop=threading.Event())
    return Unreached(patient, url, mirror, lost, stop)


@pytest.mark.parametrize("answer", [Response(status_code=503), Response(status_code=403)])
def test_an_outage_does_not_mark_a_commit_as_gone(
    unreached: Unreached, sandbox: SandboxGitHub, answer: Response
) -> None:
    sandbox.faults["git"].append(lambda: answer)
    with pytest.raises((Unavailable, Forbidden)) as caught:
        unreached.fetch()
    assert caught.value.reason in ("http_5xx", "forbidden")
    assert unreached.fetch() == Fetched(1, 0, 0)


def test_an_app_without_a_token_does_not_mark_a_commit_as_gone(
    unreached: Unreached, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: object) -> str:
        raise Unavailable("http_502", "the App's token cannot be had")

    monkeypatch.setattr(NoCredential, "token", away)
    with pytest.raises(Unavailable):
        unreached.fetch()


def test_a_commit_refused_with_another_message_is_not_marked_as_gone(
    unreached: Unreached, sandbox: SandboxGitHub
) -> None:
    sandbox.faults["git"].append(lambda: Response(b"0010ERR no way\n0000"))
    assert unreached.fetch() == Fetched(0, 0, 1)
    assert unreached.fetch("1" * 40) == Fetched(1, 1, 0)


def test_a_rate_limit_is_waited_for_without_losing_the_mirror(unreached: Unreached, sandbox: SandboxGitHub) -> None:
    sandbox.faults["git"].extend([lambda: Response(status_code=429)] * 3)
    assert unreached.fetch() == Fetched(1, 0, 0)
    assert unreached.stop.waits == [60.0] * 3


def test_a_lasting_rate_limit_leaves_the_rest_unread(unreached: Unreached, sandbox: SandboxGitHub) -> None:
    sandbox.faults["git"].extend([lambda: Response(status_code=429)] * 100)
    assert unreached.fetch() == Fetched(0, 0, 1)
    assert sum(unreached.stop.waits) <= mirrors.MAX_WAIT_SECONDS


def test_waiting_for_a_rate_limit_stops_on_request(unreached: Unreached, sandbox: SandboxGitHub) -> None:
    sandbox.faults["git"].append(lambda: Response(status_code=429))
    unreached.stop.wait = lambda timeout=None: True  # type: ignore[method-assign]  # it is set meanwhile
    with pytest.raises(MirrorStopped):
        unreached.fetch()


def test_the_search_for_existing_commits_is_limited(unreached: Unreached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirrors, "MAX_FETCHES", 5)
    found = unreached.fetch(*(f"{number:040x}" for number in range(1, 9)))
    assert found.got + found.gone < 9
    assert found.unread == 9 - found.got - found.gone


def test_unread_unreachable_commits_are_counted(
    database: Database, workplace: Make, rescan: Callable[[], Responded | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "MAX_FETCHES", 0)
    work = workplace()
    work.commit("first")
    work.push()
    work.git("commit", "--quiet", "--amend", "--allow-empty", "-m", "better")
    work.push("+HEAD")
    job_id = enqueue(database, Target("repository", "ana/app"))
    run(rescan)
    done = job(database, job_id)
    assert (done.state, done.counts["unread_unreached_commits"]) == ("partial", 1)


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
    # Each of the two rescans also clones the wiki.
    assert len(clones) == 4


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


def test_everything_of_an_owner_becomes_a_job(
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

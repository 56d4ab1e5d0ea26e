"""Tests of the clones that rescans make."""

from __future__ import annotations

import fcntl
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sqlalchemy import select
from starlette.responses import JSONResponse, Response

from scanner.github import mirrors
from scanner.github.addresses import Target
from scanner.github.circuits import FAILURES_TO_OPEN
from scanner.github.client import GitHub
from scanner.github.credentials import NoCredential
from scanner.github.errors import Forbidden, GitHubError, NotFound, RateLimited, Unavailable
from scanner.github.gate import RequestGate
from scanner.github.git_protocol import list_refs
from scanner.github.mirrors import Fetched, MirrorStopped, clone, fetch_commits, git_environment
from scanner.records.database import Database
from scanner.records.models import Exposure
from scanner.response.respond import Response as Responded
from scanner.settings import Settings
from scanner.sources.rescan.mirror_folders import FOLDER, remove_abandoned
from tests.scanner.sources.rescan.rescanning import Make, Token, enqueue, job, known, queue, run
from workers.sandbox.github import SandboxGitHub


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
    assert "the-secret" not in str(environment), "git gets the secret encoded, in a header"
    assert environment["GIT_TERMINAL_PROMPT"] == "0"


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
    """A threading event with a simulated clock. `waits` has the seconds of each call of `wait`."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.waits = 0.0, list[float]()

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        self.now += timeout or 0.0
        return self.is_set()


@dataclass
class Unreached:
    """A clone that lacks a commit of the repository, because no branch or tag contains the commit."""

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
    unreached.stop.wait = lambda timeout=None: True  # type: ignore[method-assign]  # as if it was set while waiting
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

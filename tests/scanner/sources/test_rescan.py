"""A repository is mirrored, read whole and removed again, whatever happens meanwhile."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select, update
from starlette.responses import Response

from scanner.detection import Detector, sha256_digest
from scanner.detection.digests import hint_of
from scanner.github import mirrors
from scanner.github.client import GitHub
from scanner.github.mirrors import MirrorStopped, clone, git_environment
from scanner.records import jobs
from scanner.records.database import Database
from scanner.records.models import Exposure, ScanJob, db_now
from scanner.response.respond import Policy
from scanner.response.respond import Response as Responded
from scanner.settings import Settings, load_settings
from scanner.sources.mirror_folders import FOLDER, remove_abandoned
from scanner.sources.rescan import rescan_next
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
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
        job_id = jobs.enqueue(session, "repository", target, source="rescan")
    assert job_id is not None
    return job_id


def job(database: Database, job_id: int) -> ScanJob:
    with database.read() as session:
        return session.execute(select(ScanJob).where(ScanJob.id == job_id)).scalar_one()


def known(database: Database, token: str) -> None:
    with database.write() as session:
        row = ImportedToken(sha256_digest(token.encode()), hint_of(token.encode()), "", "ana", ("ana@example.com",))
        ImportRun.begin().write(session, [row])


def test_a_find_of_old_has_its_public_address(
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


def test_a_clone_stops_when_it_is_told_to(sandbox: SandboxGitHub, workplace: Make, tmp_path: Path) -> None:
    workplace().commit("first")
    stop = threading.Event()
    stop.set()
    sandbox.faults["git"].append(lambda: Response(status_code=503))
    before = mirrors.CHECK_SECONDS
    mirrors.CHECK_SECONDS = 0.0
    try:
        with pytest.raises(MirrorStopped):
            clone(sandbox.push_address("ana/app"), tmp_path / "m.git", credential=None, limit_bytes=1 << 30, stop=stop)
    finally:
        mirrors.CHECK_SECONDS = before


def test_what_a_crash_left_is_removed_and_what_is_in_use_is_kept(settings: Settings) -> None:
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

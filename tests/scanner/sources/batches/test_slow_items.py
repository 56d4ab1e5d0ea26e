"""Tests that a push or file that takes long to read gets its own job, so that other items do not wait."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from scanner.detection import Detector, Place, pushed_packs
from scanner.detection.deep_reading import DeepReading, InProcessReader
from scanner.detection.git.pack_scanning import PackAnswer, PackRequest, PackScan
from scanner.detection.git.packs import PackLimits
from scanner.detection.limits import Limits
from scanner.github.client import GitHub
from scanner.records import jobs
from scanner.records.database import Database
from scanner.records.models import ScanJob, Sighting
from scanner.records.reading_models import ReadObject, RepositoryTips
from scanner.records.states import JobKind
from scanner.response.policy import Policy
from scanner.sources.files import scan as remote_files
from scanner.sources.files.scan import RemoteFile
from scanner.sources.pushes import scan as push_scan
from scanner.sources.pushes.push import Push
from scanner.sources.pushes.tips import decoded
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.workplace import Workplace

ENOUGH_SECONDS = 5.0


class SlowReader:
    """Replaces the confined process that reads content. It reports a timeout if it has less than ENOUGH_SECONDS."""

    def __init__(self) -> None:
        self._reader = InProcessReader(Limits())

    def prepare(self) -> None:
        """Do nothing."""

    def read(self, content: bytes, name: str, *, seconds: float | None = None, **limits: Any) -> DeepReading:
        if seconds is not None and seconds < ENOUGH_SECONDS:
            return DeepReading((), {"seconds": 1}, 0, seconds)
        return self._reader.read(content, name, seconds=seconds, **limits)

    def read_pack(self, content: bytes, request: PackRequest) -> PackAnswer:
        if request.seconds < ENOUGH_SECONDS:
            return PackAnswer(PackScan(unread=Counter({"seconds": 1})), (), request.seconds)
        return self._reader.read_pack(content, request)


class Worker:
    """Runs jobs in the test's process."""

    def __init__(self, database: Database, client: GitHub, folder: Path) -> None:
        self.database = database
        self._client, self._folder, self._detector = client, folder, Detector(reader=SlowReader())

    def scan(self, kind: Any = "pushes") -> bool:
        done = push_scan.scan_next(
            self.database,
            self._client,
            self._detector,
            Policy(),
            limits=PackLimits(),
            threads=2,
            state_dir=self._folder,
            kind=kind,
        )
        return done is not None

    def fetch(self, kind: Any = "files") -> bool:
        done = remote_files.scan_next(
            self.database, self._client, self._detector, Policy(), threads=2, state_dir=self._folder, kind=kind
        )
        return done is not None

    def rows(self, *columns: Any) -> list[Any]:
        with self.database.read() as session:
            statement = select(*columns)
            if columns[0].class_ is ScanJob:
                statement = statement.order_by(ScanJob.id)
            return list(session.execute(statement).all())


@pytest.fixture
def worker(database: Database, client: GitHub, tmp_path: Path) -> Worker:
    return Worker(database, client, tmp_path)


def pushed(work: Workplace, sandbox: SandboxGitHub, files: dict[str, str | bytes]) -> Push:
    """Commit and push these files. Return the push as r8scan queues it."""
    before = work.head()
    for name, content in files.items():
        work.write(name, content)
    work.commit("more")
    work.push()
    repository_id = sandbox.repositories["ana/app"].id
    return Push("ana/app", repository_id, before, work.head(), "refs/heads/main", "branch", None, "push")


@pytest.fixture
def work(workplace: Callable[..., Workplace]) -> Workplace:
    made = workplace("ana/app")
    made.write("README", "first")
    made.commit("first")
    made.push()
    return made


def test_a_slow_push_becomes_a_separate_job_and_plain_tokens_beside_it_are_found_at_once(
    worker: Worker, work: Workplace, sandbox: SandboxGitHub, fresh_token: Callable[[], str]
) -> None:
    plain, packed = fresh_token(), fresh_token()
    files: dict[str, str | bytes] = {"a.gz": gzip.compress(packed.encode()), "b.txt": f"x = '{plain}'"}
    slow = pushed(work, sandbox, files)
    quick = pushed(work, sandbox, {"c.txt": "nothing"})
    target = {"pushes": [slow.to_json(), quick.to_json()], "events": ["1"]}
    with worker.database.write() as session:
        jobs.enqueue(session, JobKind.PUSHES, target, source="test", priority=95)
    assert worker.scan()
    assert len(worker.rows(Sighting.digest)) == 1
    page, left = worker.rows(ScanJob.kind, ScanJob.state, ScanJob.counts, ScanJob.target, ScanJob.priority)
    assert (page.state, page.counts["deferred"], "partly_read" in page.counts) == ("done", 1, False)
    assert (left.kind, left.priority) == ("slow_pushes", 95)
    assert left.target == {"slow_pushes": [slow.to_json()], "events": ["1"]}
    [(tips,)] = worker.rows(RepositoryTips.tips)
    assert [(tip.oid, tip.is_read) for tip in decoded(tips)] == [(quick.head, True), (quick.before, False)]
    assert not worker.scan(), "the scanner of pages does not claim the slow push"
    assert worker.scan("slow_pushes")
    assert len(set(worker.rows(Sighting.digest))) == 2
    assert worker.scan(), "the commit before the first push"
    assert {row.state for row in worker.rows(ScanJob.state)} == {"done"}


def test_a_push_whose_pack_takes_long_to_read_becomes_a_separate_job_too(
    worker: Worker,
    work: Workplace,
    sandbox: SandboxGitHub,
    fresh_token: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pushed_packs, "IN_PROCESS", PackLimits(objects=1))
    push = pushed(work, sandbox, {"a.txt": f"x = '{fresh_token()}'"})
    with worker.database.write() as session:
        jobs.enqueue(session, JobKind.PUSHES, {"pushes": [push.to_json()]}, source="test")
    assert worker.scan()
    assert worker.rows(Sighting.digest) == []
    assert worker.scan("slow_pushes")
    assert len(worker.rows(Sighting.digest)) == 1


def test_a_slow_file_becomes_a_separate_job(
    worker: Worker, sandbox: SandboxGitHub, fresh_token: Callable[[], str]
) -> None:
    gist = sandbox.create_gist({"a.gz": gzip.compress(fresh_token().encode()), "b.txt": b"nothing"})
    urls = {name: f"{sandbox.url}/gist-raw/{gist.owner}/{gist.id}/raw/x/{name}" for name in gist.files}
    files = [RemoteFile(url, Place("gist"), 1 << 20, key=("gist_file", name)) for name, url in urls.items()]
    with worker.database.write() as session:
        remote_files.enqueue(session, files, source="gists", priority=99)
    assert worker.fetch()
    assert worker.rows(Sighting.digest) == []
    page, left = worker.rows(ScanJob.kind, ScanJob.state, ScanJob.counts, ScanJob.target)
    assert (page.state, page.counts["deferred"]) == ("done", 1)
    assert (left.kind, [file["url"] for file in left.target["slow_files"]]) == ("slow_files", [urls["a.gz"]])
    assert worker.rows(ReadObject.key) == [("b.txt",)]
    assert not worker.fetch()
    assert worker.fetch("slow_files")
    assert len(worker.rows(Sighting.digest)) == 1

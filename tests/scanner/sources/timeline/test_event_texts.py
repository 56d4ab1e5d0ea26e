"""Tests that a text that takes long to read does not delay the polls of public events."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from sqlalchemy import select, update

from scanner.detection import Detector
from scanner.detection.deep_reading import DeepReading, InProcessReader
from scanner.detection.limits import Limits
from scanner.github.client import GitHub, connect
from scanner.records.database import Database
from scanner.records.models import ScanJob, Sighting, db_now
from scanner.records.reading_models import UnreadContent
from scanner.records.source_models import SourceState
from scanner.response.policy import Policy
from scanner.sources.files import scan as remote_files
from scanner.sources.timeline.poll import poll

API = "https://api.github.example"
WEB = "https://github.example"
COMMENT = f"{API}/repos/ana/app/issues/comments/7"


class LateReader(InProcessReader):
    """Replaces the confined process that reads content, and never finishes in time. `asked` counts its calls."""

    def __init__(self) -> None:
        super().__init__(Limits())
        self.asked = 0

    def read(
        self,
        content: bytes,
        name: str,
        *,
        seconds: float | None = None,
        expanded_bytes: int | None = None,
        patience: float | None = None,
    ) -> DeepReading:
        assert seconds is not None
        assert patience is not None
        self.asked += 1
        return DeepReading((), {"reader_deadline": 1}, 0, seconds)


@pytest.fixture
def github() -> Iterator[GitHub]:
    client = connect(API, WEB, None)
    yield client
    client.close()


@pytest.fixture
def api() -> Iterator[respx.Router]:
    with respx.mock(base_url=API, assert_all_called=False) as router:
        yield router


def comment_event(number: int, body: str, url: str = COMMENT) -> dict[str, Any]:
    comment = {"body": body, "url": url, "html_url": f"{WEB}/ana/app/issues/1#issuecomment-{number}"}
    return {
        "id": str(number),
        "type": "IssueCommentEvent",
        "repo": {"id": 7, "name": "ana/app"},
        "payload": {"comment": comment},
        "created_at": "2026-11-20T10:00:00Z",
    }


def encoded(token: str) -> str:
    return base64.b64encode(f"key={token}".encode()).decode()


def polled(database: Database, github: GitHub, reader: LateReader, folder: Path) -> None:
    report = poll(database, github, Detector(reader=reader), state_dir=folder, wait=lambda seconds: None)
    assert report.polled


def jobs_of(database: Database, kind: str) -> list[ScanJob]:
    with database.read() as session:
        return list(session.execute(select(ScanJob).where(ScanJob.kind == kind)).scalars())


def counts(database: Database) -> dict[str, Any]:
    with database.read() as session:
        return dict(session.execute(select(SourceState.counts)).scalar_one())


def test_the_text_is_fetched_again_by_its_address_and_its_token_is_found(
    api: respx.Router, database: Database, github: GitHub, tmp_path: Path, fresh_token: Callable[[], str]
) -> None:
    body = encoded(fresh_token())
    api.get("/events").respond(json=[comment_event(1, body)])
    polled(database, github, LateReader(), tmp_path)
    (job,) = jobs_of(database, "files")
    assert [file["url"] for file in job.target["files"]] == [COMMENT]
    assert body not in str(job.target)
    assert counts(database)["texts_deferred"] == 1

    api.get("/repos/ana/app/issues/comments/7").respond(json={"id": 7, "body": body})
    remote_files.scan_next(database, github, Detector(), Policy(), threads=1, state_dir=tmp_path)
    with database.read() as session:
        sighting = session.execute(select(Sighting)).scalar_one()
    assert (sighting.kind, sighting.url) == ("issue_comment", f"{WEB}/ana/app/issues/1#issuecomment-1")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "https://elsewhere.example/repos/ana/app/issues/comments/7",
        f"{COMMENT}?x=1",
        f"{API}/user",
        COMMENT + "x" * 999,
    ],
)
def test_an_address_outside_the_api_is_never_fetched(
    api: respx.Router, database: Database, github: GitHub, tmp_path: Path, fresh_token: Callable[[], str], url: str
) -> None:
    api.get("/events").respond(json=[comment_event(1, encoded(fresh_token()), url)])
    polled(database, github, LateReader(), tmp_path)
    assert jobs_of(database, "files") == []
    with database.read() as session:
        row = session.execute(select(UnreadContent)).scalar_one()
    assert (row.source, row.reasons, row.place["kind"]) == ("public_events", "budget,reader_deadline", "issue_comment")
    assert len(row.content_digest) == 64
    assert counts(database)["unread_reader_deadline"] == 1


def test_all_texts_of_one_page_share_one_budget(
    api: respx.Router, database: Database, github: GitHub, tmp_path: Path, fresh_token: Callable[[], str]
) -> None:
    reader = LateReader()
    events = [comment_event(number, encoded(fresh_token()), f"{COMMENT}{number}") for number in range(60)]
    api.get("/events").respond(json=events)
    polled(database, github, reader, tmp_path)
    # The scan of the first text uses up the time for all texts. Jobs read all 60 texts later.
    assert reader.asked == 1
    assert sum(len(job.target["files"]) for job in jobs_of(database, "files")) == 60


def test_plain_tokens_are_found_during_the_poll_even_if_reading_the_text_takes_too_long(
    api: respx.Router, database: Database, github: GitHub, tmp_path: Path, fresh_token: Callable[[], str]
) -> None:
    api.get("/events").respond(json=[comment_event(1, f"{encoded(fresh_token())} {fresh_token()}")])
    polled(database, github, LateReader(), tmp_path)
    with database.read() as session:
        assert len(session.execute(select(Sighting)).scalars().all()) == 1
        session.execute(update(SourceState).values(next_poll_at=db_now(-1)))
    assert len(jobs_of(database, "files")) == 1


def test_a_text_that_is_gone_ends_the_job(
    api: respx.Router, database: Database, github: GitHub, tmp_path: Path, fresh_token: Callable[[], str]
) -> None:
    api.get("/events").respond(json=[comment_event(1, encoded(fresh_token()))])
    polled(database, github, LateReader(), tmp_path)
    api.get("/repos/ana/app/issues/comments/7").mock(return_value=httpx.Response(404))
    remote_files.scan_next(database, github, Detector(), Policy(), threads=1, state_dir=tmp_path)
    (job,) = jobs_of(database, "files")
    assert job.state == "done"

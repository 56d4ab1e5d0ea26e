"""Tests that every version of every file in public gists is read once."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from sqlalchemy import select
from starlette.responses import Response

from scanner.detection import Detector
from scanner.github.client import App, GitHub, connect
from scanner.records import jobs
from scanner.records.database import Database
from scanner.records.source_models import Gap
from scanner.response.policy import Policy
from scanner.response.respond import look_up_again
from scanner.sources.files import scan as remote_files
from scanner.sources.gists import poll as gists
from scanner.sources.polling.report import PollReport
from tests.scanner.sources.knowing import exposures, is_disabled, jobs_of, know, make_due, state_of
from workers.sandbox.github import SandboxGitHub

Token = Callable[[], str]


class Gists:
    def __init__(self, database: Database, client: GitHub, folder: Path) -> None:
        self.database, self.client, self.folder = database, client, folder

    def poll(self) -> PollReport:
        make_due(self.database)
        return gists.poll(self.database, self.client, Detector(), wait=lambda _: None)

    def fetch(self) -> None:
        make_due(self.database)
        options = {"threads": 4, "state_dir": self.folder}
        while remote_files.scan_next(self.database, self.client, Detector(), Policy(), **options) is not None:  # type: ignore[arg-type]
            pass


@pytest.fixture
def source(database: Database, client: GitHub, tmp_path: Path) -> Gists:
    return Gists(database, client, tmp_path / "state")


def test_a_token_in_any_file_of_a_gist_is_disabled(source: Gists, sandbox: SandboxGitHub, fresh_token: Token) -> None:
    token = fresh_token()
    digest = know(source.database, token)
    gist = sandbox.create_gist({"a.txt": b"nothing", "b c.py": f"\nx = '{token}'\n".encode()})
    assert source.poll().jobs == 1
    source.fetch()
    assert is_disabled(source.database, digest)
    (place,) = exposures(source.database)
    assert (place.kind, place.path, place.line, place.source) == ("gist", "b c.py", 2, "gists")
    assert place.url.endswith(gist.id)
    assert place.published_at is not None


def test_a_file_is_fetched_once_and_again_when_it_was_changed(source: Gists, sandbox: SandboxGitHub) -> None:
    gist = sandbox.create_gist({"a.txt": b"one", "b.txt": b"the same"})
    source.poll()
    source.fetch()
    source.poll()
    source.fetch()
    assert sandbox.requests["raw"] == 2
    gist.files["a.txt"], gist.updated_at = b"two", "2037-01-01T00:00:00Z"
    source.poll()
    source.fetch()
    assert sandbox.requests["raw"] == 3
    assert jobs_of(source.database, "files")[-1].counts["skipped_already_read"] == 1
    assert state_of(source.database, "gists").newest_seen_at is not None, "a time in the future is not believed"


def test_pages_are_requested_while_they_have_new_gists(source: Gists, sandbox: SandboxGitHub) -> None:
    first = sandbox.create_gist({"a.txt": b"x"})
    for number in range(249):
        copy = type(first)(f"{number:08x}", "ana", {"a.txt": b"x"}, "", first.updated_at)
        sandbox.gists.insert(0, copy)
    source.poll()
    assert state_of(source.database, "gists").counts["gists"] == 250
    sandbox.requests.clear()
    source.poll()
    assert sandbox.requests["gists"] == 1


def test_a_gap_is_recorded_with_its_estimate(source: Gists, sandbox: SandboxGitHub) -> None:
    first = sandbox.create_gist({"a.txt": b"x"})
    first.updated_at = "2026-01-01T00:00:00Z"
    source.poll()
    sandbox.gists.clear()
    for number in range(3001):
        at = f"2026-01-01T0{3 + number // 3600}:{number // 60 % 60:02}:{number % 60:02}Z"
        sandbox.gists.insert(0, type(first)(f"{number:08x}", "ana", {}, "", at))
    source.poll()
    with source.database.read() as session:
        gap = session.execute(select(Gap)).scalar_one()
    assert (gap.source, gap.reason) == ("gists", "no_overlap")
    assert 10_000 < gap.estimated < 12_000


def test_text_of_the_list_itself_is_scanned(source: Gists, sandbox: SandboxGitHub, fresh_token: Token) -> None:
    described, named = fresh_token(), fresh_token()
    digests = [know(source.database, described), know(source.database, named)]
    sandbox.create_gist({f"{named}.txt": b"x"}, description=f"my key {described}")
    source.poll()
    look_up_again(source.database, policy=Policy())
    assert all(is_disabled(source.database, digest) for digest in digests)


def test_a_file_with_a_token_in_its_address_is_read_at_once_and_the_address_never_stored(
    source: Gists, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    name, inside = fresh_token(), fresh_token()
    digest = know(source.database, inside)
    sandbox.create_gist({f"{name}.txt": inside.encode(), "plain.txt": b"x"})
    source.poll()
    look_up_again(source.database, policy=Policy())
    assert is_disabled(source.database, digest)
    (job,) = jobs_of(source.database, "files")
    assert [entry["place"]["path"] for entry in job.target["files"]] == ["plain.txt"]
    assert name not in json.dumps(job.target)


def test_a_content_that_is_queued_twice_is_fetched_once(
    source: Gists, sandbox: SandboxGitHub, fresh_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = fresh_token()
    know(source.database, token)
    for owner in ("ana", "ben", "eve"):
        sandbox.create_gist({"a.py": token.encode()}, owner=owner)
    source.poll()
    sandbox.create_gist({"a.py": token.encode()}, owner="zoe")
    source.poll()
    claim = jobs.claim_next

    def claim_while_another_works(*arguments: Any) -> Any:
        monkeypatch.undo()
        job = claim(*arguments)
        remote_files.scan_next(source.database, source.client, Detector(), Policy(), threads=4, state_dir=source.folder)
        return job

    monkeypatch.setattr(jobs, "claim_next", claim_while_another_works)
    source.fetch()
    assert sandbox.requests["raw"] == 1
    assert len(exposures(source.database)) == 4


def test_a_file_over_the_limit_is_counted(
    source: Gists, sandbox: SandboxGitHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gists, "MAX_FILE_BYTES", 1000)
    sandbox.create_gist({"big.txt": b"x" * 1001, "small.txt": b"x"})
    source.poll()
    source.fetch()
    (job,) = jobs_of(source.database, "files")
    assert (job.state, job.counts["unread_file_over_limit"], job.counts["bytes"]) == ("partial", 1, 1)


def test_a_foreign_address_is_never_fetched(source: Gists, sandbox: SandboxGitHub) -> None:
    body = [{"id": "abc", "updated_at": None, "files": {"x": {"filename": "x", "raw_url": "http://169.254.169.254/x"}}}]
    sandbox.faults["gists"].append(lambda: Response(json.dumps(body).encode()))
    source.poll()
    source.fetch()
    job = jobs_of(source.database, "files")[0]
    assert job.counts["error_unknown_host"] == 1


@pytest.mark.parametrize("body", [b'[null, 1, {}, {"id": 5}, {"id": "../x"}]', b"[]"])
def test_a_malformed_list_does_no_harm(source: Gists, sandbox: SandboxGitHub, body: bytes) -> None:
    sandbox.faults["gists"].append(lambda: Response(body))
    assert source.poll().error is None
    assert state_of(source.database, "gists").failures == 0


def test_a_malformed_address_hides_no_other_file_or_gist(
    source: Gists, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    described, beside = fresh_token(), fresh_token()
    digests = [know(source.database, described), know(source.database, beside)]
    files = {"x": {"filename": "x", "raw_url": "https://["}}
    bad = {"id": "abc", "updated_at": None, "html_url": "https://[", "files": files, "description": f"key {described}"}
    good: dict[str, object] = {"id": "abd", "updated_at": None, "files": {}, "description": f"key {beside}"}
    sandbox.faults["gists"].append(lambda: Response(json.dumps([bad, good]).encode()))
    assert source.poll().error is None
    source.fetch()
    look_up_again(source.database, policy=Policy())
    assert all(is_disabled(source.database, digest) for digest in digests)
    (job,) = jobs_of(source.database, "files")
    assert (job.state, job.counts) == ("failed", {"files": 1, "error_unknown_host": 1, "given_up": 1})


def test_the_rest_of_a_catch_up_that_failed_is_read_by_the_next_poll(source: Gists, sandbox: SandboxGitHub) -> None:
    first = sandbox.create_gist({"a.txt": b"x"})
    first.updated_at = "2026-01-01T00:00:00Z"
    source.poll()
    for number in range(350):
        at = f"2026-01-01T03:{number // 60:02}:{number % 60:02}Z"
        sandbox.gists.insert(0, type(first)(f"{number:08x}", "ana", {}, "", at))
    sandbox.faults["gists"].extend([lambda: None, lambda: None, lambda: Response(status_code=503)])
    assert source.poll().error == "http_503"
    assert state_of(source.database, "gists").counts["gists"] == 201
    sandbox.gists.insert(0, type(first)("f" * 8, "ana", {}, "", "2026-01-01T03:06:00Z"))
    source.poll()
    state = state_of(source.database, "gists")
    assert (state.counts["gists"], state.gaps) == (352, 0)
    sandbox.requests.clear()
    source.poll()
    assert sandbox.requests["gists"] == 1, "no earlier page is left to read"


def owing(source: Gists, sandbox: SandboxGitHub, pages: int, failing: int) -> Callable[[], None]:
    """Let a poll of the gist list fail at the page `failing` of `pages` pages.

    Return a function that adds ten gists and polls again. In these polls, the page `failing` still cannot be read.
    """
    first = sandbox.create_gist({"a.txt": b"x"})
    first.updated_at = "2026-01-01T00:00:00Z"
    source.poll()
    numbers = itertools.count()

    def add(count: int) -> None:
        for number in itertools.islice(numbers, count):
            at = f"2026-01-01T0{3 + number // 3600}:{number // 60 % 60:02}:{number % 60:02}Z"
            sandbox.gists.insert(0, type(first)(f"{number:08x}", "ana", {}, "", at))

    def poll() -> None:
        add(10)
        requests = sandbox.requests["gists"]
        sandbox.faults["gists"].extend([lambda: None] * (failing - 1) + [lambda: Response(status_code=503)])
        source.poll()
        sandbox.faults["gists"].clear()
        assert sandbox.requests["gists"] - requests <= failing

    add(pages * 100 - 10)
    poll()
    return poll


def test_a_page_that_fails_each_time_becomes_a_gap(source: Gists, sandbox: SandboxGitHub) -> None:
    poll = owing(source, sandbox, pages=8, failing=3)
    for _ in range(gists.MAX_OWED_POLLS - 1):
        assert state_of(source.database, "gists").gaps == 0
        poll()
    state = state_of(source.database, "gists")
    assert (state.gaps, state.cursor["owed"]) == (1, None)
    with source.database.read() as session:
        gap = session.execute(select(Gap)).scalar_one()
    assert gap.reason == "page_fails"
    assert gap.from_at < datetime(2026, 1, 1, 0, 1, tzinfo=UTC) < datetime(2026, 1, 1, 3, tzinfo=UTC) < gap.until_at
    sandbox.requests.clear()
    source.poll()
    assert (sandbox.requests["gists"], state_of(source.database, "gists").gaps) == (1, 1)


def test_the_next_poll_continues_at_the_failed_page(source: Gists, sandbox: SandboxGitHub) -> None:
    owing(source, sandbox, pages=9, failing=7)
    sandbox.requests.clear()
    source.poll()
    state = state_of(source.database, "gists")
    assert (state.counts["gists"], state.gaps, state.cursor["owed"]) == (901, 0, None)
    assert sandbox.requests["gists"] == 6, "the first page, and all pages from the one before the failed page"


def test_a_poll_that_fails_earlier_than_the_last_one_loses_nothing(source: Gists, sandbox: SandboxGitHub) -> None:
    owing(source, sandbox, pages=6, failing=5)
    for number in range(350):
        at = f"2026-01-01T05:{number // 60:02}:{number % 60:02}Z"
        sandbox.gists.insert(0, type(sandbox.gists[0])(f"{number + 5000:08x}", "ana", {}, "", at))
    sandbox.faults["gists"].extend([lambda: None, lambda: Response(status_code=503)])
    source.poll()
    source.poll()
    state = state_of(source.database, "gists")
    assert (state.counts["gists"], state.gaps, state.cursor["owed"]) == (951, 0, None)


def test_gists_beyond_the_end_of_the_list_are_a_gap(source: Gists, sandbox: SandboxGitHub) -> None:
    first = sandbox.create_gist({"a.txt": b"x"})
    first.updated_at = "2026-01-01T00:00:00Z"
    source.poll()
    for number in range(150):
        at = f"2026-01-01T03:{number // 60:02}:{number % 60:02}Z"
        sandbox.gists.insert(0, type(first)(f"{number:08x}", "ana", {}, "", at))
    sandbox.faults["gists"].extend([lambda: None, lambda: Response(status_code=503)])
    source.poll()
    for number in range(3001):
        at = f"2026-01-01T0{4 + number // 3600}:{number // 60 % 60:02}:{number % 60:02}Z"
        sandbox.gists.insert(0, type(first)(f"{number + 1000:08x}", "ana", {}, "", at))
    source.poll()
    with source.database.read() as session:
        gap = session.execute(select(Gap)).scalar_one()
    assert gap.from_at < datetime(2026, 1, 1, 3, tzinfo=UTC), (
        "the gap begins at the last complete poll, not at the failed one"
    )


def test_a_short_page_with_a_next_one_is_not_the_end(source: Gists, sandbox: SandboxGitHub) -> None:
    first = sandbox.create_gist({"a.txt": b"x"})
    entries = [{"id": f"{number:08x}", "updated_at": first.updated_at, "files": {}} for number in range(120)]
    following = {"Link": f'<{sandbox.api_url}/gists/public?page=2&per_page=100>; rel="next"'}
    sandbox.faults["gists"].append(lambda: Response(json.dumps(entries[:99]).encode(), headers=following))
    sandbox.faults["gists"].append(lambda: Response(json.dumps(entries[99:]).encode()))
    source.poll()
    assert state_of(source.database, "gists").counts["gists"] == 120


def test_half_of_a_small_budget_is_left_to_public_events(source: Gists, sandbox: SandboxGitHub) -> None:
    sandbox.rate_limit = 20
    first = sandbox.create_gist({"a.txt": b"x"})
    for number in range(2000):
        sandbox.gists.insert(0, type(first)(f"{number:08x}", "ana", {}, "", first.updated_at))
    source.poll()
    assert sandbox.requests["gists"] == gists.FIRST_PAGES
    pause = state_of(source.database, "gists").next_poll_at - datetime.now(UTC)
    assert pause.total_seconds() > gists.INTERVAL or datetime.now(UTC).minute >= 50, (
        "the remaining quota decides the pause"
    )
    for _ in range(30):
        sandbox.create_gist({"a.txt": b"x"})
        source.poll()
    assert sandbox.requests["gists"] <= sandbox.rate_limit * gists.RESERVE


def test_the_status_says_that_an_app_cannot_list_gists(source: Gists, sandbox: SandboxGitHub) -> None:
    app = connect(sandbox.api_url, sandbox.url, App("4711", 99, "no key"))
    source.client = app
    assert source.poll().error == "needs_personal_token"
    state = state_of(source.database, "gists")
    assert "set R8SCAN_GITHUB_TOKEN as well" in str(state.error)
    assert (state.next_poll_at - datetime.now(UTC)).total_seconds() > 3000
    assert sandbox.requests["gists"] == 0
    app.close()


@respx.mock
def test_a_failed_later_page_is_reported_and_earlier_ones_are_kept(client: GitHub) -> None:
    listed = [{"id": f"{number:08x}", "updated_at": "2026-01-01T00:00:00Z", "files": {}} for number in range(100)]
    answers = [httpx.Response(200, json=listed), httpx.Response(503)]
    respx.get(f"{client.api_url}/gists/public").mock(side_effect=answers)
    polled = gists.list_new(client, frozenset(), None)
    assert len(polled.fresh) == 100
    assert polled.error is not None
    assert polled.error.reason == "http_503"

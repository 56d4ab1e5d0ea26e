"""Tests that code search finds leaks that nothing else found."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from sqlalchemy import select
from starlette.responses import Response

from scanner.detection import Detector
from scanner.github.client import GitHub, connect
from scanner.github.errors import GitHubError, Malformed, RateLimited, Unavailable
from scanner.github.search import SearchResult, parse_result, search_code
from scanner.records.database import Database
from scanner.records.reading_models import ReadObject
from scanner.response.policy import Policy
from scanner.response.respond import look_up_again
from scanner.sources.batches.runner import MAX_TRIES
from scanner.sources.code_search.poll import poll
from scanner.sources.files import scan as remote_files
from scanner.sources.polling.report import PollReport
from tests.scanner.sources.knowing import exposures, is_disabled, jobs_of, know, make_due, state_of
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.workplace import Workplace

Make = Callable[..., Workplace]
Token = Callable[[], str]
QUERIES = ("REPLICATE_API_TOKEN", "r8_")


@pytest.fixture
def client(sandbox: SandboxGitHub) -> Iterator[GitHub]:
    client = connect(sandbox.api_url, sandbox.url, "a-credential")
    yield client
    client.close()


class Search:
    """Calls the functions that search GitHub's code."""

    def __init__(self, database: Database, client: GitHub, folder: Path) -> None:
        self.database, self.client, self.folder = database, client, folder

    def poll(self) -> PollReport:
        make_due(self.database)
        return poll(self.database, self.client, Detector(), queries=QUERIES, wait=lambda _: None)

    def whole_round(self) -> None:
        self.poll()
        while state_of(self.database, "code_search").counts.get("rounds", 0) < 1:
            self.poll()

    def fetch(self) -> None:
        make_due(self.database)
        while (
            remote_files.scan_next(self.database, self.client, Detector(), Policy(), threads=4, state_dir=self.folder)
            is not None
        ):
            pass

    def look_up(self) -> None:
        look_up_again(self.database, policy=Policy())


@pytest.fixture
def search(database: Database, client: GitHub, tmp_path: Path) -> Search:
    return Search(database, client, tmp_path / "state")


def publish(workplace: Make, repository: str, content: str, path: str = "app.py") -> str:
    work = workplace(repository)
    work.write(path, content)
    commit = work.commit("first")
    work.push()
    return commit


def test_a_token_in_a_fragment_is_disabled_and_its_line_named(
    search: Search, workplace: Make, fresh_token: Token
) -> None:
    token = fresh_token()
    digest = know(search.database, token)
    commit = publish(workplace, "ana/app", f"import os\n\nREPLICATE_API_TOKEN = '{token}'\n")
    assert search.poll().candidates == 1
    search.look_up()
    assert is_disabled(search.database, digest)
    (place,) = exposures(search.database)
    assert (place.repository, place.path, place.line, place.commit) == ("ana/app", "app.py", 3, commit)
    assert (place.repository_id, place.kind, place.source) == (1001, "file", "code_search")


def test_a_token_far_from_the_match_is_found_in_the_file(search: Search, workplace: Make, fresh_token: Token) -> None:
    token = fresh_token()
    digest = know(search.database, token)
    publish(workplace, "ana/app", "REPLICATE_API_TOKEN\n" + "# nothing\n" * 400 + f"x = '{token}'\n")
    assert search.poll().candidates == 0
    search.fetch()
    assert is_disabled(search.database, digest)
    assert exposures(search.database)[0].line == 402


def test_a_blob_is_fetched_once_and_every_copy_has_its_place(
    search: Search, sandbox: SandboxGitHub, workplace: Make, fresh_token: Token
) -> None:
    token = fresh_token()
    know(search.database, token)
    content = "REPLICATE_API_TOKEN\n" + "# nothing\n" * 400 + f"x = '{token}'\n"
    publish(workplace, "ana/app", content)
    search.whole_round()
    search.fetch()
    assert sandbox.requests["blob"] == 1
    publish(workplace, "ben/copy", content)
    for _ in range(4):
        search.poll()
        search.fetch()
    search.look_up()
    assert sandbox.requests["blob"] == 1
    assert {place.repository for place in exposures(search.database)} == {"ana/app", "ben/copy"}
    assert state_of(search.database, "code_search").counts["blobs_known"] >= 1


def test_a_finished_round_reports_its_duration_and_coverage(search: Search, workplace: Make) -> None:
    for number in range(3):
        publish(workplace, f"ana/app{number}", f"REPLICATE_API_TOKEN {number}")
    search.whole_round()
    last = state_of(search.database, "code_search").cursor["last_round"]
    assert (last["results"], last["expected"], last["coverage"], last["requests"]) == (3, 3, 1.0, 2)
    assert last["seconds"] >= 0


def test_incomplete_results_are_requested_again(search: Search, sandbox: SandboxGitHub, workplace: Make) -> None:
    publish(workplace, "ana/app", "REPLICATE_API_TOKEN")
    sandbox.search_incomplete = True
    search.poll()
    sandbox.search_incomplete = False
    search.whole_round()
    state = state_of(search.database, "code_search")
    assert state.counts["incomplete_results"] == 1
    assert state.cursor["last_round"]["coverage"] == 1.0


def test_a_refused_query_is_skipped_and_named(search: Search, sandbox: SandboxGitHub, workplace: Make) -> None:
    sandbox.faults["search"].append(lambda: Response(status_code=422))
    assert search.poll().error == "http_422"
    state = state_of(search.database, "code_search")
    assert (state.counts["query_refused"], len(state.cursor["round"]["waiting"])) == (1, 1)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Response(status_code=500), "http_500"),
        (Response(status_code=502), "http_502"),
        (Response(status_code=403, headers={"retry-after": "60"}), "rate_limited"),
        (Response(b"<html>"), "not_json"),
        (Response(b"[]"), "unexpected_json"),
        (Response(b"{}"), "unexpected_json"),
    ],
)
def test_a_failed_poll_loses_nothing_of_the_round(
    search: Search, sandbox: SandboxGitHub, workplace: Make, answer: Response, reason: str
) -> None:
    publish(workplace, "ana/app", "REPLICATE_API_TOKEN")
    search.poll()
    before = state_of(search.database, "code_search").cursor
    sandbox.faults["search"].append(lambda: answer)
    assert search.poll().error == reason
    state = state_of(search.database, "code_search")
    assert state.cursor == before
    assert state.error


def test_the_budget_of_ten_requests_a_minute_is_never_exceeded(search: Search, sandbox: SandboxGitHub) -> None:
    for _ in range(sandbox.search_limit):
        search.poll()
    for _ in range(10):
        search.poll()
    # A new minute may begin during these polls, so allow the quota of two minutes.
    assert sandbox.requests["search"] <= 2 * sandbox.search_limit
    assert sandbox.requests["search"] < search_polls(search)


def search_polls(search: Search) -> int:
    counts = state_of(search.database, "code_search").counts
    return int(counts["polls"]) + sum(int(value) for key, value in counts.items() if key.startswith("error_"))


def test_changed_queries_begin_a_new_round(search: Search, workplace: Make) -> None:
    publish(workplace, "ana/app", "REPLICATE_API_TOKEN")
    search.poll()
    make_due(search.database)
    poll(search.database, search.client, Detector(), queries=("another",), wait=lambda _: None)
    cursor = state_of(search.database, "code_search").cursor
    assert (cursor["queries"], cursor["round"]["requests"]) == (["another"], 1)


def test_results_with_missing_and_nulled_fields_are_counted_and_the_rest_is_read(
    search: Search, sandbox: SandboxGitHub, fresh_token: Token
) -> None:
    token = fresh_token()
    digest = know(search.database, token)
    good: dict[str, Any] = {
        "path": "a.py",
        "sha": "a" * 40,
        "html_url": "https://evil.example/blob/x",
        "repository": {"id": 7, "full_name": "ana/app", "description": None, "owner": None},
        "text_matches": [{"fragment": f"x = '{token}'"}, {"fragment": None}, None],
    }
    bad = [
        None,
        {},
        {**good, "repository": None},
        {**good, "path": None},
        {**good, "sha": "zz"},
        {**good, "repository": {"full_name": "../.."}},
        {**good, "html_url": "https://[", "text_matches": []},
    ]
    body = json.dumps({"total_count": 8, "incomplete_results": None, "items": [*bad, good]}).encode()
    sandbox.faults["search"].append(lambda: Response(body))
    assert search.poll().candidates == 1
    search.look_up()
    assert is_disabled(search.database, digest)
    assert "evil" not in exposures(search.database)[0].url
    assert state_of(search.database, "code_search").counts["unusable_result"] == 5


def test_a_token_in_a_name_is_not_stored(
    search: Search, workplace: Make, fresh_token: Token, sandbox: SandboxGitHub
) -> None:
    token = fresh_token()
    publish(workplace, f"ana/{token}", "REPLICATE_API_TOKEN", path=f"{token}.py")
    search.poll()
    (job,) = jobs_of(search.database, "files")
    assert token not in json.dumps(job.target)
    search.fetch()
    assert jobs_of(search.database, "files")[0].state == "done"
    assert sandbox.requests["blob"] == 1


def test_a_blob_that_does_not_match_its_id_does_not_count_as_read(
    search: Search, workplace: Make, fresh_token: Token, sandbox: SandboxGitHub
) -> None:
    token = fresh_token()
    digest = know(search.database, token)
    publish(workplace, "ana/app", "REPLICATE_API_TOKEN" + "\n" * 500 + token)
    search.poll()
    sandbox.faults["blob"].append(lambda: Response(b"REPLICATE_API_TOKEN" + b"\n" * 500))
    search.fetch()
    first, again = jobs_of(search.database, "files")
    assert (first.counts["unread_blob_differs"], again.state) == (1, "queued")
    search.fetch()
    assert is_disabled(search.database, digest)


def test_a_blob_that_never_matches_its_id_is_scanned_anyway(
    search: Search, workplace: Make, fresh_token: Token, sandbox: SandboxGitHub
) -> None:
    token = fresh_token()
    digest = know(search.database, token)
    publish(workplace, "ana/app", "REPLICATE_API_TOKEN")
    search.poll()
    sandbox.faults["blob"].extend([lambda: Response(token.encode())] * 100)
    for _ in range(MAX_TRIES):
        search.fetch()
    assert is_disabled(search.database, digest)
    last = jobs_of(search.database, "files")[-1]
    assert (last.state, last.counts["partly_read"], sandbox.requests["blob"]) == ("partial", 1, MAX_TRIES)
    with search.database.read() as session:
        assert session.execute(select(ReadObject)).first() is None, (
            "the result is not stored, so another copy of the blob is read again"
        )


def test_a_blob_that_does_not_match_its_id_is_fetched_again_and_its_tokens_are_found(
    search: Search, workplace: Make, fresh_token: Token, sandbox: SandboxGitHub
) -> None:
    near, far = fresh_token(), fresh_token()
    digests = [know(search.database, token) for token in (near, far)]
    publish(workplace, "ana/app", f"REPLICATE_API_TOKEN={near}" + "\n" * 500 + far)
    sandbox.faults["blob"].append(lambda: Response(b"something else"))
    search.poll()
    search.fetch()
    look_up_again(search.database, policy=Policy())
    assert all(is_disabled(search.database, digest) for digest in digests)


@respx.mock
@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(301, headers={"location": "https://evil.example/"}), Malformed),
        (httpx.Response(429), RateLimited),
        (httpx.ReadTimeout("slow"), Unavailable),
        (httpx.RemoteProtocolError("cut"), Unavailable),
    ],
)
def test_a_search_sends_one_request_through_our_client(answer: Any, error: type[GitHubError]) -> None:
    client = connect("https://api.github.com", "https://github.com", "a-credential")
    mock = {"side_effect": answer} if isinstance(answer, Exception) else {"return_value": answer}
    route = respx.get(url__startswith="https://api.github.com/search/code").mock(**mock)
    elsewhere = respx.get(url__startswith="https://evil.example").mock(return_value=httpx.Response(200))
    with pytest.raises(error):
        search_code(client, "r8_ size:1..2", 2)
    request = route.calls.last.request
    assert dict(request.url.params) == {"q": "r8_ size:1..2", "page": "2", "per_page": "100"}
    assert request.headers["authorization"] == "Bearer a-credential"
    assert "text-match" in request.headers["accept"]
    assert route.call_count == 1
    assert not elsewhere.called
    client.close()


@pytest.mark.parametrize(
    "item",
    [
        {},
        {"repository": {}, "path": None, "sha": None, "html_url": None, "text_matches": None},
        {"repository": "ana/app", "path": 1, "sha": ["a"], "html_url": {}, "text_matches": {"fragment": "a"}},
        {"repository": {"full_name": 5, "id": "5"}, "text_matches": [None, {"fragment": 1}, {}]},
        {"url": "https://evil.example/", "repository": {"url": "https://evil.example/"}},
    ],
)
def test_a_search_result_without_usable_fields_is_empty_and_sends_no_request(item: dict[str, Any]) -> None:
    with respx.mock:  # in this block, any request raises an exception
        assert parse_result(item) == SearchResult(None, None, None, None, None, ())

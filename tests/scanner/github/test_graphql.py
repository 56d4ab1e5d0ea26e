"""Tests that GraphQL queries are valid by GitHub's schema, and that rate limits in answers are recognised."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import graphql as core
import pytest
from starlette.responses import JSONResponse, Response

from scanner.github import repositories
from scanner.github.client import GitHub, connect
from scanner.github.errors import BadCredential, GitHubError, Malformed, RateLimited, Unavailable
from scanner.github.graphql import query
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.github_discovery import push_now

SCHEMA = core.build_schema((Path(__file__).parents[2] / "data" / "github_graphql.graphql").read_text(encoding="utf-8"))
TIP = "1" * 40
TRIVIAL = "query { rateLimit { cost } }"


@pytest.fixture
def client(sandbox: SandboxGitHub) -> Iterator[GitHub]:
    """Yield a client with a credential."""
    client = connect(sandbox.api_url, sandbox.url, "a-credential")
    yield client
    client.close()


@pytest.mark.parametrize("text", [repositories.SEARCH_QUERY, repositories.NODES_QUERY], ids=["search", "nodes"])
def test_each_query_is_valid_by_the_published_schema(text: str) -> None:
    assert core.validate(SCHEMA, core.parse(text)) == []


@pytest.mark.parametrize("text", [repositories.SEARCH_QUERY, repositories.NODES_QUERY], ids=["search", "nodes"])
def test_the_sandbox_answers_each_query_as_the_schema_describes(
    sandbox: SandboxGitHub, client: GitHub, text: str
) -> None:
    listed = push_now(sandbox, "ana/app", TIP)
    empty = sandbox.list_repository("ana/empty", created_at=time.time())
    ids = [f"R_{listed.id}", f"R_{empty.id}"]
    variables: dict[str, Any] = {"search": _all_of_today(), "after": None, "first": 100, "ids": ids}
    answer = query(client, text, variables)
    names = [node["nameWithOwner"] for node in (answer.data.get("search") or answer.data)["nodes"]]
    assert sorted(names) == ["ana/app", "ana/empty"]
    # Run the query again, with the sandbox's answer as the data. The library returns equal data only if every requested
    # field has the right type.
    again = core.execute_sync(
        SCHEMA,
        core.parse(text),
        root_value=dict(answer.data),
        variable_values=variables,
        type_resolver=lambda value, *_: "Commit" if "oid" in value else "Repository",
    )
    assert again.errors is None
    assert again.data == answer.data


def test_the_gate_counts_the_points_of_a_query(sandbox: SandboxGitHub, client: GitHub) -> None:
    sandbox.points_limit = 2
    repositories.search(client, _all_of_today())
    assert client.gate.seconds_a_request("graphql") > 1000
    assert client.gate.seconds_a_request("core") == 0
    repositories.search(client, _all_of_today())
    with pytest.raises(RateLimited) as refused:
        repositories.search(client, _all_of_today())
    assert (refused.value.reason, refused.value.asked) == ("budget_spent", False)
    assert sandbox.requests["graphql"] == 2


@pytest.mark.parametrize(
    "error",
    [
        {"type": "RATE_LIMITED", "message": "API rate limit exceeded"},
        {"message": "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."},
    ],
    ids=["points", "secondary"],
)
def test_a_limit_in_an_answer_with_status_200_stops_further_queries(
    sandbox: SandboxGitHub, client: GitHub, error: dict[str, str]
) -> None:
    sandbox.faults["graphql"].append(lambda: JSONResponse({"errors": [error]}, headers={"Retry-After": "120"}))
    with pytest.raises(RateLimited) as first:
        query(client, TRIVIAL, {})
    assert (first.value.retry_after, first.value.asked) == (120, True)
    with pytest.raises(RateLimited) as second:
        query(client, TRIVIAL, {})
    assert not second.value.asked
    assert sandbox.requests["graphql"] == 1


def test_more_than_a_minute_of_cpu_time_a_minute_is_refused_and_waited_out(
    sandbox: SandboxGitHub, client: GitHub
) -> None:
    sandbox.graphql.cpu_seconds_a_query = 30
    for _ in range(2):
        repositories.search(client, _all_of_today())
    with pytest.raises(RateLimited):
        repositories.search(client, _all_of_today())
    with pytest.raises(RateLimited) as kept_back:
        repositories.search(client, _all_of_today())
    assert not kept_back.value.asked


def test_a_limit_of_queries_leaves_the_rest_api_alone(sandbox: SandboxGitHub, client: GitHub) -> None:
    sandbox.faults["graphql"].append(lambda: JSONResponse({"errors": [{"type": "RATE_LIMITED"}]}))
    with pytest.raises(RateLimited):
        query(client, TRIVIAL, {})
    assert repositories.list_since(client, 0).repositories == []


def test_the_partial_result_of_a_heavy_query_is_kept_and_marked(sandbox: SandboxGitHub, client: GitHub) -> None:
    for number in range(3):
        push_now(sandbox, f"ana/app{number}", TIP)
    sandbox.graphql.partial_after.append(2)
    page = repositories.search(client, _all_of_today())
    assert [len(page.repositories), page.unusable, page.total] == [2, 1, 3]
    assert not page.is_whole
    assert page.errors == {"RESOURCE_LIMITS_EXCEEDED": 1}
    assert repositories.search(client, _all_of_today()).is_whole


def test_a_node_that_is_gone_does_not_hide_the_others(sandbox: SandboxGitHub, client: GitHub) -> None:
    first, second = push_now(sandbox, "ana/one", TIP), push_now(sandbox, "ana/two", TIP)
    first.hidden = True
    page = repositories.look_at(client, [f"R_{first.id}", f"R_{second.id}", "R_nobody's"])
    assert [one.name for one in page.repositories] == ["ana/two"]
    assert page.errors == {"NOT_FOUND": 2}
    assert page.is_whole


def _raw(body: bytes, status: int = 200) -> Callable[[], Response]:
    return lambda: Response(body, status_code=status, media_type="application/json")


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (_raw(b'{"errors": [{"message": "Something went wrong"}]}'), Unavailable, "query_failed"),
        (_raw(b'{"errors": [{"type": "RESOURCE_LIMITS_EXCEEDED"}]}'), Unavailable, "query_too_heavy"),
        (_raw(b'{"data": null, "errors": [{"type": "INSUFFICIENT_SCOPES"}]}'), Malformed, "query_refused"),
        (_raw(b'{"errors": [{"type": "<script>"}, 7, null, {"type": 3}]}'), Unavailable, "query_failed"),
        (_raw(b"[]"), Malformed, "unexpected_json"),
        (_raw(b"<html>"), Malformed, "not_json"),
        (_raw(b"{}", 502), Unavailable, "http_502"),
        (_raw(b"{}", 401), BadCredential, "bad_credential"),
        (_raw(b'{"message": "You have exceeded a secondary rate limit"}', 403), RateLimited, "rate_limited"),
    ],
)  # fmt: skip
def test_an_answer_without_data_is_an_error_with_a_reason(
    sandbox: SandboxGitHub, client: GitHub, answer: Callable[[], Response], error: type[GitHubError], reason: str
) -> None:
    sandbox.faults["graphql"].append(answer)
    with pytest.raises(error) as raised:
        query(client, TRIVIAL, {})
    assert raised.value.reason == reason
    assert "script" not in str(raised.value)


def _all_of_today() -> str:
    return "is:public fork:true pushed:2020-01-01T00:00:00Z..2090-01-01T00:00:00Z"

"""Code search through PyGithub, which sends its requests through our own client.

PyGithub's own connections, retries and pauses are off, because our client has the budgets, the allow-list of hosts and
the redirect rule.
https://docs.github.com/rest/search/search#search-code
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import github as pygithub
import httpx
from github.Requester import Requester

from scanner.github.client import MAX_JSON_BYTES, GitHub, check_status, decoded, read_body
from scanner.github.errors import Malformed, Unavailable

PAGE_SIZE = 100
MAX_RESULTS = 1000
"""GitHub returns at most this many results of one query. A query with more has to be split."""
MAX_FILE_BYTES = 384 * 1024
"""GitHub's index omits larger files."""


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of results. `items` are GitHub's unchanged results; hostile. `total` varies from page to page."""

    items: tuple[Mapping[str, Any], ...]
    total: int
    is_incomplete: bool


def search_code(github: GitHub, query: str, page: int) -> SearchPage:
    """Return page `page` (from 1) of the results, with the text around each match. Raises GitHubError."""
    with _using(github) as answers:
        # PyGithub gets no credential: our client adds it.
        client = pygithub.Github(
            base_url=github.api_url,
            per_page=PAGE_SIZE,
            retry=None,
            seconds_between_requests=None,
            seconds_between_writes=None,
        )
        client.search_code(query, highlight=True).get_page(page - 1)
    if not answers:
        raise Malformed("unexpected_json", "code search gave no answer")
    value = answers[-1]
    items = value.get("items")
    total = value.get("total_count")
    if not isinstance(items, list) or not isinstance(total, int):
        raise Malformed("unexpected_json", "code search answered with JSON of another shape than expected")
    return SearchPage(
        tuple(item for item in items if isinstance(item, dict)), max(total, 0), bool(value.get("incomplete_results"))
    )


_current: ContextVar[tuple[GitHub, list[dict[str, Any]]]] = ContextVar("github")


@contextmanager
def _using(github: GitHub) -> Iterator[list[dict[str, Any]]]:
    """Select the client for PyGithub's requests in this context. PyGithub's connection class is a global."""
    answers: list[dict[str, Any]] = []
    token = _current.set((github, answers))
    try:
        yield answers
    finally:
        _current.reset(token)


class _Answer:
    """The interface of a response that PyGithub expects."""

    def __init__(self, response: httpx.Response, body: bytes) -> None:
        self.status = response.status_code
        self._headers, self._body = response.headers, body

    def getheaders(self) -> list[tuple[str, str]]:
        return list(self._headers.items())

    def read(self) -> str:
        return self._body.decode("utf-8", "replace")


class _Connection:
    """The interface of a connection that PyGithub expects."""

    scheme = "https"

    def __init__(self, host: str, port: int | None = None, **_: Any) -> None:
        self._origin = f"{self.scheme}://{host}" + (f":{port}" if port else "")
        self._request: tuple[str, str, dict[str, str]] = ("GET", "/", {})

    def request(self, verb: str, url: str, input: Any, headers: dict[str, str], stream: bool = False) -> None:
        del input, stream
        self._request = (verb, url, {"Accept": headers.get("Accept", "*/*")})

    def getresponse(self) -> _Answer:
        github, answers = _current.get()
        verb, path, headers = self._request
        try:
            with github.http.stream(
                verb, self._origin + path, headers=headers, extensions={"reserve": github.reserve}
            ) as response:
                body = read_body(response, MAX_JSON_BYTES)
        except httpx.HTTPError as err:
            raise Unavailable("connection", f"GitHub cannot be reached ({type(err).__name__})") from err
        check_status(response, body, github.credential_label)
        host = response.request.url.host
        answers.append(decoded(body, host, dict))
        # PyGithub fails on results of an unexpected shape. Keep the answer here, and give PyGithub an empty one.
        return _Answer(response, json.dumps({"total_count": 0, "items": []}).encode())

    def close(self) -> None:
        """Do nothing: the client owns the connections."""


class _PlainConnection(_Connection):
    scheme = "http"


Requester.injectConnectionClasses(_PlainConnection, _Connection)  # type: ignore[arg-type]  # the same methods

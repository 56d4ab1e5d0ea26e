"""GitHub's code search: https://docs.github.com/rest/search/search#search-code"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import github as pygithub
from github.ContentFile import ContentFile

from scanner.github.client import GitHub, get_json
from scanner.github.errors import Malformed

T = TypeVar("T")

PAGE_SIZE = 100
MAX_RESULTS = 1000
"""GitHub returns at most this many results of one query."""
MAX_FILE_BYTES = 384 * 1024
"""GitHub's search index omits larger files."""
WITH_FRAGMENTS = "application/vnd.github.text-match+json"

_API = pygithub.Github()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A file that matches a code search. The text may be hostile. An unknown field is None."""

    repository: str | None
    repository_id: int | None
    path: str | None
    sha: str | None
    html_url: str | None
    fragments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of results of a code search.

    `total` is the number of all results. GitHub may report a different number on each page.
    """

    results: tuple[SearchResult, ...]
    total: int
    is_incomplete: bool


def search_code(github: GitHub, query: str, page: int) -> SearchPage:
    """Return one page of the search results, with the text around each match. `page` counts from 1.

    Raises:
        GitHubError: GitHub gave no usable answer.
    """
    params: dict[str, str | int] = {"q": query, "per_page": PAGE_SIZE, "page": page}
    url = f"{github.api_url}/search/code"
    # Do not retry: the quota is only ten requests a minute, and the next poll requests the page again.
    _, value = get_json(github, url, params=params, accept=WITH_FRAGMENTS, expected=dict, attempts=1)
    items, total = value.get("items"), value.get("total_count")
    if not isinstance(items, list) or not isinstance(total, int):
        raise Malformed("unexpected_json", "code search answered with JSON of another shape than expected")
    results = tuple(parse_result(item) for item in items if isinstance(item, dict))
    return SearchPage(results, max(total, 0), bool(value.get("incomplete_results")))


def parse_result(item: Mapping[str, Any]) -> SearchResult:
    """Return the SearchResult for an item of GitHub's answer. Missing or malformed fields become None."""
    repository, matches = item.get("repository"), item.get("text_matches")
    repository = repository if isinstance(repository, dict) else {}
    # Set every attribute that the code below reads. PyGithub requests missing ones from a URL in the response.
    raw: dict[str, Any] = {
        **{name: item.get(name) for name in ("path", "sha", "html_url")},
        "repository": {name: repository.get(name) for name in ("full_name", "id")},
        "text_matches": [match for match in matches if isinstance(match, dict)] if isinstance(matches, list) else [],
    }
    file = _API.create_from_raw_data(ContentFile, raw)
    fragments = [match.get("fragment") for match in raw["text_matches"]]
    return SearchResult(
        _or_none(lambda: file.repository.full_name),
        _or_none(lambda: file.repository.id),
        _or_none(lambda: file.path),
        _or_none(lambda: file.sha),
        _or_none(lambda: file.html_url),
        tuple(fragment for fragment in fragments if isinstance(fragment, str)),
    )


def _or_none(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except pygithub.BadAttributeException:
        return None

"""GitHub's code search. r8scan's own client sends the request, and PyGithub's classes parse the results.

PyGithub itself sends no requests, because it ignores r8scan's quotas and list of allowed hosts.
https://docs.github.com/rest/search/search#search-code
"""

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
"""GitHub returns at most this many results of one query. A query with more has to be split."""
MAX_FILE_BYTES = 384 * 1024
"""GitHub's index omits larger files."""
WITH_FRAGMENTS = "application/vnd.github.text-match+json"

_API = pygithub.Github()


@dataclass(frozen=True, slots=True)
class SearchResult:
    """A file that matches a code search.

    Its text may be hostile. A field is None if GitHub's answer has no valid value.
    """

    repository: str | None
    repository_id: int | None
    path: str | None
    sha: str | None
    html_url: str | None
    fragments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SearchPage:
    """One page of results of a code search.

    `total` is the number of all results according to GitHub. It may differ between the pages of one search.
    """

    results: tuple[SearchResult, ...]
    total: int
    is_incomplete: bool


def search_code(github: GitHub, query: str, page: int) -> SearchPage:
    """Return page `page` (from 1) of the search results, with the text around each match. Raises GitHubError."""
    params: dict[str, str | int] = {"q": query, "per_page": PAGE_SIZE, "page": page}
    url = f"{github.api_url}/search/code"
    # Do not retry. The quota is only ten requests a minute, and the next poll requests the same page again.
    _, value = get_json(github, url, params=params, accept=WITH_FRAGMENTS, expected=dict, attempts=1)
    items, total = value.get("items"), value.get("total_count")
    if not isinstance(items, list) or not isinstance(total, int):
        raise Malformed("unexpected_json", "code search answered with JSON of another shape than expected")
    results = tuple(parse_result(item) for item in items if isinstance(item, dict))
    return SearchPage(results, max(total, 0), bool(value.get("incomplete_results")))


def parse_result(item: Mapping[str, Any]) -> SearchResult:
    """Return an item of GitHub's answer as a SearchResult. This function never raises.

    A field that is missing or malformed in the item is None in the result.
    """
    repository, matches = item.get("repository"), item.get("text_matches")
    repository = repository if isinstance(repository, dict) else {}
    # Set every attribute that the code below reads. PyGithub would otherwise request a missing one from a URL in
    # GitHub's response.
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

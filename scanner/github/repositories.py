"""Requests lists of public repositories: a search, all repositories by id, or chosen node ids.

https://docs.github.com/rest/repos/repos#list-public-repositories
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from scanner.github import graphql
from scanner.github.addresses import is_object_id
from scanner.github.client import GitHub, get_json, next_page
from scanner.github.graphql import mapping
from scanner.github.urls import is_repository_name

PAGE_SIZE = 100
MAX_RESULTS = 1000
"""GitHub returns at most this many results of one search: https://docs.github.com/rest/search/search"""
MAX_NODE_ID_LENGTH = 200
MAX_NAME_LENGTH = 200
MAX_DESCRIPTION_LENGTH = 4096

_FIELDS = """
    id databaseId nameWithOwner description pushedAt createdAt isFork isEmpty diskUsage
    primaryLanguage { name }
    defaultBranchRef { name target { oid } }
"""
SEARCH_QUERY = f"""
query($search: String!, $after: String, $first: Int!) {{
  rateLimit {{ cost }}
  search(type: REPOSITORY, query: $search, first: $first, after: $after) {{
    repositoryCount
    pageInfo {{ hasNextPage endCursor }}
    nodes {{ ... on Repository {{ {_FIELDS} }} }}
  }}
}}
"""
NODES_QUERY = f"""
query($ids: [ID!]!) {{
  rateLimit {{ cost }}
  nodes(ids: $ids) {{ ... on Repository {{ {_FIELDS} }} }}
}}
"""


@dataclass(frozen=True, slots=True)
class ListedRepository:
    """A repository in a list from GitHub. Fields from `is_empty` on are None if the list does not show them."""

    id: int
    node_id: str
    name: str
    description: str = ""
    pushed_at: datetime | None = None
    created_at: datetime | None = None
    is_fork: bool = False
    is_empty: bool | None = None
    size_kb: int | None = None
    language: str | None = None
    default_branch: str | None = None
    tip: str | None = None


@dataclass(slots=True)
class Page:
    """One page of a list of repositories.

    Attributes:
        total: The number of all results according to GitHub, or 0 if it is unknown.
        after: The cursor, page number or address of the next page. None on the last page.
        is_whole: False if GitHub reported that results were left out.
        unusable: The number of null, incomplete or malformed entries.
        points: The page's cost in GraphQL points.
        seconds: Seconds that GitHub took for the page.
        errors: The number of errors that GitHub reported for parts of the page, by type.
    """

    repositories: list[ListedRepository] = field(default_factory=list)
    total: int = 0
    after: str | None = None
    is_whole: bool = True
    unusable: int = 0
    points: int = 0
    seconds: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)


def pushed_between(start: datetime, end: datetime) -> str:
    """Return the search terms for repositories last pushed between two times (inclusive, in whole seconds).

    https://docs.github.com/search-github/searching-on-github/searching-for-repositories
    """
    return f"is:public fork:true pushed:{_second(start)}..{_second(end)}"


def search(
    github: GitHub, words: str, after: str | None = None, *, newest_first: bool = False, size: int = PAGE_SIZE
) -> Page:
    """Return a page of at most `size` results of a GraphQL search.

    Raises:
        GitHubError: GitHub gave no usable answer.
    """
    # Always sort: unsorted pages repeat some results and omit others.
    order = "sort:updated-desc" if newest_first else "sort:updated-asc"
    answer = graphql.query(github, SEARCH_QUERY, {"search": f"{words} {order}", "after": after, "first": size})
    found = mapping(answer.data.get("search"))
    page = Page(points=answer.cost, seconds=answer.seconds, errors=answer.errors)
    page.total = _count(found.get("repositoryCount")) or 0
    page.is_whole = not answer.is_partial
    following = mapping(found.get("pageInfo"))
    cursor = following.get("endCursor")
    if following.get("hasNextPage") is True and isinstance(cursor, str) and 0 < len(cursor) <= MAX_NODE_ID_LENGTH:
        page.after = cursor
    _add(page, found.get("nodes"), _by_graphql)
    return page


def search_by_rest(github: GitHub, words: str, number: int, *, size: int = PAGE_SIZE) -> Page:
    """Return page `number` (from 1) of a search by the REST API, which has a separate quota.

    Raises:
        GitHubError: GitHub gave no usable answer.
    """
    params: dict[str, str | int] = {"q": words, "sort": "updated", "order": "asc", "per_page": size, "page": number}
    _, value = get_json(github, f"{github.api_url}/search/repositories", params=params, expected=dict)
    page = Page(total=_count(value.get("total_count")) or 0, is_whole=value.get("incomplete_results") is not True)
    items = value.get("items")
    _add(page, items, _by_rest)
    is_full = isinstance(items, list) and len(items) >= size
    if is_full and number * size < min(page.total, MAX_RESULTS):
        page.after = str(number + 1)
    return page


def list_since(github: GitHub, since: int, url: str | None = None) -> Page:
    """Return the page at `url`. If `url` is None, return the first page of public repositories with ids above `since`.

    Raises:
        GitHubError: GitHub gave no usable answer.
    """
    address = url or f"{github.api_url}/repositories"
    response, listed = get_json(github, address, params=None if url else {"since": since}, expected=list)
    page = Page(after=next_page(github, response))
    _add(page, listed, _by_rest)
    return page


def look_at(github: GitHub, node_ids: Sequence[str]) -> Page:
    """Return the repositories with these node ids (at most 100), except those that are not public.

    Raises:
        GitHubError: GitHub gave no usable answer.
    """
    answer = graphql.query(github, NODES_QUERY, {"ids": list(node_ids)[:PAGE_SIZE]})
    page = Page(points=answer.cost, seconds=answer.seconds, errors=answer.errors, is_whole=not answer.is_partial)
    _add(page, answer.data.get("nodes"), _by_graphql)
    return page


def _add(page: Page, listed: Any, read: Any) -> None:
    for entry in listed if isinstance(listed, list) else ():
        repository = read(entry) if isinstance(entry, dict) else None
        if repository is None:
            page.unusable += 1
        else:
            page.repositories.append(repository)


def _by_graphql(entry: Mapping[str, Any]) -> ListedRepository | None:
    number, node_id, name = entry.get("databaseId"), entry.get("id"), entry.get("nameWithOwner")
    if not _is_usable(number, node_id, name):
        return None
    branch = mapping(entry.get("defaultBranchRef"))
    tip = mapping(branch.get("target")).get("oid")
    has_tip = isinstance(tip, str) and is_object_id(tip)
    return ListedRepository(
        id=int(str(number)),
        node_id=str(node_id),
        name=str(name),
        description=_text(entry.get("description"), MAX_DESCRIPTION_LENGTH) or "",
        pushed_at=_time(entry.get("pushedAt")),
        created_at=_time(entry.get("createdAt")),
        is_fork=entry.get("isFork") is True,
        is_empty=entry["isEmpty"] if isinstance(entry.get("isEmpty"), bool) else None,
        size_kb=_count(entry.get("diskUsage")),
        language=_text(mapping(entry.get("primaryLanguage")).get("name"), MAX_NAME_LENGTH),
        default_branch=_text(branch.get("name"), MAX_NAME_LENGTH) if has_tip else None,
        tip=tip if has_tip else None,
    )


def _by_rest(entry: Mapping[str, Any]) -> ListedRepository | None:
    number, node_id, name = entry.get("id"), entry.get("node_id"), entry.get("full_name")
    if not _is_usable(number, node_id, name) or entry.get("private") is True:
        return None
    return ListedRepository(
        id=int(str(number)),
        node_id=str(node_id),
        name=str(name),
        description=_text(entry.get("description"), MAX_DESCRIPTION_LENGTH) or "",
        pushed_at=_time(entry.get("pushed_at")),
        created_at=_time(entry.get("created_at")),
        is_fork=entry.get("fork") is True,
        size_kb=_count(entry.get("size")),
        language=_text(entry.get("language"), MAX_NAME_LENGTH),
        default_branch=_text(entry.get("default_branch"), MAX_NAME_LENGTH),
    )


def _is_usable(number: Any, node_id: Any, name: Any) -> bool:
    is_number = isinstance(number, int) and not isinstance(number, bool) and 0 < number < 2**62
    is_id = isinstance(node_id, str) and 0 < len(node_id) <= MAX_NODE_ID_LENGTH and node_id.isascii()
    return is_number and is_id and node_id.isprintable() and isinstance(name, str) and is_repository_name(name)


def _time(value: Any) -> datetime | None:
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        parsed = datetime.fromisoformat(value)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53 else None


def _text(value: Any, limit: int) -> str | None:
    return value[:limit] if isinstance(value, str) and value else None


def _second(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"

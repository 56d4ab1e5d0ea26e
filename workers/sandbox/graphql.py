"""The GraphQL API of the simulated GitHub, with GitHub's limits. It knows only the two queries that r8scan sends."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from workers.sandbox.repository_index import RepositoryIndex

PAGE_SIZE = 100
MAX_RESULTS = 1000
CPU_SECONDS, CPU_WINDOW = 60.0, 60.0
"""All queries together may use CPU_SECONDS of CPU time in CPU_WINDOW seconds.

https://docs.github.com/graphql/overview/rate-limits-and-query-limits-for-the-graphql-api
"""

_SPAN = re.compile(r"pushed:(\S+?)\.\.(\S+)")

Describe = Callable[[int], dict[str, Any] | None]
"""A function that returns the fields of the repository with this number, or None if it is not public."""


@dataclass
class GraphQL:
    """Answers GraphQL queries and applies GitHub's limits to them.

    Attributes:
        describe: Returns the fields of a repository.
        number_of: Returns the number of the repository with a node id.
        cpu_seconds_a_query: The CPU time that each query takes.
        partial_after: For each of the next answers, the number of results after which it is cut off. None: not cut off.
        stops_after: The same number for all answers after these. None: not cut off.
        gives_up: How many of the next queries fail with GitHub's timeout error.
        clock: Returns the time in seconds since the epoch.
        sees: The share of all results that the credential can see. An App's token sees only a part of them.
    """

    index: RepositoryIndex
    describe: Describe
    number_of: Callable[[str], int | None]
    cpu_seconds_a_query: float = 0.0
    partial_after: deque[int | None] = field(default_factory=deque)
    stops_after: int | None = None
    gives_up: int = 0
    sees: float = 1.0
    clock: Callable[[], float] = time.time
    queries: int = 0

    def __post_init__(self) -> None:
        self._cpu: deque[float] = deque()

    def answer(self, body: Mapping[str, Any], *, is_spent: bool) -> dict[str, Any]:
        """Return the JSON answer to a query. `is_spent` says whether the hourly limit is reached."""
        self.queries += 1
        if is_spent:
            return _failed("API rate limit already exceeded for user ID 1.", "RATE_LIMITED")
        if self._is_over_cpu():
            return _failed("You have exceeded a secondary rate limit. Please wait a few minutes.")
        if self.gives_up:
            self.gives_up -= 1
            return _failed("Something went wrong while executing your query. This may be the result of a timeout.")
        variables = body["variables"]
        if "search(type: REPOSITORY" in body["query"]:
            data, errors = self._search(str(variables["search"]), variables.get("after"), int(variables["first"]))
        else:
            data, errors = self._nodes(variables["ids"])
        answer = {"data": {"rateLimit": {"cost": 1}, **data}}
        return {**answer, "errors": errors} if errors else answer

    def index_matches(self, words: str) -> list[int]:
        """Return the numbers of matching repositories, sorted by last push. With `sort:updated-desc`, the newest is
        first.
        """
        span = _SPAN.search(words)
        found = self.index.between(_seconds(span[1]), _seconds(span[2]), self.clock()) if span else []
        return found[::-1] if "sort:updated-desc" in words else found

    def _search(self, words: str, after: Any, size: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        found = self.index_matches(words)
        found = found[: round(len(found) * self.sees)]
        start = int(after) if after else 0
        end = min(start + min(size, PAGE_SIZE), MAX_RESULTS)
        nodes, errors = self._cut([self.describe(number) for number in found[start:end]], "search")
        has_next = end < min(len(found), MAX_RESULTS)
        page = {"hasNextPage": has_next, "endCursor": str(end) if nodes else None}
        return {"search": {"repositoryCount": len(found), "pageInfo": page, "nodes": nodes}}, errors

    def _nodes(self, ids: Sequence[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        numbers = [self.number_of(node_id) for node_id in ids]
        nodes, errors = self._cut([None if number is None else self.describe(number) for number in numbers], "nodes")
        gone = [
            {"type": "NOT_FOUND", "path": ["nodes", at], "message": "Could not resolve to a node with the global id"}
            for at, node in enumerate(nodes)
            if node is None
        ]
        return {"nodes": nodes}, errors or gone

    def _cut(self, nodes: list[Any], path: str) -> tuple[list[Any], list[dict[str, Any]]]:
        after = self.partial_after.popleft() if self.partial_after else self.stops_after
        if after is None or after >= len(nodes):
            return nodes, []
        error = {
            "type": "RESOURCE_LIMITS_EXCEEDED",
            "path": [path],
            "message": "Resource limits for this query exceeded.",
        }
        return [*nodes[:after], *(None for _ in nodes[after:])], [error]

    def _is_over_cpu(self) -> bool:
        now = time.time()
        while self._cpu and self._cpu[0] < now - CPU_WINDOW:
            self._cpu.popleft()
        if len(self._cpu) * self.cpu_seconds_a_query >= CPU_SECONDS:
            return True
        self._cpu.append(now)
        return False


def node(
    *,
    number: int,
    node_id: str,
    name: str,
    pushed_at: float | None,
    created_at: float,
    branch: str | None,
    tip: str | None,
    description: str | None = None,
    is_fork: bool = False,
    size_kb: int = 1,
    language: str | None = None,
) -> dict[str, Any]:
    """Return the fields of a repository in GitHub's JSON format. The times are in seconds since the epoch."""
    return {
        "id": node_id,
        "databaseId": number,
        "nameWithOwner": name,
        "description": description,
        "pushedAt": None if pushed_at is None else stamp(pushed_at),
        "createdAt": stamp(created_at),
        "isFork": is_fork,
        "isEmpty": tip is None,
        "diskUsage": size_kb,
        "primaryLanguage": {"name": language} if language else None,
        "defaultBranchRef": {"name": branch, "target": {"oid": tip}} if tip else None,
    }


def stamp(at: float) -> str:
    """Return the time `at` (seconds since the epoch) in GitHub's format."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _failed(message: str, kind: str | None = None) -> dict[str, Any]:
    return {"errors": [{**({"type": kind} if kind else {}), "message": message}]}


def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())

"""Lists and searches of repositories on the simulated GitHub."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from workers.sandbox import graphql
from workers.sandbox.github import Repository, SandboxGitHub
from workers.sandbox.github_api import Answers
from workers.sandbox.graphql import GraphQL

LIST_SIZE = 100
"""The number of repositories on one page of `GET /repositories`, the list of all public repositories."""


def routes(answers: Answers) -> list[Route]:
    """Return the routes that list or search repositories."""
    discovery = Discovery(answers)
    answers.github.graphql = discovery.graphql
    return [
        Route("/api/graphql", discovery.query, methods=["POST"]),
        Route("/api/search/repositories", discovery.search),
        Route("/api/repositories", discovery.list_by_id),
    ]


class Discovery:
    """The handlers of requests that list or search repositories."""

    def __init__(self, answers: Answers) -> None:
        self._own = answers
        self._github: SandboxGitHub = answers.github
        self.graphql = GraphQL(answers.github.index, self._node, self._number_of)

    async def query(self, request: Request) -> Response:
        refused = self._own.refused(request, "graphql")
        if refused is not None:
            return refused
        if "authorization" not in request.headers:
            return self._own.error(401, "This endpoint requires you to be authenticated.")
        is_spent = self._own.used("graphql") >= self._github.points_limit
        answer = self.graphql.answer(await request.json(), is_spent=is_spent)
        return JSONResponse(answer, headers=self._own.limits("graphql"))

    async def search(self, request: Request) -> Response:
        refused = self._own.refused(request, "repository_search")
        if refused is not None:
            return refused
        if self._own.used("search") >= self._github.repository_search_limit:
            headers = self._own.limits("search")
            return JSONResponse({"message": "API rate limit exceeded"}, status_code=403, headers=headers)
        found = self.graphql.index_matches(request.query_params.get("q", ""))
        size = min(int(request.query_params.get("per_page", "30")), 100)
        number = int(request.query_params.get("page", "1"))
        shown = [self._repository(one) for one in found[: graphql.MAX_RESULTS]]
        items = [self._listed(one) | {"score": 1.0} for one in shown if one is not None]
        body = {
            "total_count": len(found),
            "incomplete_results": False,
            "items": items[(number - 1) * size : number * size],
        }
        return JSONResponse(body, headers=self._own.limits("search"))

    async def list_by_id(self, request: Request) -> Response:
        refused = self._own.refused(request, "repositories")
        if refused is not None:
            return refused
        since = int(request.query_params.get("since", "0"))
        visible = (
            repository
            for name, repository in list(self._github.repositories.items())
            if repository.id > since and not repository.hidden and not name.startswith("gist/")
        )
        page = sorted(visible, key=lambda repository: repository.id)[:LIST_SIZE]
        headers = self._own.limits("core")
        if len(page) == LIST_SIZE:
            headers["Link"] = f'<{self._github.api_url}/repositories?since={page[-1].id}>; rel="next"'
        listed: list[Any] = [self._listed(repository) for repository in page]
        # GitHub's list sometimes contains null and repeated entries.
        listed[1:1] = [None, listed[0]] if listed and self._github.strange_lists else []
        return JSONResponse(listed, headers=headers)

    def _listed(self, repository: Repository) -> dict[str, Any]:
        pushed_at = repository.created_at if repository.pushed_at is None else repository.pushed_at
        return self._own.description(repository) | {
            "node_id": node_id(repository),
            "fork": repository.is_fork,
            "created_at": graphql.stamp(repository.created_at),
            "pushed_at": graphql.stamp(pushed_at),
            "language": repository.language,
        }

    def _node(self, number: int) -> dict[str, Any] | None:
        repository = self._repository(number)
        if repository is None:
            return None
        return graphql.node(
            number=number,
            node_id=node_id(repository),
            name=repository.name,
            pushed_at=repository.created_at if repository.pushed_at is None else repository.pushed_at,
            created_at=repository.created_at,
            branch="main",
            tip=repository.tip,
            description=repository.description or None,
            is_fork=repository.is_fork,
            language=repository.language,
        )

    def _repository(self, number: int) -> Repository | None:
        repository = self._github.by_number.get(number)
        return None if repository is None or repository.hidden else repository

    def _number_of(self, given: str) -> int | None:
        number = given.removeprefix("R_")
        return int(number) if number.isdecimal() else None


def node_id(repository: Repository) -> str:
    """Return the repository's id in the GraphQL API."""
    return f"R_{repository.id}"


def push_now(github: SandboxGitHub, name: str, tip: str, *, at: float | None = None) -> Repository:
    """Record a push of the commit `tip` at the time `at` (seconds since the epoch; default: now)."""
    moment = time.time() if at is None else at
    repository = github.repositories.get(name.lower()) or github.list_repository(name, created_at=moment)
    repository.tip, repository.pushed_at = tip, moment
    github.index.push(repository.id, moment)
    return repository

"""What the sandbox's GitHub answers over HTTP: the REST API below /api, git's smart HTTP at the root."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import time
from typing import Any

from anyio import to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from workers.sandbox import git_backend, github_content
from workers.sandbox.github import Repository, SandboxGitHub

LARGEST_BODY = 256 * 1024 * 1024
DOCUMENTATION = "https://docs.github.com/rest"


def application(github: SandboxGitHub) -> Starlette:
    """The ASGI application of one GitHub."""
    own = _Answers(github)
    return Starlette(
        routes=[
            Route("/api/events", own.events),
            Route("/api/rate_limit", own.rate_limit),
            Route("/api/search/code", own.search),
            Route("/api/repositories/{id:int}", own.repository_by_id),
            Route("/api/repos/{owner}/{name}", own.repository),
            Route("/api/repos/{owner}/{name}/compare/{ends}", own.compare),
            Route("/api/repos/{owner}/{name}/commits/{sha}", own.commit),
            Route("/api/repos/{owner}/{name}/git/blobs/{sha}", own.blob),
            Route("/{owner}/{name}/{rest:path}", own.git, methods=["GET", "POST"]),
        ]
    )


class _Answers:
    def __init__(self, github: SandboxGitHub) -> None:
        self._github = github
        self._used = 0

    async def events(self, request: Request) -> Response:
        refused = self._refused(request, "events")
        if refused is not None:
            return refused
        number = max(int(request.query_params.get("page", "1")), 1)
        size = min(max(int(request.query_params.get("per_page", "15")), 1), 100)
        body = json.dumps(self._github.timeline.page(number, size) if number * size <= 300 else []).encode()
        credential = request.headers.get("authorization", "")
        etag = f'W/"{hashlib.sha256(body + credential.encode()).hexdigest()}"'
        headers = {"ETag": etag, "Cache-Control": "public, max-age=60, s-maxage=60"}
        if self._github.poll_interval is not None:
            headers["X-Poll-Interval"] = str(self._github.poll_interval)
        if number * size < 300:
            following = f"{self._github.api_url}/events?per_page={size}&page={number + 1}"
            headers["Link"] = f'<{following}>; rel="next"'
        unchanged = request.headers.get("if-none-match") == etag
        headers |= self._limits("core", free=unchanged and bool(credential))
        if unchanged:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    async def rate_limit(self, request: Request) -> Response:
        limits = {"limit": self._github.rate_limit, "used": self._used, "remaining": self._remaining()}
        return self._refused(request, "rate_limit") or JSONResponse({"resources": {"core": limits}})

    async def repository(self, request: Request) -> Response:
        refused = self._refused(request, "repository")
        name = f"{request.path_params['owner']}/{request.path_params['name']}".lower()
        present = self._github.find(self._github.renamed.get(name, ""))
        if refused is None and present is not None:
            return RedirectResponse(f"{self._github.api_url}/repositories/{present.id}", status_code=301)
        return refused or self._described(self._find(request))

    async def repository_by_id(self, request: Request) -> Response:
        refused = self._refused(request, "repository")
        wanted = request.path_params["id"]
        found = next((item for item in self._github.repositories.values() if item.id == wanted), None)
        return refused or self._described(found if found is not None and not found.hidden else None)

    async def compare(self, request: Request) -> Response:
        refused = self._refused(request, "compare")
        repository = self._find(request)
        before, dots, head = request.path_params["ends"].partition("...")
        if refused is not None or repository is None or not dots:
            return refused or self._error(404, "Not Found")
        return self._content(await to_thread.run_sync(github_content.compare, repository.path, before, head))

    async def commit(self, request: Request) -> Response:
        refused = self._refused(request, "commit")
        repository = self._find(request)
        if refused is not None or repository is None:
            return refused or self._error(404, "Not Found")
        sha = request.path_params["sha"]
        return self._content(await to_thread.run_sync(github_content.commit, repository.path, sha))

    async def blob(self, request: Request) -> Response:
        refused = self._refused(request, "blob")
        repository = self._find(request)
        if refused is not None or repository is None:
            return refused or self._error(404, "Not Found")
        return self._content(await to_thread.run_sync(github_content.blob, repository.path, request.path_params["sha"]))

    async def search(self, request: Request) -> Response:
        refused = self._refused(request, "search")
        if refused is not None:
            return refused
        if "authorization" not in request.headers:
            return self._error(401, "Requires authentication")
        size = min(int(request.query_params.get("per_page", "30")), 100)
        number = int(request.query_params.get("page", "1"))
        visible = [item for item in self._github.repositories.values() if not item.hidden]
        query = request.query_params.get("q", "")
        found = await to_thread.run_sync(github_content.search, visible, query, self._github.url)
        body = {
            "total_count": len(found),
            "incomplete_results": False,
            "items": found[(number - 1) * size : number * size],
        }
        return JSONResponse(body, headers=self._limits("code_search"))

    async def git(self, request: Request) -> Response:
        refused = self._refused(request, "git")
        if refused is not None:
            return refused
        name = f"{request.path_params['owner']}/{request.path_params['name'].removesuffix('.git')}"
        if name.lower() in self._github.renamed:
            target = f"{self._github.url}/{self._github.renamed[name.lower()]}.git/{request.path_params['rest']}"
            return RedirectResponse(f"{target}?{request.url.query}", status_code=301)
        repository = self._github.find(name)
        rest = request.path_params["rest"]
        if repository is None or rest not in ("info/refs", "git-upload-pack", "git-receive-pack"):
            return Response("Not Found", status_code=404, media_type="text/plain")
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        answer = await to_thread.run_sync(self._backend, request, repository, rest, body[:LARGEST_BODY])
        return Response(answer.body, status_code=answer.status, headers=answer.headers)

    def _backend(self, request: Request, repository: Repository, rest: str, body: bytes) -> git_backend.CgiAnswer:
        is_push = rest == "git-receive-pack"
        before = git_backend.refs(repository.path) if is_push else {}
        answer = git_backend.backend(
            repository.path,
            method=request.method,
            suffix=f"/{rest}",
            query=request.url.query,
            content_type=request.headers.get("content-type", ""),
            protocol=request.headers.get("git-protocol", ""),
            encoding="",
            body=body,
        )
        if is_push:
            self._github.pushed(repository, git_backend.changes(before, git_backend.refs(repository.path)))
        return answer

    def _refused(self, request: Request, route: str) -> Response | None:
        """A fault that was ordered, or a credential that is not accepted."""
        github = self._github
        with github.lock:
            github.requests[route] += 1
            if github.faults[route]:
                return github.faults[route].popleft()()
        given = request.headers.get("authorization", "")
        if given and github.credential is not None and given not in self._accepted(route):
            return self._error(401, "Bad credentials")
        return None

    def _accepted(self, route: str) -> tuple[str, ...]:
        """How the credential may be sent: as GitHub takes it, to git by Basic only."""
        credential = str(self._github.credential)
        if route == "git":
            return ("Basic " + base64.b64encode(f"x-access-token:{credential}".encode()).decode(),)
        return (f"Bearer {credential}", f"token {credential}")

    def _find(self, request: Request) -> Repository | None:
        return self._github.find(f"{request.path_params['owner']}/{request.path_params['name']}")

    def _described(self, repository: Repository | None) -> Response:
        if repository is None:
            return self._error(404, "Not Found")
        owner, _, name = repository.name.partition("/")
        body = {
            "id": repository.id,
            "name": name,
            "full_name": repository.name,
            "owner": {"login": owner},
            "private": False,
            "description": repository.description or None,
            "html_url": f"{self._github.url}/{repository.name}",
            "default_branch": "main",
        }
        return JSONResponse(body, headers=self._limits("core"))

    def _content(self, body: dict[str, Any] | None) -> Response:
        return self._error(404, "Not Found") if body is None else JSONResponse(body, headers=self._limits("core"))

    def _error(self, status: int, message: str) -> Response:
        body = {"message": message, "documentation_url": DOCUMENTATION, "status": str(status)}
        return JSONResponse(body, status_code=status, headers=self._limits("core"))

    def _limits(self, resource: str, *, free: bool = False) -> dict[str, str]:
        self._used += not free
        return {
            "X-RateLimit-Limit": str(self._github.rate_limit),
            "X-RateLimit-Remaining": str(self._remaining()),
            "X-RateLimit-Used": str(self._used),
            "X-RateLimit-Reset": str(int(time.time()) // 3600 * 3600 + 3600),
            "X-RateLimit-Resource": resource,
        }

    def _remaining(self) -> int:
        return max(self._github.rate_limit - self._used, 0)

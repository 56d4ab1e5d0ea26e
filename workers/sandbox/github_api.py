"""HTTP endpoints of the simulated GitHub for single objects, events, code search and git."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import time
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from workers.sandbox import git_backend, github_content, github_forms
from workers.sandbox.github import Repository, SandboxGitHub

MAX_BODY_BYTES = 256 * 1024 * 1024
DOCUMENTATION = "https://docs.github.com/rest"


def routes(answers: Answers) -> list[Route]:
    """Return the REST API's routes for single objects, code search and events."""
    return [
        Route("/api/events", answers.events),
        Route("/api/rate_limit", answers.rate_limit),
        Route("/api/search/code", answers.search),
        Route("/api/repositories/{id:int}", answers.repository_by_id),
        Route("/api/repos/{owner}/{name}", answers.repository),
        Route("/api/repos/{owner}/{name}/compare/{ends}", answers.compare),
        Route("/api/repos/{owner}/{name}/commits/{sha}", answers.commit),
        Route("/api/repos/{owner}/{name}/git/blobs/{sha}", answers.blob),
        Route("/api/repositories/{id:int}/git/blobs/{sha}", answers.blob),
    ]


def _is_push(request: Request) -> bool:
    wanted = (request.path_params["rest"], request.query_params.get("service"))
    return "git-receive-pack" in wanted


def git_throttled(method: str) -> Response:
    """Return GitHub's response to git requests above its rate limit:
    https://github.com/orgs/community/discussions/206581
    """
    words = b"ERR GitHub is temporarily limiting some unauthenticated downloads to protect the stability of the"
    line = words + b" platform. Please retry later or authenticate.\n"
    kind = "advertisement" if method == "GET" else "result"
    headers = {"x-github-edge-message": "temporarily limited", "content-type": f"application/x-git-upload-pack-{kind}"}
    return Response(b"%04x" % (len(line) + 4) + line, headers=headers)


class RateWindow:
    """Counts the requests in the current interval of a rate limit. As on GitHub, an interval begins with a request."""

    def __init__(self, seconds: int) -> None:
        self._seconds, self._used = seconds, 0
        self.resets_at = 0

    def spend(self, requests: int) -> int:
        """Add `requests` to the counter, and return the number of requests in the current interval."""
        now = int(time.time())
        if now >= self.resets_at:
            self._used, self.resets_at = 0, now + self._seconds
        self._used += requests
        return self._used


class Answers:
    """The HTTP handlers of a simulated GitHub, one for each endpoint."""

    def __init__(self, github: SandboxGitHub) -> None:
        self.github = github
        self._windows = {
            "core": RateWindow(3600),
            "code_search": RateWindow(60),
            "search": RateWindow(60),
            "graphql": RateWindow(3600),
            "git": RateWindow(1),
        }

    async def events(self, request: Request) -> Response:
        refused = self.refused(request, "events")
        if refused is not None:
            return refused
        number = max(int(request.query_params.get("page", "1")), 1)
        size = min(max(int(request.query_params.get("per_page", "15")), 1), 100)
        body = json.dumps(self.github.timeline.page(number, size) if number * size <= 300 else []).encode()
        credential = request.headers.get("authorization", "")
        etag = f'W/"{hashlib.sha256(body + credential.encode()).hexdigest()}"'
        headers = {"ETag": etag, "Cache-Control": "public, max-age=60, s-maxage=60"}
        if self.github.poll_interval is not None:
            headers["X-Poll-Interval"] = str(self.github.poll_interval)
        if number * size < 300:
            following = f"{self.github.api_url}/events?per_page={size}&page={number + 1}"
            headers["Link"] = f'<{following}>; rel="next"'
        unchanged = request.headers.get("if-none-match") == etag
        headers |= self.limits("core", free=unchanged and bool(credential))
        if unchanged:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="application/json", headers=headers)

    async def rate_limit(self, request: Request) -> Response:
        limits = {
            "limit": self.github.rate_limit,
            "used": self.used("core"),
            "remaining": self._remaining(),
        }
        return self.refused(request, "rate_limit") or JSONResponse({"resources": {"core": limits}})

    async def repository(self, request: Request) -> Response:
        refused = self.refused(request, "repository")
        name = f"{request.path_params['owner']}/{request.path_params['name']}".lower()
        present = self.github.find(self.github.renamed.get(name, ""))
        if refused is None and present is not None:
            url = f"{self.github.api_url}/repositories/{present.id}"
            body = {"message": "Moved Permanently", "url": url, "documentation_url": DOCUMENTATION}
            return JSONResponse(body, status_code=301, headers={"Location": url})
        return refused or self._described(self.find(request))

    async def repository_by_id(self, request: Request) -> Response:
        refused = self.refused(request, "repository")
        wanted = request.path_params["id"]
        found = next((item for item in self.github.repositories.values() if item.id == wanted), None)
        return refused or self._described(found if found is not None and not found.hidden else None)

    async def compare(self, request: Request) -> Response:
        refused = self.refused(request, "compare")
        repository = self.find(request)
        before, dots, head = request.path_params["ends"].partition("...")
        if refused is not None or repository is None or not dots:
            return refused or self.error(404, "Not Found")
        address = self.address(repository)
        return self._content(await to_thread.run_sync(github_content.compare, repository.path, address, before, head))

    async def commit(self, request: Request) -> Response:
        refused = self.refused(request, "commit")
        repository = self.find(request)
        if refused is not None or repository is None:
            return refused or self.error(404, "Not Found")
        sha = request.path_params["sha"]
        address = self.address(repository)
        return self._content(await to_thread.run_sync(github_content.commit, repository.path, address, sha))

    async def blob(self, request: Request) -> Response:
        refused = self.refused(request, "blob")
        repository = self.find(request)
        if refused is not None or repository is None:
            return refused or self.error(404, "Not Found")
        sha, address = request.path_params["sha"], self.address(repository)
        found = await to_thread.run_sync(github_content.blob, repository.path, address, sha)
        if found is not None and "raw" in request.headers.get("accept", ""):
            raw = base64.b64decode(found["content"])
            return Response(raw, media_type="application/vnd.github.raw+json", headers=self.limits("core"))
        return self._content(found)

    async def search(self, request: Request) -> Response:
        refused = self.refused(request, "search")
        if refused is not None:
            return refused
        if "authorization" not in request.headers:
            return self.error(401, "Requires authentication")
        size = min(int(request.query_params.get("per_page", "30")), 100)
        number = int(request.query_params.get("page", "1"))
        names = self.github.repositories
        visible = [item for name, item in names.items() if not item.hidden and not name.startswith("gist/")]
        query = request.query_params.get("q", "")
        if "(" in query or not any(":" not in word for word in query.split()):
            return self.error(422, "Validation Failed")
        found = await to_thread.run_sync(github_content.search, visible, query, self.github)
        body = {
            "total_count": len(found),
            "incomplete_results": self.github.search_incomplete,
            "items": found[(number - 1) * size : number * size] if number * size <= 1000 else [],
        }
        return JSONResponse(body, headers=self.limits("code_search"))

    async def git(self, request: Request) -> Response:
        refused = self.refused(request, "git")
        if (
            refused is None
            and self.github.git_limit is not None
            and not _is_push(request)  # the limit applies only to reading
            and self._windows["git"].spend(1) > self.github.git_limit
        ):
            refused = git_throttled(request.method)
        if refused is not None:
            return refused
        name = f"{request.path_params['owner']}/{request.path_params['name'].removesuffix('.git')}"
        if name.lower() in self.github.renamed:
            target = f"{self.github.url}/{self.github.renamed[name.lower()]}.git/{request.path_params['rest']}"
            return RedirectResponse(f"{target}?{request.url.query}", status_code=301)
        repository = self.github.find(name)
        rest = request.path_params["rest"]
        if repository is None or rest not in ("info/refs", "git-upload-pack", "git-receive-pack"):
            return Response("Not Found", status_code=404, media_type="text/plain")
        body = await request.body()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        answer = await to_thread.run_sync(self._backend, request, repository, rest, body[:MAX_BODY_BYTES])
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
            self.github.pushed(repository, git_backend.changes(before, git_backend.refs(repository.path)))
        return answer

    def refused(self, request: Request, route: str, *, needs_credential: bool = True) -> Response | None:
        """Return the prepared error for this route, an error for a wrong credential, or None."""
        github = self.github
        with github.lock:
            github.requests[route] += 1
            answer = github.faults[route].popleft()() if github.faults[route] else None
        if answer is not None:
            return answer
        given = request.headers.get("authorization", "")
        checks = needs_credential and (github.credential is not None or github.installation_tokens)
        if given and checks and given not in self._accepted(route):
            return self.error(401, "Bad credentials")
        return None

    def _accepted(self, route: str) -> tuple[str, ...]:
        """Return the accepted values of the Authorization header for this route."""
        credentials = [str(self.github.credential), *self.github.installation_tokens]
        if route == "git":
            return tuple("Basic " + base64.b64encode(f"x-access-token:{one}".encode()).decode() for one in credentials)
        return tuple(f"{scheme} {one}" for one in credentials for scheme in ("Bearer", "token"))

    def find(self, request: Request) -> Repository | None:
        """Return the public repository that the request's path names, or None."""
        if "id" in request.path_params:
            found = (item for item in self.github.repositories.values() if item.id == request.path_params["id"])
            return next((item for item in found if not item.hidden), None)
        return self.github.find(f"{request.path_params['owner']}/{request.path_params['name']}")

    def _described(self, repository: Repository | None) -> Response:
        if repository is None:
            return self.error(404, "Not Found")
        return JSONResponse(self.description(repository), headers=self.limits("core"))

    def address(self, repository: Repository) -> str:
        """Return the repository's URL in the API."""
        return f"{self.github.api_url}/repos/{repository.name}"

    def description(self, repository: Repository) -> dict[str, Any]:
        """Return the repository as GitHub's JSON object."""
        github = self.github
        described = github_forms.repository(
            github.api_url, github.url, repository.id, repository.name, repository.description or None
        )
        return described | {"has_discussions": repository.has_discussions}

    def _content(self, body: dict[str, Any] | None) -> Response:
        return self.error(404, "Not Found") if body is None else JSONResponse(body, headers=self.limits("core"))

    def error(self, status: int, message: str) -> Response:
        """Return an error response in GitHub's JSON format."""
        body = {"message": message, "documentation_url": DOCUMENTATION, "status": str(status)}
        return JSONResponse(body, status_code=status, headers=self.limits("core"))

    def limits(self, resource: str, *, free: bool = False) -> dict[str, str]:
        """Count one request to a resource, unless `free` is set. Return the headers about its rate limit."""
        window = self._windows[resource]
        github = self.github
        limits = {
            "core": github.rate_limit,
            "code_search": github.search_limit,
            "search": github.repository_search_limit,
            "graphql": github.points_limit,
        }
        limit, used, reset = limits[resource], window.spend(not free), window.resets_at
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(max(limit - used, 0)),
            "X-RateLimit-Used": str(used),
            "X-RateLimit-Reset": str(reset),
            "X-RateLimit-Resource": resource,
        }

    def used(self, resource: str) -> int:
        """Return how much of the resource's rate limit is used, in requests, or in points for GraphQL."""
        return self._windows[resource].spend(0)

    def _remaining(self) -> int:
        return max(self.github.rate_limit - self.used("core"), 0)

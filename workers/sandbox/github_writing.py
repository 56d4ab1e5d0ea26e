"""HTTP endpoints of the simulated GitHub that write files and gists."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from workers.sandbox import git_backend
from workers.sandbox.github import Repository
from workers.sandbox.github_api import Answers


def routes(answers: Answers) -> list[Route]:
    """Return the routes that write a file or a gist."""
    writing = Writing(answers)
    return [
        Route("/api/repos/{owner}/{name}/contents/{file}", writing.file, methods=["GET", "PUT"]),
        Route("/api/gists/{id}", writing.gist, methods=["PATCH"]),
    ]


class Writing:
    """The HTTP handlers that write a file or a gist."""

    def __init__(self, answers: Answers) -> None:
        self._own, self._github = answers, answers.github

    async def file(self, request: Request) -> Response:
        """Respond with the id of a file's content (GET), or write the file (PUT):
        https://docs.github.com/rest/repos/contents
        """
        repository = self._own.find(request)
        refused = self._own.refused(request, "contents")
        if refused is not None or repository is None:
            return refused or self._own.error(404, "Not Found")
        name = request.path_params["file"]
        present = await to_thread.run_sync(_blob, repository, name)
        if request.method == "GET":
            return JSONResponse({"name": name, "sha": present}) if present else self._own.error(404, "Not Found")
        body = await request.json()
        if "authorization" not in request.headers:
            return self._own.error(404, "Not Found")
        if body.get("sha") != present:
            return self._own.error(409, f"{name} does not match {present}")
        content = base64.b64decode(body["content"])
        await to_thread.run_sync(self._commit, repository, name, content, body["message"])
        page = f"{self._github.url}/{repository.name}/blob/main/{name}"
        return JSONResponse({"content": {"html_url": page}}, status_code=200 if present else 201)

    def _commit(self, repository: Repository, name: str, content: bytes, message: str) -> None:
        with self._github.lock:
            before = git_backend.refs(repository.path)
            parent = before.get("refs/heads/main")
            git_backend.commit_files(repository.path, {name: content}, message, parent=parent)
            self._github.pushed(repository, git_backend.changes(before, git_backend.refs(repository.path)))

    async def gist(self, request: Request) -> Response:
        """Change a file of a gist: https://docs.github.com/rest/gists/gists#update-a-gist."""
        refused = self._own.refused(request, "gists")
        found = next((gist for gist in self._github.gists if gist.id == request.path_params["id"]), None)
        if refused is not None or found is None or "authorization" not in request.headers:
            return refused or self._own.error(404, "Not Found")
        body: dict[str, Any] = await request.json()
        found.files.update({name: one["content"].encode() for name, one in body["files"].items()})
        found.updated_at = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        return JSONResponse({"id": found.id, "html_url": f"{self._github.url}/gist/{found.id}"})


def _blob(repository: Repository, name: str) -> str | None:
    listed = git_backend.git("ls-tree", "HEAD", name, cwd=repository.path) if git_backend.refs(repository.path) else b""
    return listed.split()[2].decode() if listed else None

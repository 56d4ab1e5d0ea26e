"""HTTP endpoints of the simulated GitHub that list issues, comments, repositories, gists and other objects."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import jwt
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from workers.sandbox import github_forms
from workers.sandbox.github import Gist
from workers.sandbox.github_api import Answers

LISTINGS = ("issues", "issues/comments", "pulls", "pulls/comments", "comments", "releases")


def routes(answers: Answers) -> list[Route]:
    """Return the routes of the lists."""
    listings = Listings(answers)
    return [
        *(Route(f"/api/repos/{{owner}}/{{name}}/{what}", listings.of(what)) for what in LISTINGS),
        Route("/api/repos/{owner}/{name}/pulls/{number:int}/reviews", listings.reviews),
        Route("/api/repos/{owner}/{name}/activity", listings.activity),
        Route("/api/users/{owner}/repos", listings.repositories),
        Route("/api/users/{owner}/gists", listings.gists_of),
        Route("/api/gists/public", listings.public_gists),
        Route("/api/gists/{id}", listings.gist),
        Route("/api/gists/{id}/comments", listings.gist_comments),
        Route("/gist-raw/{owner}/{id}/raw/{sha}/{file:path}", listings.raw_gist),
        Route("/api/meta/public_keys/secret_scanning", listings.alert_keys),
        Route("/api/app/installations/{id:int}/access_tokens", listings.installation_token, methods=["POST"]),
    ]


class Listings:
    """The HTTP handlers for lists, gists, public keys, and access tokens of Apps."""

    def __init__(self, answers: Answers) -> None:
        self._own = answers
        self._github = answers.github

    def of(self, what: str) -> Any:
        """Return the handler for one of a repository's lists, such as "issues"."""

        async def listing(request: Request) -> Response:
            repository = self._own.find(request)
            refused = self._own.refused(request, what)
            if refused is not None or repository is None:
                return refused or self._own.error(404, "Not Found")
            return self._written(request, what, self._own.address(repository), repository.listings[what])

        return listing

    async def reviews(self, request: Request) -> Response:
        repository = self._own.find(request)
        refused = self._own.refused(request, "reviews")
        if refused is not None or repository is None:
            return refused or self._own.error(404, "Not Found")
        what = f"pulls/{request.path_params['number']}/reviews"
        return self._written(request, what, self._own.address(repository), repository.listings[what])

    async def activity(self, request: Request) -> Response:
        """Respond with one page of the repository's activity, newest first. The parameter `after` is the number of
        entries to skip.
        """
        repository = self._own.find(request)
        refused = self._own.refused(request, "activity")
        if refused is not None or repository is None:
            return refused or self._own.error(404, "Not Found")
        size = int(request.query_params.get("per_page", "30"))
        start = int(request.query_params.get("after", "0"))
        newest_first = repository.listings["activity"][::-1]
        headers = self._own.limits("core")
        if start + size < len(newest_first):
            url = f"{self._github.api_url}/repos/{repository.name}/activity?per_page={size}&after={start + size}"
            headers["Link"] = f'<{url}>; rel="next"'
        return JSONResponse(newest_first[start : start + size], headers=headers)

    async def repositories(self, request: Request) -> Response:
        owner = request.path_params["owner"].lower()
        refused = self._own.refused(request, "users")
        owned = [item for name, item in self._github.repositories.items() if name.startswith(f"{owner}/")]
        if refused is not None or not owned:
            return refused or self._own.error(404, "Not Found")
        return self._page(request, [self._own.description(item) for item in owned if not item.hidden])

    async def public_gists(self, request: Request) -> Response:
        refused = self._own.refused(request, "gists")
        since = request.query_params.get("since", "")
        return refused or self._page(
            request, [self._described(gist) for gist in self._github.gists if gist.updated_at >= since]
        )

    async def gists_of(self, request: Request) -> Response:
        owner = request.path_params["owner"]
        refused = self._own.refused(request, "gists")
        return refused or self._page(
            request, [self._described(gist) for gist in self._github.gists if gist.owner == owner]
        )

    async def gist(self, request: Request) -> Response:
        refused = self._own.refused(request, "gists")
        found = next((gist for gist in self._github.gists if gist.id == request.path_params["id"]), None)
        if refused is not None or found is None:
            return refused or self._own.error(404, "Not Found")
        return JSONResponse(self._described(found), headers=self._own.limits("core"))

    async def gist_comments(self, request: Request) -> Response:
        refused = self._own.refused(request, "gist_comments")
        found = next((gist for gist in self._github.gists if gist.id == request.path_params["id"]), None)
        if refused is not None or found is None:
            return refused or self._own.error(404, "Not Found")
        return self._written(request, "comments", f"{self._github.api_url}/gists/{found.id}", found.comments)

    async def raw_gist(self, request: Request) -> Response:
        refused = self._own.refused(request, "raw")
        gist = next((gist for gist in self._github.gists if gist.id == request.path_params["id"]), None)
        content = gist.files.get(request.path_params["file"]) if gist else None
        if refused is not None or content is None:
            return refused or Response("Not Found", status_code=404)
        return Response(content, media_type="text/plain")

    async def installation_token(self, request: Request) -> Response:
        """Respond with an access token for an App:
        https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app
        """
        signed = request.headers.get("authorization", "").removeprefix("Bearer ")
        refused = self._own.refused(request, "app", needs_credential=False)
        if refused is not None:
            return refused
        try:
            issuer = str(jwt.decode(signed, options={"verify_signature": False}).get("iss"))
            key = self._github.app_keys[issuer]
            jwt.decode(signed, key, algorithms=["RS256"], issuer=issuer, options={"require": ["exp", "iat", "iss"]})
        except (jwt.PyJWTError, KeyError):
            return self._own.error(401, "A JSON web token could not be decoded")
        token = "ghs_" + secrets.token_hex(18)
        self._github.installation_tokens.append(token)
        ends_at = datetime.now(UTC) + timedelta(hours=1)
        body = {"token": token, "expires_at": f"{ends_at:%Y-%m-%dT%H:%M:%SZ}", "permissions": {"metadata": "read"}}
        return JSONResponse(body, status_code=201)

    async def alert_keys(self, request: Request) -> Response:
        """Respond with the public keys for secret scanning alerts: https://docs.github.com/rest/meta"""
        refused = self._own.refused(request, "alert_keys")
        return refused or JSONResponse({"public_keys": [self._github.signer.public_key()]})

    def _written(self, request: Request, what: str, address: str, listed: Sequence[Any]) -> Response:
        """Respond with one page of a list of texts, such as comments."""
        # Entries that are not JSON objects are kept unchanged.
        forms = [
            github_forms.written(what, address, number, entry) if isinstance(entry, dict) else entry
            for number, entry in enumerate(listed, 1)
        ]
        return self._page(request, forms)

    def _page(self, request: Request, listed: Sequence[dict[str, Any]]) -> Response:
        size = min(max(int(request.query_params.get("per_page", "30")), 1), 100)
        number = max(int(request.query_params.get("page", "1")), 1)
        headers = self._own.limits("core")
        if number * size < len(listed):
            url = request.url.include_query_params(page=number + 1)
            following = f"{self._github.url}{url.path}?{url.query}"
            headers["Link"] = f'<{following}>; rel="next"'
        return JSONResponse(list(listed[(number - 1) * size : number * size]), headers=headers)

    def _described(self, gist: Gist) -> dict[str, Any]:
        base, address = self._github.url, f"{self._github.api_url}/gists/{gist.id}"
        files = {
            name: {
                "filename": name,
                "type": "text/plain",
                "language": "Text",
                "raw_url": f"{base}/gist-raw/{gist.owner}/{gist.id}/raw/{_blob_id(content)}/{quote(name)}",
                "size": len(content),
            }
            for name, content in gist.files.items()
        }
        return {
            "id": gist.id,
            "node_id": github_forms.node_id("gist", gist.id),
            "url": address,
            **{f"{name}_url": f"{address}/{name}" for name in ("forks", "commits", "comments")},
            "git_push_url": f"{base}/gist/{gist.id}.git",
            "html_url": f"{base}/gist/{gist.id}",
            "git_pull_url": f"{base}/gist/{gist.id}.git",
            "files": files,
            "public": True,
            "created_at": gist.updated_at,
            "updated_at": gist.updated_at,
            "description": gist.description or None,
            "comments": len(gist.comments),
            "user": None,
            "owner": github_forms.user(self._github.api_url, gist.owner),
            "truncated": False,
        }


def _blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()  # noqa: S324 - git uses SHA-1

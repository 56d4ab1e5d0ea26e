"""The one way to GitHub: a sync httpx client that asks known hosts only, and gives each only its own credential.

Answers become either a value or a `GitHubError` with a reason; deciding what to do about it is the caller's.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from scanner import __version__
from scanner.github.errors import (
    BadCredential,
    Forbidden,
    GitHubError,
    Malformed,
    NotFound,
    RateLimited,
    Unavailable,
)

API_VERSION = "2022-11-28"
LARGEST_JSON_BYTES = 32 * 1024 * 1024
LONGEST_REDIRECTS = 5
SECONDARY_LIMIT_SECONDS = 60.0
TIMEOUT = httpx.Timeout(20.0, connect=10.0)


@dataclass(frozen=True, slots=True)
class GitHub:
    """An open client and the addresses it goes to. `credential_label` names the credential without giving it away."""

    http: httpx.Client
    api_url: str
    web_url: str
    credential_label: str

    def close(self) -> None:
        self.http.close()


def connect(api_url: str, web_url: str, token: str | None, *, connections: int = 16) -> GitHub:
    """A client for this GitHub. It connects when it is first used."""
    allowed = {_host(api_url), _host(web_url)}
    http = httpx.Client(
        transport=_KnownHosts(httpx.HTTPTransport(limits=_limits(connections), retries=1), allowed),
        auth=_Credential(token, api_url, web_url) if token else None,
        headers={"User-Agent": f"r8scan/{__version__}"},
        timeout=TIMEOUT,
        follow_redirects=True,
        max_redirects=LONGEST_REDIRECTS,
        trust_env=False,
    )
    return GitHub(http, api_url, web_url, "R8SCAN_GITHUB_TOKEN" if token else "none")


def get_json(
    github: GitHub,
    url: str,
    *,
    params: Mapping[str, str | int] | None = None,
    etag: str | None = None,
    expected: type[list[Any]] | type[dict[str, Any]],
) -> tuple[httpx.Response, Any]:
    """GET an address of the REST API: the response and its decoded body, None for 304. Raises GitHubError."""
    headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": API_VERSION}
    if etag:
        headers["If-None-Match"] = etag
    try:
        with github.http.stream("GET", url, params=params, headers=headers) as response:
            body = _read(response)
    except httpx.HTTPError as err:
        raise Unavailable("connection", f"{_host(url)} cannot be reached ({type(err).__name__})") from err
    if response.status_code == 304:
        return response, None
    check_status(response, body, github.credential_label)
    try:
        value = httpx.Response(200, content=body).json()
    except ValueError as err:
        raise Malformed("not_json", f"{_host(url)} answered with something that is not JSON") from err
    if not isinstance(value, expected):
        raise Malformed("unexpected_json", f"{_host(url)} answered with JSON of another shape than expected")
    return response, value


def check_status(response: httpx.Response, body: bytes, credential_label: str) -> None:
    """Raise the GitHubError that an answer means.

    https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api: a limit is a 403 or a 429.
    """
    status, host = response.status_code, response.request.url.host
    if status < 300:
        return
    if status == 401:
        raise BadCredential("bad_credential", f"{host} rejects the credential {credential_label}: replace it")
    if status == 429 or (status == 403 and _is_limit(response, body)):
        raise RateLimited("rate_limited", f"{host} limits our requests", retry_after=_retry_after(response))
    if status == 403:
        raise Forbidden("forbidden", f"{host} forbids this request")
    if status in (404, 410, 451):
        raise NotFound("not_found" if status != 451 else "blocked", f"{host} answered {status}")
    if status >= 500:
        raise Unavailable(f"http_{status}", f"{host} answered {status}", retry_after=_header_seconds(response))
    raise GitHubError(f"http_{status}", f"{host} answered {status}")


def _is_limit(response: httpx.Response, body: bytes) -> bool:
    if "retry-after" in response.headers or response.headers.get("x-ratelimit-remaining") == "0":
        return True
    text = body[:4096].lower()
    return b"rate limit" in text or b"abuse" in text


def _retry_after(response: httpx.Response) -> float:
    """Seconds to wait: what GitHub says, else a minute."""
    seconds = _header_seconds(response)
    if seconds is not None:
        return seconds
    if response.headers.get("x-ratelimit-remaining") == "0":
        try:
            return max(float(response.headers["x-ratelimit-reset"]) - time.time(), 1.0)
        except (KeyError, ValueError):
            return SECONDARY_LIMIT_SECONDS
    return SECONDARY_LIMIT_SECONDS


def _header_seconds(response: httpx.Response) -> float | None:
    value = response.headers.get("retry-after", "")
    return max(float(value), 1.0) if value.isascii() and value.isdecimal() and len(value) < 9 else None


def _read(response: httpx.Response) -> bytes:
    chunks, size = [], 0
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > LARGEST_JSON_BYTES:
            raise Malformed(
                "too_large", f"{response.request.url.host} answered with more than {LARGEST_JSON_BYTES} bytes"
            )
        chunks.append(chunk)
    return b"".join(chunks)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _limits(connections: int) -> httpx.Limits:
    return httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=30)


class _KnownHosts(httpx.BaseTransport):
    """Refuses every other host, at each hop of a redirect as well."""

    def __init__(self, inner: httpx.BaseTransport, allowed: Collection[str]) -> None:
        self._inner = inner
        self._allowed = frozenset(allowed)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host not in self._allowed:
            raise httpx.UnsupportedProtocol(f"refused to fetch from an unknown host: {request.url.host}")
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


class _Credential(httpx.Auth):
    """Bearer for the REST API, Basic for git, nothing else. httpx drops it when a redirect leaves the host."""

    def __init__(self, token: str, api_url: str, web_url: str) -> None:
        self._api, self._web = f"{api_url}/", f"{web_url}/"
        self._bearer = f"Bearer {token}"
        self._basic = "Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        url = str(request.url)
        if url.startswith(self._api):
            request.headers["Authorization"] = self._bearer
        elif url.startswith(self._web):
            request.headers["Authorization"] = self._basic
        yield request

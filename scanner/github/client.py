"""The one way to GitHub: a sync httpx client that asks known hosts only, and gives each only its own credential.

Answers become either a value or a `GitHubError` with a reason; deciding what to do about it is the caller's.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
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
LONGEST_WAIT_SECONDS = 3600.0
"""No limit of GitHub's lasts longer; whatever asks for more is an error of its or of a clock."""
EXCHANGE_SECONDS = 60.0
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
    allowed = {_origin(httpx.URL(api_url)), _origin(httpx.URL(web_url))}
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
    clock: Callable[[], float] = time.monotonic,
) -> tuple[httpx.Response, Any]:
    """GET an address of the REST API: the response and its decoded body, None for 304. Raises GitHubError.

    `clock` (seconds) measures the deadline for the whole answer.
    """
    deadline = clock() + EXCHANGE_SECONDS
    headers = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": API_VERSION}
    if etag:
        headers["If-None-Match"] = etag
    try:
        with github.http.stream("GET", url, params=params, headers=headers) as response:
            body = _read(response, lambda: clock() > deadline)
    except httpx.HTTPError as err:
        raise Unavailable("connection", f"{_host(url)} cannot be reached ({type(err).__name__})") from err
    if response.status_code == 304:
        return response, None
    check_status(response, body, github.credential_label)
    try:
        value = httpx.Response(200, content=body).json()
    except (ValueError, RecursionError) as err:
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
    reset = response.headers.get("x-ratelimit-reset", "")
    if response.headers.get("x-ratelimit-remaining") == "0" and _is_number(reset):
        return _bounded(int(reset) - _server_time(response))
    return SECONDARY_LIMIT_SECONDS


def _header_seconds(response: httpx.Response) -> float | None:
    """What Retry-After says, in either of its forms; None when it says nothing that can be read."""
    value = response.headers.get("retry-after", "")
    if _is_number(value):
        return _bounded(int(value))
    at = _date(value)
    return None if at is None else _bounded(at - _server_time(response))


def _server_time(response: httpx.Response) -> float:
    """Seconds since the epoch by the clock that set the limit; ours may be wrong."""
    at = _date(response.headers.get("date", ""))
    return time.time() if at is None else at


def _date(value: str) -> float | None:
    try:
        at = parsedate_to_datetime(value)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def _is_number(value: str) -> bool:
    return value.isascii() and value.isdecimal() and len(value) < 16


def _bounded(seconds: float) -> float:
    return min(max(float(seconds), 1.0), LONGEST_WAIT_SECONDS)


def _read(response: httpx.Response, is_late: Callable[[], bool]) -> bytes:
    chunks, size = [], 0
    host = response.request.url.host
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > LARGEST_JSON_BYTES:
            raise Malformed("too_large", f"{host} answered with more than {LARGEST_JSON_BYTES} bytes")
        if is_late():
            raise Unavailable("too_slow", f"{host} took longer than {EXCHANGE_SECONDS:.0f} s to answer")
        chunks.append(chunk)
    return b"".join(chunks)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    """What a credential belongs to; the port is None when it is the scheme's own."""
    return url.scheme, url.host, url.port


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _limits(connections: int) -> httpx.Limits:
    return httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=30)


class _KnownHosts(httpx.BaseTransport):
    """Refuses every other host, port and scheme, at each hop of a redirect as well."""

    def __init__(self, inner: httpx.BaseTransport, allowed: Collection[tuple[str, str, int | None]]) -> None:
        self._inner = inner
        self._allowed = frozenset(allowed)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if _origin(request.url) not in self._allowed:
            raise httpx.UnsupportedProtocol(f"refused to fetch from an unknown host: {request.url.host}")
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


class _Credential(httpx.Auth):
    """Bearer for the REST API, Basic for git, nothing else. httpx drops it when a redirect leaves the host."""

    def __init__(self, token: str, api_url: str, web_url: str) -> None:
        # As httpx writes them: hosts in lower case, no port that goes without saying.
        self._api, self._web = str(httpx.URL(f"{api_url}/")), str(httpx.URL(f"{web_url}/"))
        self._bearer = f"Bearer {token}"
        self._basic = "Basic " + base64.b64encode(f"x-access-token:{token}".encode()).decode()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        url = str(request.url)
        if url.startswith(self._api):
            request.headers["Authorization"] = self._bearer
        elif url.startswith(self._web):
            request.headers["Authorization"] = self._basic
        yield request

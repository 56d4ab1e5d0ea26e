"""The HTTP client for GitHub. It sends requests only to known hosts, and credentials only to GitHub's hosts."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx

from scanner import __version__, tls
from scanner.github.circuits import CANNOT_BE_REACHED
from scanner.github.credentials import AppInstallation, Credential, NoCredential, PersonalToken
from scanner.github.errors import (
    BadCredential,
    Forbidden,
    GitHubError,
    Malformed,
    NotFound,
    RateLimited,
    Unavailable,
)
from scanner.github.gate import Ledger, RequestGate
from scanner.github.hostile_json import parse_json
from scanner.github.rate_limit import is_limit, retry_after, seconds_to_wait
from scanner.github.request_rate import RateBounds
from scanner.github.transport import Authorization, GatedTransport, KnownHosts, beginning, origin_of
from scanner.retries import tries

API_VERSION = "2022-11-28"
ACCEPT = "application/vnd.github+json"
MAX_JSON_BYTES = 32 * 1024 * 1024
MAX_REDIRECTS = 5
EXCHANGE_SECONDS = 60.0
"""The whole answer to a request must arrive within this time."""
TRIES, TRY_SECONDS = 3, 10.0
"""A GET request is attempted at most TRIES times. No attempt begins later than TRY_SECONDS after the first."""
SLOWEST_PACE = 5.0
"""If the quota allows only one request in more than this many seconds, failed requests are not retried."""
PASSING = ("connection", "cut_off", "http_502", "http_503", "http_504")
TIMEOUT = httpx.Timeout(20.0, connect=10.0)

T = TypeVar("T")

_BLOCKED = re.compile(rb"access blocked|dmca|repository (?:is|was|has been) (?:blocked|disabled)")


@dataclass(frozen=True, slots=True)
class GitHub:
    """A client for GitHub's API and website.

    Attributes:
        reserve: The share (0 to 1) of each quota that this client leaves to other work.
    """

    http: httpx.Client
    api_url: str
    web_url: str
    credential: Credential = field(default_factory=NoCredential)
    gate: RequestGate = field(default_factory=RequestGate)
    reserve: float = 0.0

    @property
    def credential_label(self) -> str:
        """The name of the credential for logs, without the secret."""
        return self.credential.label

    def reserving(self, share: float) -> GitHub:
        """Return a copy of this client that does not use the last `share` (0 to 1) of each quota."""
        return replace(self, reserve=share)

    def close(self) -> None:
        self.http.close()


@dataclass(frozen=True, slots=True)
class App:
    """The identity of a GitHub App's installation. `private_key` is in PEM form."""

    app_id: str
    installation_id: int
    private_key: str = field(repr=False)


def connect(
    api_url: str,
    web_url: str,
    credential: str | App | None,
    *,
    hosts: Sequence[str] = (),
    ledger: Ledger | None = None,
    connections: int = 16,
    git_rate: RateBounds | None = None,
    label: str = "",
) -> GitHub:
    """Return a client for GitHub at these addresses.

    Args:
        api_url: The address of the REST API, without a final slash.
        web_url: The address of the website and of the git server, without a final slash.
        credential: A personal token, an App, or None.
        hosts: Further origins (https://host) from which the client may fetch, without credentials.
        ledger: Storage of quotas and failing hosts that all workers share.
        git_rate: The initial and the highest rate of git requests. None: no limit.
        label: The setting of the personal token. "": R8SCAN_GITHUB_TOKEN.
    """
    allowed = {origin_of(httpx.URL(url)) for url in (api_url, web_url, *hosts)}
    authorization = Authorization(api_url, web_url)
    transport = KnownHosts(httpx.HTTPTransport(verify=tls.trusted(), limits=_limits(connections), retries=1), allowed)
    gated = GatedTransport(transport, api_url, web_url)
    http = httpx.Client(
        transport=gated,
        auth=authorization,
        # Accept only gzip, because transport.py cannot check other encodings for missing data at the end.
        headers={"User-Agent": f"r8scan/{__version__}", "Accept-Encoding": "gzip"},
        timeout=TIMEOUT,
        follow_redirects=True,
        max_redirects=MAX_REDIRECTS,
        trust_env=False,
    )
    identity: Credential = NoCredential()

    def exchanged(signed: str, installation: int) -> tuple[str, datetime]:
        try:
            return _exchange(http, api_url, signed, installation)
        except BadCredential as err:
            if err.asked:
                gated.gate.reject()
            raise

    if isinstance(credential, App):
        identity = AppInstallation(credential.app_id, credential.installation_id, credential.private_key, exchanged)
    elif credential:
        identity = PersonalToken(credential, label) if label else PersonalToken(credential)
    gated.gate = authorization.gate = RequestGate(identity.label, ledger, git_rate=git_rate)
    authorization.credential = identity
    return GitHub(http, api_url, web_url, identity, gated.gate)


def get_json(
    github: GitHub,
    url: str,
    *,
    params: Mapping[str, str | int] | None = None,
    etag: str | None = None,
    accept: str = ACCEPT,
    expected: type[list[Any]] | type[dict[str, Any]],
    clock: Callable[[], float] = time.monotonic,
    attempts: int = TRIES,
) -> tuple[httpx.Response, Any]:
    """Request an address of the REST API. Retry after temporary failures.

    Args:
        etag: The ETag of an earlier response. GitHub answers with status 304 if nothing has changed since then.
        expected: The type that the JSON value must have.

    Returns:
        The response and its JSON value. The value is None for status 304.

    Raises:
        GitHubError: GitHub gave no usable answer; see `scanner.github.errors`.
    """
    headers = {"Accept": accept, "X-GitHub-Api-Version": API_VERSION}
    if etag:
        headers["If-None-Match"] = etag

    def once(number: int) -> tuple[httpx.Response, bytes]:
        with _exchanged(github, url, params, headers, number) as response:
            body = read_body(response, MAX_JSON_BYTES, clock)
        if response.status_code != 304:
            check_status(response, body, github.credential_label)
        return response, body

    response, body = _tried(github, once, attempts)
    if response.status_code == 304:
        if not etag:
            raise Malformed("not_modified", f"{_host(url)} answered 304 to a request without an ETag")
        return response, None
    return response, decoded(body, _host(url), expected)


def get_bytes(
    github: GitHub,
    url: str,
    *,
    limit: int,
    accept: str = "*/*",
    clock: Callable[[], float] = time.monotonic,
) -> bytes:
    """Download a file of at most `limit` bytes. Retry after temporary failures.

    Raises:
        Malformed: The file is larger than `limit` bytes ("too_large").
        GitHubError: GitHub gave no usable answer; see `scanner.github.errors`.
    """

    headers = {"Accept": accept, "X-GitHub-Api-Version": API_VERSION}

    def once(number: int) -> bytes:
        with _exchanged(github, url, None, headers, number) as response:
            if response.status_code >= 300:
                check_status(response, beginning(response), github.credential_label)
            return read_body(response, limit, clock)

    return _tried(github, once)


def decoded(body: bytes, host: str, expected: type[list[Any]] | type[dict[str, Any]]) -> Any:
    """Return the JSON value of a response's body.

    Raises:
        Malformed: The body is not JSON, or its value is not of the `expected` type.
    """
    try:
        value = parse_json(body)
    except ValueError as err:
        raise Malformed("not_json", f"{host} answered with something that is not JSON") from err
    if not isinstance(value, expected):
        raise Malformed("unexpected_json", f"{host} answered with JSON of another shape than expected")
    return value


def next_page(github: GitHub, response: httpx.Response) -> str | None:
    """Return the address of the next page from the Link header, or None if the header has no address on the API's
    host.
    """
    url = response.links.get("next", {}).get("url", "")
    return url if url.startswith(f"{github.api_url}/") and len(url) <= 4096 else None


def check_status(response: httpx.Response, body: bytes, credential_label: str) -> None:
    """Raise a GitHubError if the response's status means a failure.

    A rate limit has status 403 or 429: https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
    """
    status, host = response.status_code, response.request.url.host
    if status < 300:
        return
    if status == 401:
        raise BadCredential("bad_credential", f"{host} rejects the credential {credential_label}: replace it")
    if status == 429 or (status == 403 and is_limit(response, body)):
        raise RateLimited("rate_limited", f"{host} limits our requests", retry_after=seconds_to_wait(response))
    if status == 451 or (status == 403 and is_blocked(body)):
        raise NotFound("blocked", f"{host} has blocked access to this")
    if status == 403:
        raise Forbidden("forbidden", f"{host} forbids this request")
    if status in (404, 410):
        raise NotFound("not_found", f"{host} answered {status}")
    if status == 409:
        # GitHub answers 409 for a repository without commits: https://docs.github.com/rest/commits/commits
        raise NotFound("empty", f"{host} has no commits there yet")
    if status >= 500 or status == 408:
        raise Unavailable(f"http_{status}", f"{host} answered {status}", retry_after=retry_after(response))
    raise GitHubError(f"http_{status}", f"{host} answered {status}", is_final=status >= 400)


def is_blocked(words: bytes) -> bool:
    """Return whether GitHub's error message says that the repository is blocked or disabled."""
    return _BLOCKED.search(words[:4096].lower()) is not None


def _tried(github: GitHub, once: Callable[[int], T], attempts: int = TRIES) -> T:
    """Call `once` with the number of the attempt, from 1. Retry after temporary failures."""
    failed: list[Exception] = []

    def is_passing(err: Exception) -> bool:
        is_of_a_moment = isinstance(err, Unavailable) and err.asked and err.reason in PASSING and not err.retry_after
        if is_of_a_moment:
            failed.append(err)
        return is_of_a_moment and github.gate.seconds_a_request("core") <= SLOWEST_PACE

    try:
        for attempt in tries(is_passing, attempts=attempts, timeout=TRY_SECONDS):
            with attempt:
                return once(attempt.num)
    except GitHubError as err:
        if failed and not err.asked:
            # The gate refused the retry, so raise the error of the earlier attempt.
            raise failed[0] from None
        raise
    raise AssertionError("unreachable")  # the last attempt raises


@contextmanager
def _exchanged(
    github: GitHub, url: str, params: Mapping[str, str | int] | None, headers: Mapping[str, str], number: int
) -> Iterator[httpx.Response]:
    """Send a request and yield the response. `number` is the number of the attempt, from 1."""
    extensions = {"reserve": github.reserve, "is_retry": number > 1}
    try:
        with github.http.stream("GET", url, params=params, headers=headers, extensions=extensions) as response:
            yield response
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as err:
        raise Malformed("unusable_address", "an address cannot be fetched", is_final=True) from err
    except httpx.TooManyRedirects as err:
        raise Unavailable("too_many_redirects", f"{_host(url)} redirects in circles") from err
    except httpx.HTTPError as err:
        raise Unavailable("connection", f"{_host(url)} {CANNOT_BE_REACHED} ({type(err).__name__})") from err


def _exchange(http: httpx.Client, api_url: str, signed: str, installation: int) -> tuple[str, datetime]:
    """Exchange a signed JWT for an installation token. Return the token and its expiry date.

    https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app
    """
    headers = {"Accept": ACCEPT, "X-GitHub-Api-Version": API_VERSION, "Authorization": f"Bearer {signed}"}
    url = f"{api_url}/app/installations/{installation}/access_tokens"
    try:
        # Keep this request's Authorization header: with `auth=None`, httpx would replace it.
        with http.stream("POST", url, headers=headers, auth=_as_it_is, follow_redirects=False) as response:
            content = read_body(response, MAX_JSON_BYTES)
    except httpx.HTTPError as err:
        raise Unavailable("connection", f"{_host(url)} {CANNOT_BE_REACHED} ({type(err).__name__})") from err
    if response.status_code in (401, 403, 404):
        message = "GitHub rejects the App: check R8SCAN_GITHUB_APP_ID, _INSTALLATION_ID and _PRIVATE_KEY"
        raise BadCredential("bad_app_credential", message)
    check_status(response, content[:4096], "R8SCAN_GITHUB_APP_ID")
    value = decoded(content, _host(url), dict)
    token, ends_at = value.get("token"), value.get("expires_at")
    try:
        at = datetime.fromisoformat(ends_at)
    except (TypeError, ValueError) as err:
        raise Malformed("unexpected_json", "the App's token has no expiry date") from err
    if not isinstance(token, str) or not token:
        raise Malformed("unexpected_json", "GitHub gave the App no token")
    return token, at if at.tzinfo else at.replace(tzinfo=UTC)


def _as_it_is(request: httpx.Request) -> httpx.Request:
    return request


def read_body(response: httpx.Response, limit: int, clock: Callable[[], float] = time.monotonic) -> bytes:
    """Return the whole body of a response.

    Raises:
        Malformed: The body is longer than `limit` bytes.
        Unavailable: The whole body did not arrive within EXCHANGE_SECONDS.
    """
    deadline = clock() + EXCHANGE_SECONDS
    chunks, size = [], 0
    host = response.request.url.host
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > limit:
            raise Malformed("too_large", f"{host} answered with more than {limit} bytes")
        if clock() > deadline:
            raise Unavailable("too_slow", f"{host} took longer than {EXCHANGE_SECONDS:.0f} s to answer")
        chunks.append(chunk)
    return b"".join(chunks)


def _host(url: str) -> str:
    return urlsplit(url).hostname or ""


def _limits(connections: int) -> httpx.Limits:
    return httpx.Limits(max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=30)

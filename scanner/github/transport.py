"""What stands between our client and the network: the allow-list of hosts, the credential's way, and the gate."""

from __future__ import annotations

import base64
from collections.abc import Collection, Generator

import httpx

from scanner.github.credentials import Credential, NoCredential
from scanner.github.errors import Malformed
from scanner.github.gate import Gate

Origin = tuple[str, str, int | None]
REFUSAL_BYTES = 4096


def origin_of(url: httpx.URL) -> Origin:
    """What a credential belongs to; the port is None when it is the scheme's own."""
    return url.scheme, url.host, url.port


class KnownHosts(httpx.BaseTransport):
    """Refuses every other host, port and scheme (Malformed), at each hop of a redirect as well."""

    def __init__(self, inner: httpx.BaseTransport, allowed: Collection[Origin]) -> None:
        self._inner = inner
        self._allowed = frozenset(allowed)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if origin_of(request.url) not in self._allowed:
            raise Malformed("unknown_host", "an address leads to an unknown host: see R8SCAN_GITHUB_HOSTS")
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


class Gated(httpx.BaseTransport):
    """Asks the gate before each request and tells it of each answer."""

    def __init__(self, inner: httpx.BaseTransport, api_url: str, web_url: str) -> None:
        self._inner = inner
        self._api, self._web = httpx.URL(api_url), httpx.URL(web_url)
        self.gate = Gate()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        resource = self._resource_of(request.url)
        host = request.url.netloc.decode()
        self.gate.admit(host, resource, float(request.extensions.get("reserve", 0.0)))
        try:
            response = self._inner.handle_request(request)
        except httpx.HTTPError:
            self.gate.note_failure(host)
            raise
        if response.status_code == 403:
            response = _with_words(response, request)
        self.gate.note(host, resource, response, response.content if response.status_code == 403 else b"")
        return response

    def close(self) -> None:
        self._inner.close()

    def _resource_of(self, url: httpx.URL) -> str:
        """The budget that a request is taken from, as `x-ratelimit-resource` names it; `git` and `files` are ours."""
        if origin_of(url) == origin_of(self._api) and url.path.startswith(self._api.path.rstrip("/") + "/"):
            path = url.path[len(self._api.path.rstrip("/")) :]
            if path.startswith("/search/"):
                return "code_search" if path == "/search/code" else "search"
            return "core"
        return "git" if origin_of(url) == origin_of(self._web) else "files"


def _with_words(response: httpx.Response, request: httpx.Request) -> httpx.Response:
    """A refusal with the beginning of its body read: only its words tell a limit from "forbidden"."""
    start = bytearray()
    try:
        for chunk in response.iter_bytes(REFUSAL_BYTES):
            start += chunk
            if len(start) >= REFUSAL_BYTES:
                break
    except httpx.HTTPError:
        start.clear()  # cut off: its headers have to do
    response.close()
    headers = {key: value for key, value in response.headers.items() if key not in _OF_THE_BODY}
    return httpx.Response(response.status_code, headers=headers, content=bytes(start), request=request)


_OF_THE_BODY = ("content-encoding", "content-length", "transfer-encoding")


class Authorization(httpx.Auth):
    """Bearer for the REST API, Basic for git, nothing else. httpx drops it when a redirect leaves the host."""

    requires_response_body = False

    def __init__(self, api_url: str, web_url: str) -> None:
        # As httpx writes them: hosts in lower case, no port that goes without saying.
        self._api, self._web = str(httpx.URL(f"{api_url}/")), str(httpx.URL(f"{web_url}/"))
        self.credential: Credential = NoCredential()
        self.gate = Gate()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not self._apply(request):
            yield request
            return
        response = yield request
        # An App's token may end early; a new one is tried once.
        if response.status_code == 401 and self.credential.renew():
            self.gate.forgive()
            self._apply(request)
            yield request

    def _apply(self, request: httpx.Request) -> bool:
        url = str(request.url)
        token = self.credential.token() if url.startswith((self._api, self._web)) else None
        if token is None:
            return False
        if url.startswith(self._api):
            request.headers["Authorization"] = f"Bearer {token}"
        else:
            basic = base64.b64encode(f"x-access-token:{token}".encode()).decode()
            request.headers["Authorization"] = f"Basic {basic}"
        return True

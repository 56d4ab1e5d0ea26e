"""The layers between the HTTP client and the network: allowed hosts, quotas, authorization, decompression."""

from __future__ import annotations

import base64
import time
import zlib
from collections.abc import Callable, Collection, Generator, Iterator

import httpx

from scanner.github.credentials import Credential, NoCredential
from scanner.github.errors import Malformed, Unavailable
from scanner.github.gate import RequestGate

Origin = tuple[str, str, int | None]
REFUSAL_BYTES, REFUSAL_SECONDS = 4096, 10.0
"""At most this much of an error response's body is read, for at most this long."""
SILENT_SECONDS = 60.0
"""A compressed body may yield no content for this long."""
_SLICE = 1 << 16


def origin_of(url: httpx.URL) -> Origin:
    """Return the scheme, host and port of a URL. The port is None if it is the scheme's default."""
    return url.scheme, url.host, url.port


class KnownHosts(httpx.BaseTransport):
    """Allows only requests to listed origins (scheme, host and port). Requests to other origins raise Malformed."""

    def __init__(self, inner: httpx.BaseTransport, allowed: Collection[Origin]) -> None:
        self._inner = inner
        self._allowed = frozenset(allowed)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if origin_of(request.url) not in self._allowed:
            message = "an address leads to an unknown host: see R8SCAN_GITHUB_HOSTS"
            raise Malformed("unknown_host", message, is_final=True)
        return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


class GatedTransport(httpx.BaseTransport):
    """Refuses a request if a quota is exhausted or the host is failing, and records each response."""

    def __init__(self, inner: httpx.BaseTransport, api_url: str, web_url: str) -> None:
        self._inner = inner
        self._api, self._web = httpx.URL(api_url), httpx.URL(web_url)
        self.gate = RequestGate()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        resource = self._resource_of(request.url)
        host = request.url.netloc.decode()
        is_retry = bool(request.extensions.get("is_retry"))
        self.gate.admit(host, resource, float(request.extensions.get("reserve", 0.0)))
        try:
            response = self._inner.handle_request(request)
        except httpx.HTTPError:
            if not is_retry:
                self.gate.note_failure(host)
            raise
        if response.has_redirect_location:
            # Drop the body of a redirect, because httpx would read all of it and it may be endless.
            response = _with_content(response, request, b"")
        is_read = response.is_stream_consumed
        if not is_read:
            self._follow(response, host, is_retry)
        if response.status_code == 403:
            response, is_read = _with_words(response, request), True
        words = response.content if response.status_code == 403 else b""
        self.gate.note(host, resource, response, words, is_whole=is_read, is_retry=is_retry)
        return response

    def _follow(self, response: httpx.Response, host: str, is_retry: bool) -> None:
        """Decompress the response's body as it is read, and record whether it was complete."""
        chunks: Iterator[bytes] = iter(response.stream)  # type: ignore[arg-type]  # a sync transport's stream is sync
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        if encoding in ("gzip", "x-gzip"):
            chunks = inflated(chunks, host)
        elif encoding not in ("identity", ""):
            chunks = map(_refused, (host,))  # raises an error when the body is read
        for name in _OF_THE_BODY if encoding != "identity" else ():
            response.headers.pop(name, None)
        failed = response.status_code >= 500  # `gate.note` counts these failures
        is_counted = failed or is_retry
        response.stream = _Body(
            chunks,
            response.stream.close,  # type: ignore[union-attr]  # as above
            on_end=(lambda: None) if failed else (lambda: self.gate.note_success(host)),
            on_failure=(lambda: None) if is_counted else (lambda: self.gate.note_failure(host)),
        )

    def close(self) -> None:
        self._inner.close()

    def _resource_of(self, url: httpx.URL) -> str:
        """Return the name of the quota that a request to `url` counts against, for example "core" for the REST API."""
        if origin_of(url) == origin_of(self._api) and url.path.startswith(self._api.path.rstrip("/") + "/"):
            path = url.path[len(self._api.path.rstrip("/")) :]
            if path.startswith("/search/"):
                return "code_search" if path == "/search/code" else "search"
            if path == "/graphql":
                return "graphql"
            return "core"
        return "git" if origin_of(url) == origin_of(self._web) else "files"


class _Body(httpx.SyncByteStream):
    """A response body that calls a function once, when the body ends or fails."""

    def __init__(
        self,
        chunks: Iterator[bytes],
        close: Callable[[], None],
        *,
        on_end: Callable[[], None],
        on_failure: Callable[[], None],
    ) -> None:
        self._chunks = chunks
        self._close = close
        self._on_end = on_end
        self._on_failure = on_failure
        self._is_told = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._chunks
        except (httpx.HTTPError, Unavailable):
            self._tell(self._on_failure)
            raise
        self._tell(self._on_end)

    def close(self) -> None:
        self._tell(self._on_end)
        self._close()

    def _tell(self, told: Callable[[], None]) -> None:
        if not self._is_told:
            self._is_told = True
            told()


def inflated(chunks: Iterator[bytes], host: str, clock: Callable[[], float] = time.monotonic) -> Iterator[bytes]:
    """Yield the decompressed content of a gzip stream.

    Args:
        host: The host that sent the content, for error messages.

    Raises:
        Unavailable: The stream is damaged, breaks off, or yields no content for SILENT_SECONDS.
    """
    inflater = zlib.decompressobj(31)
    is_empty = True
    silent_since = clock()
    for chunk in chunks:
        if clock() - silent_since > SILENT_SECONDS:
            raise Unavailable("too_slow", f"{host} took longer than {SILENT_SECONDS:.0f} s for any of its answer")
        data = chunk
        while data:
            is_empty = False
            if inflater.eof:
                if not data.startswith(b"\x1f"):
                    return  # the rest is padding after the last gzip stream
                inflater = zlib.decompressobj(31)
            try:
                part = inflater.decompress(data, _SLICE)
            except zlib.error as err:
                raise Unavailable("damaged", f"{host} sent something that cannot be inflated") from err
            if part:
                yield part
                silent_since = clock()
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
    if not inflater.eof and not is_empty:
        raise Unavailable("cut_off", f"{host} ended in the middle of its answer")


def _refused(host: str) -> bytes:
    """Raise Unavailable, because the server's compression is not supported."""
    raise Unavailable("damaged", f"{host} sent an encoding that was not asked for")


def beginning(response: httpx.Response, clock: Callable[[], float] = time.monotonic) -> bytes:
    """Return the first REFUSAL_BYTES of an error response's body, or less if it takes longer than REFUSAL_SECONDS."""
    deadline = clock() + REFUSAL_SECONDS
    start = bytearray()
    for chunk in response.iter_bytes():
        start += chunk
        if len(start) >= REFUSAL_BYTES or clock() > deadline:
            break
    return bytes(start[:REFUSAL_BYTES])


def _with_words(response: httpx.Response, request: httpx.Request) -> httpx.Response:
    """Return an error response with the beginning of its body."""
    try:
        start = beginning(response)
    except (httpx.HTTPError, Unavailable):
        start = b""  # the body was cut off, so callers can only use the headers
    return _with_content(response, request, start)


def _with_content(response: httpx.Response, request: httpx.Request, content: bytes) -> httpx.Response:
    """Return the response with this content as its body."""
    response.close()
    headers = {key: value for key, value in response.headers.items() if key not in _OF_THE_BODY}
    return httpx.Response(response.status_code, headers=headers, content=content, request=request)


_OF_THE_BODY = ("content-encoding", "content-length", "transfer-encoding")


class Authorization(httpx.Auth):
    """Adds an Authorization header to requests: Bearer for the API, Basic for git, none for others."""

    requires_response_body = False

    def __init__(self, api_url: str, web_url: str) -> None:
        # Normalize the URLs (lower-case host, no default port) to compare them with the URLs of requests.
        self._api, self._web = str(httpx.URL(f"{api_url}/")), str(httpx.URL(f"{web_url}/"))
        self.credential: Credential = NoCredential()
        self.gate = RequestGate()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not self._apply(request):
            yield request
            return
        response = yield request
        # The token of a GitHub App may expire early. Get a new token and try once more.
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

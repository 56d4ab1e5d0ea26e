"""A minimal token store with an HTTP API, in memory: the reference for docs/token-store-openapi.yaml."""

from __future__ import annotations

import hmac
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from workers.sandbox.http_server import Tls, served

MAX_DIGESTS = 200
MAX_BODY_BYTES = 64 * 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass
class ReferenceStore:
    """A token store in memory.

    Attributes:
        tokens: The tokens in the JSON format of the API, by digest.
        calls: The operations that clients have requested, in order.
    """

    secret: str
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    url: str = ""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._is_unsure = False

    def accepts(self, authorization: str) -> bool:
        """Return whether the Authorization header contains the store's secret."""
        return hmac.compare_digest(authorization.encode(), f"Bearer {self.secret}".encode())

    def add(self, digest: str, *, name: str = "training", recipients: tuple[str, ...] = ("ana@example.com",)) -> None:
        """Add a live token to the store."""
        number = str(len(self.tokens) + 1)
        self.tokens[digest] = {
            "id": number,
            "digest": digest,
            "name": name,
            "hint": "",
            "account": {"id": recipients[0] if recipients else number, "name": "Ana", "recipients": list(recipients)},
            "created_at": "2026-01-01T00:00:00Z",
            "last_used_at": None,
            "disabled_at": None,
            "disabled_reason": None,
            "protected": False,
        }

    @contextmanager
    def unsure(self) -> Iterator[None]:
        """Answer `not_checked` for every token until the `with` block ends."""
        self._is_unsure = True
        try:
            yield
        finally:
            self._is_unsure = False

    def look_up(self, digests: list[str]) -> dict[str, Any]:
        """Return the answer to a look-up: the known tokens, and the digests that were not checked."""
        with self._lock:
            self.calls.append("lookup")
            if self._is_unsure:
                return {"tokens": [], "not_checked": digests}
            return {"tokens": [self.tokens[digest] for digest in digests if digest in self.tokens], "not_checked": []}

    def add_canary(self, digest: str, hint: str) -> dict[str, Any]:
        """Add a token without an owner, unless the store has it. Return the JSON answer."""
        with self._lock:
            self.calls.append("canary")
            if digest not in self.tokens:
                self.add(digest, name="canary", recipients=())
                self.tokens[digest] |= {"account": None, "hint": hint}
            return {}

    def disable(self, digest: str, key: str, reason: str) -> dict[str, Any]:
        """Disable a token and return the JSON answer. A repeated idempotency key gives the same answer again."""
        with self._lock:
            self.calls.append("disable")
            token = self.tokens.get(digest)
            if token is None:
                return {"result": "unknown", "disabled_at": None, "idempotency_key": None}
            if token["disabled_at"] is None:
                token["disabled_at"] = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
                token["disabled_reason"] = reason
                self.keys[digest] = key
            winner = self.keys.get(digest)
            result = "disabled" if winner == key else "already_disabled"
            return {"result": result, "disabled_at": token["disabled_at"], "idempotency_key": winner}


def application(store: ReferenceStore) -> Starlette:
    """Return the ASGI application of the API: look-up, disable and canary."""

    async def body_of(request: Request) -> dict[str, Any] | Response:
        if not store.accepts(request.headers.get("authorization", "")):
            return _error(401, "the secret is missing or wrong")
        body = await request.body()
        if len(body) > MAX_BODY_BYTES:
            return _error(413, "the body is too large")
        try:
            value = await request.json()
        except ValueError:
            return _error(400, "the body is not JSON")
        return value if isinstance(value, dict) else _error(400, "the body is not a JSON object")

    async def look_up(request: Request) -> Response:
        body = await body_of(request)
        if isinstance(body, Response):
            return body
        digests = body.get("digests")
        if not isinstance(digests, list) or not all(_is_digest(one) for one in digests):
            return _error(400, "digests must be a list of 64 lower-case hex digits each")
        if len(digests) > MAX_DIGESTS:
            return _error(413, f"at most {MAX_DIGESTS} digests")
        return JSONResponse(store.look_up(digests))

    async def disable(request: Request) -> Response:
        body = await body_of(request)
        if isinstance(body, Response):
            return body
        key = request.headers.get("idempotency-key", "")
        if not _is_digest(body.get("digest")) or not key:
            return _error(400, "give digest and the header Idempotency-Key")
        return JSONResponse(store.disable(str(body["digest"]), key, str(body.get("reason", ""))))

    async def canary(request: Request) -> Response:
        body = await body_of(request)
        if isinstance(body, Response):
            return body
        if not _is_digest(body.get("digest")):
            return _error(400, "give digest and hint")
        return JSONResponse(store.add_canary(str(body["digest"]), str(body.get("hint", ""))))

    return Starlette(
        routes=[
            Route("/v1/tokens/canary", canary, methods=["POST"]),
            Route("/v1/tokens/lookup", look_up, methods=["POST"]),
            Route("/v1/tokens/disable", disable, methods=["POST"]),
        ]
    )


@contextmanager
def running(store: ReferenceStore, tls: Tls | None = None) -> Iterator[ReferenceStore]:
    """Run the store as an HTTP server until the `with` block ends."""
    with served(application(store), tls) as url:
        store.url = url
        yield store


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and bool(_DIGEST.fullmatch(value))


def _error(status: int, reason: str) -> Response:
    return JSONResponse({"error": reason}, status)

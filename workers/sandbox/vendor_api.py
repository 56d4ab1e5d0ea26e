"""A minimal API of a vendor. It answers 200 to a request with a live token and 401 to any other request."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import select
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from scanner.records.database import Database
from scanner.records.models import ApiToken
from workers.sandbox import gateway
from workers.sandbox.gateway import Cache
from workers.sandbox.http_server import served

WEBHOOK_SECRET = "sandbox-webhook-secret"  # noqa: S105 - used only in the sandbox


@dataclass(frozen=True, slots=True)
class VendorApi:
    """The running API of a vendor: its URL and its cache of live tokens."""

    url: str
    cache: Cache

    @property
    def webhook_url(self) -> str:
        return f"{self.url}/r8scan"


def application(cache: Cache, webhook_secret: str = WEBHOOK_SECRET) -> Starlette:
    """Return the ASGI application. It asks `cache` whether a token is live."""

    async def account(request: Request) -> JSONResponse:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(token.encode()).hexdigest()
        if scheme != "Bearer" or not await run_in_threadpool(cache.answers, digest):
            detail = "You did not pass a valid authentication token"
            return JSONResponse({"title": "Unauthenticated", "detail": detail, "status": 401}, status_code=401)
        return JSONResponse({"type": "user", "username": "ana"})

    return Starlette(routes=[Route("/v1/account", account), gateway.webhook(cache, webhook_secret)])


def lives_in(database: Database) -> Callable[[str], bool]:
    """Return a function that says whether the token with a given digest is live in the database."""

    def is_live(digest: str) -> bool:
        with database.read() as session:
            statement = select(ApiToken.id).where(ApiToken.digest == digest, ApiToken.disabled_at.is_(None))
            return session.execute(statement).first() is not None

    return is_live


@contextmanager
def running(database: Database) -> Iterator[VendorApi]:
    """Run the vendor's API until the `with` block ends."""
    cache = Cache(lives_in(database))
    with served(application(cache)) as url:
        yield VendorApi(url, cache)

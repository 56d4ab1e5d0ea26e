"""The vendor's API, as small as it can be: 200 for a token that lives, 401 for any other.

It does what the vendor's real API has to do: ask the token table at each request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import select
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from scanner.records.database import Database
from scanner.records.models import ApiToken
from workers.sandbox.http_server import served


def application(is_live: Callable[[str], bool]) -> Starlette:
    """The API; `is_live` says of a digest whether it is that of a token that may be used."""

    def account(request: Request) -> JSONResponse:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(token.encode()).hexdigest()
        if scheme != "Bearer" or not is_live(digest):
            detail = "You did not pass a valid authentication token"
            return JSONResponse({"title": "Unauthenticated", "detail": detail, "status": 401}, status_code=401)
        return JSONResponse({"type": "user", "username": "ana"})

    return Starlette(routes=[Route("/v1/account", account)])


def lives_in(database: Database) -> Callable[[str], bool]:
    """Whether the token table of this database knows the digest and has not disabled it."""

    def is_live(digest: str) -> bool:
        with database.read() as session:
            statement = select(ApiToken.id).where(ApiToken.digest == digest, ApiToken.disabled_at.is_(None))
            return session.execute(statement).first() is not None

    return is_live


@contextmanager
def running(database: Database) -> Iterator[str]:
    """The API's address while the block runs."""
    with served(application(lives_in(database))) as url:
        yield url

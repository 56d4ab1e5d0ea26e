"""Requests from outside within bounds: bodies by size and time, keys in constant time, errors as one line of JSON."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable

from pydantic import SecretStr
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from scanner.records.database import is_unavailable

BODY_SECONDS = 30.0

_log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]


class Refused(Exception):
    """The request cannot be served: an HTTP status and a line that says why, without what was sent."""

    def __init__(self, status: int, reason: str, *, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


def guarded(endpoint: Endpoint) -> Endpoint:
    """The endpoint, with what it refuses, and a database that is away, as JSON answers."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except Refused as err:
            return _error(err.status, err.reason, err.retry_after)
        except ClientDisconnect:
            return _error(400, "the body is incomplete")
        except Exception as err:
            if not is_unavailable(err):
                raise
            _log.error("a request was put off: the database is away (%s)", type(err).__name__)
            return _error(503, "try again later", 30)

    return answer


async def body_of(request: Request, longest: int) -> bytes:
    """The body, at most `longest` bytes and within 30 seconds; Refused otherwise."""
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > longest:
                    raise Refused(413, f"the body is larger than {longest} bytes")
                parts.append(part)
    except TimeoutError:
        raise Refused(408, "the body took too long") from None
    return b"".join(parts)


def require_key(request: Request, key: SecretStr) -> None:
    """Refused unless the request carries `Authorization: Bearer` with this key."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Digests have one length, whatever was sent: the comparison tells nothing.
    same = hmac.compare_digest(_digest(given.strip()), _digest(key.get_secret_value()))
    if scheme.lower() != "bearer" or not same:
        raise Refused(401, "the key is missing or wrong: send Authorization: Bearer KEY")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _error(status: int, reason: str, retry_after: int | None = None) -> Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return JSONResponse({"error": reason}, status, headers)

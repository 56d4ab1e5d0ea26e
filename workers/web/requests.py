"""Answers to what is refused, keys compared in constant time, and who asks."""

from __future__ import annotations

import hashlib
import hmac
import logging
from collections.abc import Awaitable, Callable

from pydantic import SecretStr
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from scanner.records.database import is_unavailable

_log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]


class RequestRefused(Exception):
    """The request cannot be served: an HTTP status and a line that says why, without what was sent."""

    def __init__(self, status: int, reason: str, *, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


def guarded(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint, with refusals and an unavailable database turned into JSON answers."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except RequestRefused as err:
            return error_answer(err.status, err.reason, err.retry_after)
        except ClientDisconnect:
            return error_answer(400, "the body is incomplete")
        except Exception as err:
            if not is_unavailable(err):
                raise
            _log.error("a request was put off: the database is away (%s)", type(err).__name__)
            return error_answer(503, "try again later", 30)

    return answer


def client_of(request: Request) -> str:
    """Return the address of the client, as told by the connection or by a trusted proxy; empty if unknown."""
    return request.client.host if request.client else ""


def require_key(request: Request, key: SecretStr) -> None:
    """Refuse the request unless it carries `Authorization: Bearer` with this key."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Digests have one length, whatever was sent: the comparison tells nothing.
    same = hmac.compare_digest(_digest(given.strip()), _digest(key.get_secret_value()))
    if scheme.lower() != "bearer" or not same:
        raise RequestRefused(401, "the key is missing or wrong: send Authorization: Bearer KEY")


def error_answer(status: int, reason: str, retry_after: int | None = None) -> Response:
    """Return a refusal as one line of JSON."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return JSONResponse({"error": reason}, status, headers)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

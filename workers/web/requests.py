"""Functions for all endpoints: refuse a request, check a key, identify the client."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable

from pydantic import SecretStr
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from scanner.compromise.networks import rate_keys
from scanner.records.database import is_unavailable
from workers import outage
from workers.web import refusals

Endpoint = Callable[[Request], Awaitable[Response]]


class RequestRefused(Exception):
    """Raised to refuse a request.

    Attributes:
        status: The HTTP status.
        reason: One line that does not repeat the input.
        retry_after: The seconds after which the client may try again, or None.
    """

    def __init__(self, status: int, reason: str, *, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after


def guarded(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with error handling: refusals and database errors become JSON responses."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except RequestRefused as err:
            if err.status == 401:
                refusals.of_this_process.add("request_refused", network_of(request), err.reason)
            return error_answer(err.status, err.reason, err.retry_after)
        except ClientDisconnect:
            return error_answer(400, "the body is incomplete")
        except Exception as err:
            if not is_unavailable(err):
                raise
            outage.database.failed(err)
            return error_answer(503, "try again later", 30)

    return answer


def client_of(request: Request) -> str:
    """Return the client's IP address, also behind a trusted proxy, or "" if it is unknown."""
    return request.client.host if request.client else ""


def network_of(request: Request) -> str:
    """Return the client's IP network. It may be logged, but the whole address may not."""
    return rate_keys(client_of(request))[-1]


def require_key(request: Request, key: SecretStr) -> None:
    """Check that the header `Authorization: Bearer` contains this key.

    Raises:
        RequestRefused: The status is 401.
    """
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    # Compare digests, because the time of comparing the keys would reveal their length.
    same = hmac.compare_digest(_digest(given.strip()), _digest(key.get_secret_value()))
    if scheme.lower() != "bearer" or not same:
        raise RequestRefused(401, "the key is missing or wrong: send Authorization: Bearer KEY")


def error_answer(status: int, reason: str, retry_after: int | None = None) -> Response:
    """Return the JSON response to a refused request. `reason` must not repeat the input."""
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return JSONResponse({"error": reason}, status, headers)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

"""Parses GitHub's rate limit headers.

https://docs.github.com/rest/using-the-rest-api/rate-limits-for-the-rest-api
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime

import httpx

SECONDARY_LIMIT_SECONDS = 60.0
"""How long to wait after a rate limit if GitHub does not say."""
MAX_WAIT_SECONDS = 3600.0
"""The longest time to wait for a rate limit."""
MAX_RESOURCE_NAME_LENGTH = 32


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A quota of one credential: requests allowed, requests remaining, and seconds until the reset."""

    resource: str
    limit: int
    remaining: int
    resets_in: float


def rate_limit_of(response: httpx.Response) -> RateLimit | None:
    """Return the quota in the `x-ratelimit-*` headers, or None if they are missing or unreadable."""
    headers = response.headers
    values = [headers.get(f"x-ratelimit-{name}", "") for name in ("limit", "remaining", "reset")]
    resource = headers.get("x-ratelimit-resource", "core")
    if not all(_is_number(value) for value in values) or not _is_name(resource):
        return None
    limit, remaining, reset = map(int, values)
    return RateLimit(resource, limit, remaining, _bounded(reset - server_time(response)))


def is_limit(response: httpx.Response, body: bytes) -> bool:
    """Return whether a response with status 403 reports a rate limit."""
    if "retry-after" in response.headers or response.headers.get("x-ratelimit-remaining") == "0":
        return True
    text = body[:4096].lower()
    return b"rate limit" in text or b"abuse" in text


def seconds_to_wait(response: httpx.Response) -> float:
    """Return the seconds to wait after a rate limit. If the headers do not say, return SECONDARY_LIMIT_SECONDS."""
    seconds = retry_after(response)
    if seconds is not None:
        return seconds
    reset = response.headers.get("x-ratelimit-reset", "")
    if response.headers.get("x-ratelimit-remaining") == "0" and _is_number(reset):
        return _bounded(int(reset) - server_time(response))
    return SECONDARY_LIMIT_SECONDS


def retry_after(response: httpx.Response) -> float | None:
    """Return the seconds to wait according to the Retry-After header, or None."""
    value = response.headers.get("retry-after", "")
    if _is_number(value):
        return _bounded(int(value))
    at = _date(value)
    return None if at is None else _bounded(at - server_time(response))


def server_time(response: httpx.Response) -> float:
    """Return the server's time in seconds since the epoch."""
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


def _is_name(value: str) -> bool:
    return 0 < len(value) <= MAX_RESOURCE_NAME_LENGTH and value.isascii() and value.replace("_", "").isalnum()


def _bounded(seconds: float) -> float:
    return min(max(float(seconds), 1.0), MAX_WAIT_SECONDS)

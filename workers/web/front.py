"""Accepts requests for one route: checks the rate limit, reads the body, and runs the work in a thread pool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.requests import Request

from scanner.compromise.networks import rate_keys
from workers.web.bodies import BodyBudget, read_body
from workers.web.pools import BUSY_RETRY_SECONDS, Pool
from workers.web.rates import RateLimiter
from workers.web.requests import RequestRefused, client_of

RATE_RETRY_SECONDS = 60

T = TypeVar("T")


class Intake:
    """The thread pool and the rate limiter of one route."""

    def __init__(self, budget: BodyBudget, pool: Pool, limiter: RateLimiter | None = None) -> None:
        self._budget = budget
        self._pool = pool
        self._limiter = limiter

    def require_rate(self, request: Request) -> None:
        """Check the rate limit for the client's network. Call this first, because it is cheap.

        Raises:
            RequestRefused: The status is 429.
        """
        if self._limiter is not None and not self._limiter.admit(rate_keys(client_of(request))):
            raise RequestRefused(429, "too many requests: try again in a minute", retry_after=RATE_RETRY_SECONDS)

    @asynccontextmanager
    async def body(self, request: Request, max_bytes: int) -> AsyncIterator[bytes]:
        """Read the request's body and yield it. Its memory is released when the `async with` block ends.

        Raises:
            RequestRefused: The status is 503 if the thread pool is full. See `read_body` for other statuses.
        """
        if self._pool.is_full:
            # Refuse the request before its body is read, so that it uses no memory.
            raise RequestRefused(503, "too many requests are waiting: try again later", retry_after=BUSY_RETRY_SECONDS)
        body = self._budget.open(client_of(request))
        try:
            yield await read_body(request, body, self._budget, max_bytes)
        finally:
            self._budget.close(body)

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Run blocking work in this route's thread pool.

        Raises:
            RequestRefused: The status is 503. The thread pool is full.
        """
        return await self._pool.run(work, *arguments)

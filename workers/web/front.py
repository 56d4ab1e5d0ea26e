"""The intake of a route: it checks the rate limit, reads the request's body, and runs the work in a thread pool.

The checks run in order of their cost, so that a refused request costs as little as possible.
"""

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
    """The thread pool and rate limiter of one route, and the memory for bodies that all routes share."""

    def __init__(self, budget: BodyBudget, pool: Pool, limiter: RateLimiter | None = None) -> None:
        self._budget = budget
        self._pool = pool
        self._limiter = limiter

    def require_rate(self, request: Request) -> None:
        """Check the rate limit for the client's network. Call this first, because it costs almost nothing.

        Raises:
            RequestRefused: with status 429, if the network or all networks together send too many requests.
        """
        if self._limiter is not None and not self._limiter.admit(rate_keys(client_of(request))):
            raise RequestRefused(429, "too many requests: try again in a minute", retry_after=RATE_RETRY_SECONDS)

    @asynccontextmanager
    async def body(self, request: Request, max_bytes: int) -> AsyncIterator[bytes]:
        """Read the request's body and yield it. The body uses shared memory until the `async with` block ends.

        Raises:
            RequestRefused: with status 503 if the pool is full, or with a status of `read_body`.
        """
        if self._pool.is_full:
            # The pool would refuse the work, so reading the body would be a waste.
            raise RequestRefused(503, "too many requests are waiting: try again later", retry_after=BUSY_RETRY_SECONDS)
        body = self._budget.open(client_of(request))
        try:
            yield await read_body(request, body, self._budget, max_bytes)
        finally:
            self._budget.close(body)

    async def run(self, work: Callable[..., T], *arguments: object) -> T:
        """Run blocking work in this route's pool.

        Raises:
            RequestRefused: with status 503, if the pool is full.
        """
        return await self._pool.run(work, *arguments)

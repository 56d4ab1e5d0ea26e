"""Limits the size and time of each request body, and the memory of all request bodies together.

If the memory is used up, the largest body of the network that uses the most memory is dropped.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

from starlette.requests import Request

from scanner.compromise.networks import connection_keys
from workers.web.requests import RequestRefused

MAX_BYTES_IN_FLIGHT = 32 * 1024 * 1024
"""The maximum size of all bodies together. It is enough for three bodies of the largest allowed size."""
GRACE_SECONDS = 5.0
"""The time that a small body may take to arrive. Each further MIN_BYTES_PER_SECOND bytes may take one second more."""
MIN_BYTES_PER_SECOND = 128 * 1024
MAX_BODY_SECONDS = 30.0
"""The maximum time in which even a large body must arrive. GitHub gives up sending an alert after this time."""
BUSY_RETRY_SECONDS = 10


@dataclass(eq=False, slots=True)
class Body:
    """The received part of a request's body. `is_evicted` is True if it was dropped."""

    network: str
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    is_evicted: bool = False

    def joined(self) -> bytes:
        """Return the whole body, and release its parts."""
        whole = b"".join(self.parts)
        self.parts = [whole]
        return whole


class BodyBudget:
    """The memory for the bodies of all current requests: at most `limit` bytes."""

    def __init__(self, limit: int = MAX_BYTES_IN_FLIGHT) -> None:
        self._limit = limit
        self._bodies: set[Body] = set()
        self._held = 0

    @property
    def held(self) -> int:
        """Return how many bytes all bodies use together."""
        return self._held

    def open(self, client: str) -> Body:
        """Return an empty body for a new request. The caller must `close` the body after the response.

        Args:
            client: The client's IP address.
        """
        body = Body(connection_keys(client)[1])
        self._bodies.add(body)
        return body

    def add(self, body: Body, part: bytes) -> None:
        """Add received bytes to the body. If the memory is used up, drop this body or others."""
        if body.is_evicted:
            return
        body.parts.append(part)
        body.size += len(part)
        self._held += len(part)
        while self._held > self._limit:
            self._evict(self._largest())

    def close(self, body: Body) -> None:
        """Release the memory of a body. A second call does nothing."""
        if body in self._bodies:
            self._bodies.remove(body)
            self._held -= body.size
            body.parts, body.size = [], 0

    def _largest(self) -> Body:
        held = Counter[str]()
        for body in self._bodies:
            held[body.network] += body.size
        return max(self._bodies, key=lambda body: (held[body.network], body.size))

    def _evict(self, body: Body) -> None:
        body.is_evicted = True
        self.close(body)


async def read_body(request: Request, body: Body, budget: BodyBudget, max_bytes: int) -> bytes:
    """Read the request's body into `body` and return it.

    Raises:
        RequestRefused: The status is 413 if the body is longer than `max_bytes`, 408 if it arrives too slowly, and 503
            if it was dropped to make room for others.
    """
    too_large = RequestRefused(413, f"the body is larger than {max_bytes} bytes")
    declared = request.headers.get("content-length", "")
    # A malformed Content-Length needs no answer here, because the HTTP parser h11 has already refused it.
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes:
        raise too_large
    started = time.monotonic()
    stream = request.stream()
    while True:
        earned = GRACE_SECONDS + body.size / MIN_BYTES_PER_SECOND
        left = started + min(earned, MAX_BODY_SECONDS) - time.monotonic()
        try:
            async with asyncio.timeout(max(left, 0)):
                part = await anext(stream, None)
        except TimeoutError:
            raise RequestRefused(408, "the body took too long") from None
        if part is None:
            return body.joined()
        if body.size + len(part) > max_bytes:
            raise too_large
        budget.add(body, part)
        if body.is_evicted:
            raise RequestRefused(503, "too many bodies at once: try again later", retry_after=BUSY_RETRY_SECONDS)

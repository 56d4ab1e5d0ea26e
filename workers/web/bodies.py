"""Bodies of requests within bounds: each by size and time, all together by the memory that they take.

Memory is shared fairly: when the bodies in flight would take more than they may, the largest body of the network that
holds most is given up. A small body therefore gets through while others send many large ones.
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
"""Of all bodies that are being read or worked on: three of the largest that a route takes."""
GRACE_SECONDS = 5.0
"""For a body, besides the time that its bytes earn."""
MIN_BYTES_PER_SECOND = 128 * 1024
MAX_BODY_SECONDS = 30.0
"""For any body: GitHub gives an alert up after this time."""
BUSY_RETRY_SECONDS = 10


@dataclass(eq=False, slots=True)
class Body:
    """The part of one body that has arrived. `is_given_up`: its memory went to other bodies."""

    network: str
    parts: list[bytes] = field(default_factory=list)
    size: int = 0
    is_evicted: bool = False

    def joined(self) -> bytes:
        """Return the whole body, and keep no second copy of it."""
        whole = b"".join(self.parts)
        self.parts = [whole]
        return whole


class BodyBudget:
    """The bytes of all bodies in flight, at most `limit`."""

    def __init__(self, limit: int = MAX_BYTES_IN_FLIGHT) -> None:
        self._limit = limit
        self._bodies: set[Body] = set()
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes held now."""
        return self._held

    def open(self, client: str) -> Body:
        """Return an empty body of this client's; `close` it when the request has been answered."""
        body = Body(connection_keys(client)[1])
        self._bodies.add(body)
        return body

    def add(self, body: Body, part: bytes) -> None:
        """Add a part that has arrived. May give up this body or another: see `Body.is_given_up`."""
        if body.is_evicted:
            return
        body.parts.append(part)
        body.size += len(part)
        self._held += len(part)
        while self._held > self._limit:
            self._evict(self._largest())

    def close(self, body: Body) -> None:
        """Forget a body. Doing so twice changes nothing."""
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
    """Return the request's body.

    A declared length is checked before anything is read. Otherwise reading ends with the first byte too many.

    Raises:
        Refused: 413 above `max_bytes`, 408 when the bytes come too slowly, 503 when other bodies take the memory.
    """
    too_large = RequestRefused(413, f"the body is larger than {max_bytes} bytes")
    declared = request.headers.get("content-length", "")
    # h11 has refused lengths that are no number, or that contradict each other.
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

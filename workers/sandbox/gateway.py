"""An example of an API gateway that caches which tokens are live. Vendors may copy it.

It removes a token from its cache when r8scan announces that the token is disabled.
"""

from __future__ import annotations

import hmac
import json
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from notifications.gateways import SIGNATURE_HEADER, TIMESTAMP_HEADER, signature

CACHE_SECONDS = 300.0
MAX_ENTRIES = 10_000
OLDEST_SECONDS = 300
MAX_BODY_BYTES = 1024 * 1024
PAUSE_SECONDS = 1.0

_log = logging.getLogger(__name__)


@dataclass
class Cache:
    """A cache that remembers each live token for five minutes.

    `is_live` asks the token store whether the token with a digest is live. `asked` counts the calls of `is_live`.
    """

    is_live: Callable[[str], bool]
    entries: dict[str, float] = field(default_factory=dict)
    asked: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._generation = 0

    def answers(self, digest: str) -> bool:
        """Return whether the token with this digest is live."""
        with self._lock:
            if self.entries.get(digest, 0.0) > time.monotonic():
                return True
            generation = self._generation
        live = self.is_live(digest)
        with self._lock:
            self.asked += 1
            # Do not cache an answer that an announcement may have made outdated.
            if live and generation == self._generation:
                if len(self.entries) >= MAX_ENTRIES:
                    self.entries.clear()
                self.entries[digest] = time.monotonic() + CACHE_SECONDS
        return live

    def forget(self, digest: str) -> None:
        """Remove a token from the cache, so that its next use asks the token store."""
        with self._lock:
            self._generation += 1
            self.entries.pop(digest, None)

    def forget_all(self) -> None:
        with self._lock:
            self._generation += 1
            self.entries.clear()


def webhook(cache: Cache, secret: str) -> Route:
    """Return the route `POST /r8scan`, which receives signed announcements of disabled tokens."""

    async def take(request: Request) -> Response:
        body = await request.body()
        if len(body) > MAX_BODY_BYTES:
            return Response(status_code=413)
        timestamp = request.headers.get(TIMESTAMP_HEADER, "")
        expected = signature(secret.encode(), timestamp, body)
        is_ours = hmac.compare_digest(expected.encode(), request.headers.get(SIGNATURE_HEADER, "").encode())
        if not is_ours or abs(time.time() - int(timestamp)) > OLDEST_SECONDS:
            return Response(status_code=403)
        for one in json.loads(body)["announcements"]:
            cache.forget(one["digest"])
        return Response(status_code=204)

    return Route("/r8scan", take, methods=["POST"])


@contextmanager
def following(
    cache: Cache, url: str, stream: str, missed: Callable[[], object], *, pause: float = PAUSE_SECONDS
) -> Iterator[None]:
    """Read announcements of disabled tokens from a Redis stream, in a thread that runs until the `with` block ends.

    Args:
        cache: The cache from which the announced tokens are removed.
        url: The address of the Redis server.
        missed: Called after each outage of Redis. It must call `catch_up`. If it fails, it is called again later.
        pause: Seconds between two attempts to reach Redis during an outage.
    """
    # The client's own retries would hide an outage of Redis, and announcements would be missed.
    connection: Any = redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0))
    last: bytes | None = _newest(connection, stream)
    stop = threading.Event()

    def follow() -> None:
        nonlocal last
        while not stop.is_set():
            try:
                if last is None:
                    # Read the stream's position before calling `missed`, so that no later announcement is lost.
                    newest = _newest(connection, stream)
                    missed()
                    last = newest
                for _, entries in connection.xread({stream: last}, block=100):
                    for last, fields in entries:  # noqa: B007 - the next read begins after `last`
                        cache.forget(fields[b"digest"].decode())
            except Exception:  # noqa: BLE001 - no error may end the thread
                _log.exception("cannot read the stream; trying again")
                last = None
                stop.wait(pause)

    thread = threading.Thread(target=follow, name="sandbox-gateway")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        connection.close()


def _newest(connection: Any, stream: str) -> bytes:
    """Return the id of the stream's newest entry, or "0-0" for an empty stream."""
    newest = connection.xrevrange(stream, count=1)
    return newest[0][0] if newest else b"0-0"


def catch_up(cache: Cache, client: httpx.Client, after: int | None, headers: Mapping[str, str]) -> int:
    """Remove from the cache all tokens disabled since the last call. Return the cursor for the next call.

    Args:
        client: An HTTP client for the server that `r8scan serve` runs.
        after: The cursor that the last call returned, or None for the first call.
        headers: The headers that authenticate the gateway.
    """
    while True:
        answer = client.get("/disabled", params={} if after is None else {"after": after}, headers=headers)
        if answer.status_code == 410:
            cache.forget_all()
            return int(answer.json()["next"])
        answer.raise_for_status()
        page = answer.json()
        for one in page["announcements"]:
            cache.forget(one["digest"])
        after = int(page["next"])
        if not page["more"]:
            return after

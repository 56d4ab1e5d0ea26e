"""Ways to tell gateways of disabled tokens: a stream of Redis's, a signed webhook. Each sends a batch or nothing.

The forms are a contract: docs/announcements.md.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import httpx
import redis

STREAM_KEEPS = 100_000
"""Entries of the stream, about; who needs older ones asks over HTTP."""
SEND_SECONDS = 10.0
LATER = (408, 425, 429, 502, 503, 504)
"""Statuses that are about the moment, whatever was sent."""
SIGNATURE_HEADER = "R8scan-Signature"
TIMESTAMP_HEADER = "R8scan-Timestamp"

Content = Mapping[str, Any]


class Undelivered(Exception):
    """Nobody is known to have got it; the message is one line without secrets. It is tried again."""


class Refused(Undelivered):
    """The receiver is there and does not take this batch: one announcement in it may be what it cannot read."""


class Channel(Protocol):
    """One way. `send` takes at most 100 announcements and is done within `SEND_SECONDS`."""

    def send(self, batch: Sequence[Content]) -> None:
        """Hand over all of the batch. Undelivered, Refused."""

    def close(self) -> None:
        """Let go of connections."""


class StreamChannel:
    """`XADD` to a stream, all of a batch or nothing."""

    def __init__(self, url: str, stream: str) -> None:
        self._stream = stream
        self._redis = redis.Redis.from_url(
            url, socket_connect_timeout=SEND_SECONDS / 2, socket_timeout=SEND_SECONDS / 2
        )

    def send(self, batch: Sequence[Content]) -> None:
        """Undelivered when Redis cannot be reached, Refused when it does not take them."""
        try:
            with self._redis.pipeline(transaction=True) as pipeline:
                for content in batch:
                    pipeline.xadd(self._stream, _fields(content), maxlen=STREAM_KEEPS, approximate=True)
                pipeline.execute()
        except (redis.ConnectionError, redis.TimeoutError, OSError) as err:
            raise Undelivered(f"the stream's Redis cannot be reached ({type(err).__name__})") from err
        except redis.RedisError as err:
            raise Refused(f"the stream's Redis does not take it ({type(err).__name__})") from err

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


class WebhookChannel:
    """`POST` of a batch as JSON, signed: HMAC-SHA-256 over `timestamp.body`. Every status but 2xx is a failure."""

    def __init__(self, url: str, secret: str) -> None:
        self._url = url
        self._secret = secret.encode()
        self._http = httpx.Client(timeout=SEND_SECONDS / 2, follow_redirects=False, trust_env=False)

    def send(self, batch: Sequence[Content]) -> None:
        """Undelivered when the receiver is away or busy, Refused when it answers anything else but 2xx."""
        body = json.dumps({"announcements": list(batch)}, separators=(",", ":")).encode()
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: signature(self._secret, timestamp, body),
        }
        try:
            # Only the status counts: whatever else is answered is not read.
            with self._http.stream("POST", self._url, content=body, headers=headers) as response:
                status = response.status_code
        except httpx.HTTPError as err:
            raise Undelivered(f"the webhook cannot be reached ({type(err).__name__})") from err
        if not 200 <= status < 300:
            raise (Undelivered if status in LATER else Refused)(f"the webhook answered {status}")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """`v1=` and the hex digits of HMAC-SHA-256 over the timestamp (seconds since 1970), a dot, and the body."""
    return "v1=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _fields(content: Content) -> dict[Any, Any]:
    """A stream's fields are text: what is None is left out."""
    return {key: str(value) for key, value in content.items() if value is not None}

"""Channels that announce disabled tokens to API gateways: a Redis stream and a signed webhook.

The messages must keep the formats in docs/announcements.md, because receivers rely on them.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import httpx

from scanner import tls
from scanner.absent_modules import absent

MAX_STREAM_ENTRIES = 100_000
"""The approximate number of entries that the Redis stream keeps."""
SEND_SECONDS = 10.0
TEMPORARY_STATUSES = (408, 425, 429, 502, 503, 504)
"""HTTP statuses that mean that the receiver is busy or unavailable."""
SIGNATURE_HEADER = "R8scan-Signature"
TIMESTAMP_HEADER = "R8scan-Timestamp"

Content = Mapping[str, Any]


class AnnouncementUndelivered(Exception):
    """Raised if the receiver may not have received the batch. The caller must send the batch again.

    The message is one line without secrets.
    """


class AnnouncementRefused(AnnouncementUndelivered):
    """Raised if the receiver rejected the batch."""


class AnnouncementChannel(Protocol):
    """A way to announce disabled tokens to API gateways."""

    def send(self, batch: Sequence[Content]) -> None:
        """Send the whole batch, within SEND_SECONDS. The receiver may have got it even after an exception.

        Args:
            batch: The contents of at most 100 announcements.

        Raises:
            AnnouncementUndelivered: the receiver cannot be reached or is busy.
            AnnouncementRefused: the receiver rejected the batch.
        """

    def close(self) -> None:
        """Close the connections."""


class StreamChannel:
    """Appends announcements to a Redis stream. Each batch is one transaction."""

    def __init__(self, url: str, stream: str) -> None:
        with absent("opentelemetry"):  # redis would otherwise import OpenTelemetry, which needs 3 MB and is not used
            import redis

        self._stream = stream
        self._redis = redis.Redis.from_url(
            url, socket_connect_timeout=SEND_SECONDS / 2, socket_timeout=SEND_SECONDS / 2
        )

    def send(self, batch: Sequence[Content]) -> None:
        """Append the announcements to the Redis stream.

        Raises:
            AnnouncementUndelivered: Redis cannot be reached.
            AnnouncementRefused: Redis answers with an error.
        """
        import redis

        try:
            with self._redis.pipeline(transaction=True) as pipeline:
                for content in batch:
                    pipeline.xadd(self._stream, _fields(content), maxlen=MAX_STREAM_ENTRIES, approximate=True)
                pipeline.execute()
        except (redis.ConnectionError, redis.TimeoutError, OSError) as err:
            raise AnnouncementUndelivered(f"the stream's Redis cannot be reached ({type(err).__name__})") from err
        except redis.RedisError as err:
            raise AnnouncementRefused(f"the stream's Redis rejected the batch ({type(err).__name__})") from err

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()


class WebhookChannel:
    """Posts announcements in batches as JSON to a webhook, with an HMAC-SHA-256 signature."""

    def __init__(self, url: str, secret: str) -> None:
        self._url = url
        self._secret = secret.encode()
        self._http = httpx.Client(
            verify=tls.trusted(), timeout=SEND_SECONDS / 2, follow_redirects=False, trust_env=False
        )

    def send(self, batch: Sequence[Content]) -> None:
        """Post the announcements to the webhook.

        Raises:
            AnnouncementUndelivered: the receiver cannot be reached, or answers with one of TEMPORARY_STATUSES.
            AnnouncementRefused: the receiver answers with any other status that is not 2xx.
        """
        body = json.dumps({"announcements": list(batch)}, separators=(",", ":")).encode()
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            TIMESTAMP_HEADER: timestamp,
            SIGNATURE_HEADER: signature(self._secret, timestamp, body),
        }
        try:
            # Do not read the body of the response. Only the status is needed, and the body could be endless.
            with self._http.stream("POST", self._url, content=body, headers=headers) as response:
                status = response.status_code
        except httpx.HTTPError as err:
            raise AnnouncementUndelivered(f"the webhook cannot be reached ({type(err).__name__})") from err
        if not 200 <= status < 300:
            raise (AnnouncementUndelivered if status in TEMPORARY_STATUSES else AnnouncementRefused)(
                f"the webhook answered {status}"
            )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def signature(secret: bytes, timestamp: str, body: bytes) -> str:
    """Return the signature header: `v1=` and the hexadecimal HMAC-SHA-256 of the timestamp, a dot, and the body.

    `timestamp` is the value of the timestamp header, in seconds since 1970.
    """
    return "v1=" + hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def _fields(content: Content) -> dict[Any, Any]:
    """Return the content of an announcement as text fields of a stream entry."""
    return {key: str(value) for key, value in content.items() if value is not None}

"""The Redis broker as an untrusted party: what it delivers is checked and built anew before Celery sees it.

A message only says "look now": the name of a task and, for a poll, the name of a source. Everything else that Celery
would obey in a message (callbacks, chains, time limits, start times, compression, other serializers) is dropped here,
and what is no such message is refused in one line.
"""

from __future__ import annotations

import base64
import json
import logging
import uuid
from datetime import datetime
from typing import Any

from kombu.transport import TRANSPORT_ALIASES, redis, virtual

from scanner.settings import KNOWN_SOURCES

ARGUMENTS = {"r8scan.poll": KNOWN_SOURCES}
"""Tasks that take an argument, exactly one, and its possible values. All others take none."""
MAX_BODY_CHARACTERS = 4096
"""Of a body in base64: ours have about 120."""

_log = logging.getLogger(__name__)


class Refused(Exception):
    """This is no message that r8scan sends; the message says what is wrong, without repeating content."""


def checked(raw: Any, queue: str) -> dict[str, Any]:
    """Return a new message for the queue with the task, argument and expiry of this one, and nothing else.

    Raises:
        Refused: no process of ours sends such a message to this queue.
    """
    headers = raw.get("headers") if isinstance(raw, dict) else None
    if not isinstance(headers, dict):
        raise Refused("it is not a task message")
    name = headers.get("task")
    if not isinstance(name, str) or _queue_of(name) is None:
        raise Refused("it names no task of r8scan")
    if _queue_of(name) != queue:
        raise Refused(f"{name} does not belong in this queue")
    return _message(name, _arguments(raw, name), _expiry(headers), queue)


def _queue_of(name: str) -> str | None:
    # Late: the settings of Celery are read after its classes are imported.
    from celeryconfig import task_routes

    route = task_routes.get(name)
    return route["queue"] if route else None


def _arguments(raw: dict[str, Any], name: str) -> list[str]:
    """The arguments in the body. Refused unless they are those that the task takes."""
    body = raw.get("body")
    if not isinstance(body, str) or len(body) > MAX_BODY_CHARACTERS:
        raise Refused(f"{name} has no short body")
    try:
        args, kwargs, _ = json.loads(base64.b64decode(body, validate=True))
    except (ValueError, TypeError, RecursionError):
        raise Refused(f"{name} has a body that is not JSON of three parts") from None
    allowed = ARGUMENTS.get(name)
    is_right = args == [] if allowed is None else isinstance(args, list) and len(args) == 1 and args[0] in allowed
    if not is_right or kwargs != {}:
        raise Refused(f"{name} has arguments that it does not take")
    return list(args)


def _expiry(headers: dict[str, Any]) -> str | None:
    expires = headers.get("expires")
    if expires is None:
        return None
    try:
        return datetime.fromisoformat(expires).isoformat()
    except (TypeError, ValueError):
        raise Refused("its expiry is not a time") from None


def _message(name: str, args: list[str], expires: str | None, queue: str) -> dict[str, Any]:
    own = str(uuid.uuid4())
    body = json.dumps([args, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": name,
            "id": own,
            "root_id": own,
            "parent_id": None,
            "group": None,
            "expires": expires,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": repr(tuple(args)),
            "kwargsrepr": "{}",
            "ignore_result": True,
        },
        "properties": {
            "correlation_id": own,
            "body_encoding": "base64",
            "delivery_mode": 2,
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
        },
    }


class _Unacknowledged(virtual.QoS):
    """The messages in hand, kept in memory only and never delivered again: the sweeper asks for what is due.

    Kombu's own class writes each of them back into Redis: a Redis that is full would end the worker, and what somebody
    else writes there would come back as a message.
    """

    restore_at_shutdown = False

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        del requeue
        self.ack(delivery_tag)  # type: ignore[no-untyped-call]  # kombu has few types

    def restore_visible(self, *_: Any, **__: Any) -> None:
        """Do nothing: nothing is kept in Redis."""


class _Channel(redis.Channel):
    """A channel that survives what is not JSON: without it, each such message ends a worker."""

    QoS = _Unacknowledged  # type: ignore[assignment]  # it does all that the channel asks of it

    def _brpop_read(self, **options: Any) -> Any:
        self.connection.has_begun_delivery = False
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # kombu has few types
        except (ValueError, RecursionError):
            if self.connection.has_begun_delivery:
                raise
            _log.warning("a message in Redis was refused: it is not JSON")
            return True


class Transport(redis.Transport):
    """Kombu's Redis transport, which delivers only messages that were checked."""

    Channel = _Channel
    has_begun_delivery = False

    def _deliver(self, message: Any, queue: str) -> None:
        self.has_begun_delivery = True
        try:
            own = checked(message, queue)
        except Refused as err:
            _log.warning("a message in Redis was refused: %s", err)
            return
        super()._deliver(own, queue)  # type: ignore[no-untyped-call]  # kombu has few types


def install() -> None:
    """Have Celery use this transport for every Redis address."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = "workers.broker:Transport"

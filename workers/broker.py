"""Checks every message from the Redis broker before Celery sees it, because Redis is not trusted.

A message may contain only the name of a task, and for the task that polls, the name of the source to poll.
"""

from __future__ import annotations

import base64
import json
import logging
import uuid
from queue import Empty
from typing import Any

from scanner.absent_modules import absent
from scanner.settings import KNOWN_SOURCES
from workers import outage
from workers.health import pulse

with absent("opentelemetry"):  # redis would otherwise import OpenTelemetry, which needs 3 MB and is not used
    from kombu.transport import TRANSPORT_ALIASES, redis, virtual
    from redis import ResponseError

ARGUMENTS = {"r8scan.poll": KNOWN_SOURCES}
"""The tasks that take an argument, and the allowed values of this argument."""
MAX_WAITING = 100
"""The maximum number of messages in one queue. More would have no effect, because a message only starts a task."""
MAX_BODY_CHARACTERS = 4096
"""The maximum length of a message's body in base64. Real bodies have about 120 characters."""

_log = logging.getLogger(__name__)


class MessageRefused(Exception):
    """Raised for a message that r8scan itself would never send. The text does not repeat the message."""


def checked(raw: Any, queue: str) -> dict[str, Any]:
    """Return a copy of the message `raw` that contains only the task's name and its arguments.

    Raises:
        MessageRefused: r8scan itself would never send this message to this queue.
    """
    headers = raw.get("headers") if isinstance(raw, dict) else None
    if not isinstance(headers, dict):
        raise MessageRefused("it is not a task message")
    name = headers.get("task")
    if not isinstance(name, str) or _queue_of(name) is None:
        raise MessageRefused("it names no task of r8scan")
    if _queue_of(name) != queue:
        raise MessageRefused(f"{name} does not belong in this queue")
    return _message(name, _arguments(raw, name), queue)


def _queue_of(name: str) -> str | None:
    # Import this here, because Celery reads celeryconfig.py only after it has imported this module.
    from celeryconfig import task_routes

    route = task_routes.get(name)
    return route["queue"] if route else None


def _arguments(raw: dict[str, Any], name: str) -> list[str]:
    """Return the task's arguments from the message's body. Raise MessageRefused if the arguments are wrong."""
    body = raw.get("body")
    if not isinstance(body, str) or len(body) > MAX_BODY_CHARACTERS:
        raise MessageRefused(f"{name} has no body, or one that is too long")
    try:
        args, kwargs, _ = json.loads(base64.b64decode(body, validate=True))
    except (ValueError, TypeError, RecursionError):
        raise MessageRefused(f"{name} has a body that is not JSON of three parts") from None
    allowed = ARGUMENTS.get(name)
    is_right = args == [] if allowed is None else isinstance(args, list) and len(args) == 1 and args[0] in allowed
    if not is_right or kwargs != {}:
        raise MessageRefused(f"{name} has arguments that it does not take")
    return list(args)


def _message(name: str, args: list[str], queue: str) -> dict[str, Any]:
    message_id = str(uuid.uuid4())
    body = json.dumps([args, {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}])
    return {
        "body": base64.b64encode(body.encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": name,
            "id": message_id,
            "root_id": message_id,
            "parent_id": None,
            "group": None,
            "expires": None,
            "retries": 0,
            "timelimit": [None, None],
            "argsrepr": repr(tuple(args)),
            "kwargsrepr": "{}",
            "ignore_result": True,
        },
        "properties": {
            "correlation_id": message_id,
            "body_encoding": "base64",
            "delivery_mode": 2,
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue},
            "priority": 0,
        },
    }


class _Unacknowledged(virtual.QoS):
    """The messages that a worker has received but not acknowledged. They are kept in memory only."""

    # Kombu's own class would store unacknowledged messages in Redis, and a full Redis would make the worker exit.

    restore_at_shutdown = False

    def can_consume(self) -> bool:
        """Return True if the worker may take one more message, or False if all its threads are busy."""
        # While all threads are busy, the worker does not contact Redis. Record here that it is alive.
        has_room = bool(super().can_consume())  # type: ignore[no-untyped-call]  # kombu has few types
        if not has_room:
            pulse.current().work()
        return has_room

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        del requeue
        self.ack(delivery_tag)  # type: ignore[no-untyped-call]  # kombu has few types

    def restore_visible(self, *_: Any, **__: Any) -> None:
        """Do nothing, because Redis contains no unacknowledged messages."""


class _Channel(redis.Channel):
    """A kombu channel for Redis. It ignores messages that are not JSON, because they would end the worker."""

    QoS = _Unacknowledged  # type: ignore[assignment]  # the class has all methods that the channel calls

    def _brpop_read(self, **options: Any) -> Any:
        self.connection.has_begun_delivery = False
        try:
            found = super()._brpop_read(**options)  # type: ignore[no-untyped-call]  # kombu has few types
        except Empty:
            pulse.current().work()
            outage.broker.worked()
            raise
        except (ValueError, RecursionError):
            if self.connection.has_begun_delivery:
                raise
            _log.warning("a message in Redis was refused: it is not JSON")
            found = True
        except ResponseError as err:
            if not str(err).startswith("WRONGTYPE"):
                raise
            self._remove_wrong_keys()
            found = True
        pulse.current().work()
        outage.broker.worked()
        return found

    def _remove_wrong_keys(self) -> None:
        """Remove Redis keys that have a queue's name but are not lists."""
        # A key of another type would end every worker that reads the queue.
        with self.conn_or_acquire() as client:
            for queue in self.active_queues:
                if client.type(queue) not in (b"list", b"none"):
                    client.delete(queue)
                    _log.warning("a key in Redis was removed: %s is the name of a queue, but it was not a list", queue)

    def _put(self, queue: str, message: Any, **options: Any) -> None:
        """Send a message. If the queue is longer than `MAX_WAITING`, drop the oldest messages."""
        super()._put(queue, message, **options)  # type: ignore[no-untyped-call]  # kombu has few types
        with self.conn_or_acquire() as client:
            client.ltrim(queue, 0, MAX_WAITING - 1)


class CheckedTransport(redis.Transport):
    """A kombu transport for Redis that delivers only messages that passed `checked`."""

    Channel = _Channel
    has_begun_delivery = False

    def establish_connection(self) -> Any:
        pulse.current().try_to_connect()
        return super().establish_connection()  # type: ignore[no-untyped-call]  # kombu has few types

    def _deliver(self, message: Any, queue: str) -> None:
        self.has_begun_delivery = True
        try:
            clean_message = checked(message, queue)
        except MessageRefused as err:
            _log.warning("a message in Redis was refused: %s", err)
            return
        super()._deliver(clean_message, queue)  # type: ignore[no-untyped-call]  # kombu has few types


def install() -> None:
    """Register `CheckedTransport` with kombu, so that Celery uses it for every Redis address."""
    for scheme in ("redis", "rediss"):
        TRANSPORT_ALIASES[scheme] = "workers.broker:CheckedTransport"

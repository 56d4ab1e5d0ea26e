"""Tests whether Redis works and whether the database can be written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sqlalchemy import update

from scanner.records.database import Database, is_conflict, is_unavailable
from scanner.records.health_models import Heartbeat
from scanner.records.models import table_of
from scanner.settings import Settings
from workers.queues import QUEUES

if TYPE_CHECKING:
    import redis

BROKER_SECONDS = 2.0
PROBE, PROBE_KEPT_SECONDS = "r8scan:probe", 60
"""A key that is written to test whether Redis accepts data, and the seconds after which it expires."""


def broker_problem(settings: Settings) -> str | None:
    """Return what is wrong with Redis, or None if it works."""
    try:
        with connected(settings) as client:
            client.set(PROBE, b"1", ex=PROBE_KEPT_SECONDS)
    except Exception as err:  # noqa: BLE001 - any error means that Redis cannot be used
        return reason(err)
    return None


def messages(settings: Settings) -> dict[str, int] | None:
    """Return the number of waiting messages in each queue, or None if Redis does not answer."""
    try:
        return queue_lengths(settings)
    except Exception:  # noqa: BLE001 - `broker_problem` reports the error
        return None


def queue_lengths(settings: Settings) -> dict[str, int]:
    """Return the number of waiting messages in each queue.

    Raises:
        redis.RedisError: Redis does not answer.
    """
    with connected(settings) as client, client.pipeline(transaction=False) as pipe:
        for queue in QUEUES:
            pipe.llen(queue)
        return dict(zip(QUEUES, pipe.execute(), strict=True))


@contextmanager
def connected(settings: Settings) -> Iterator[redis.Redis]:
    """Yield a Redis client with short timeouts. It connects when it is first used."""
    import redis  # this import takes as long as the rest of the status

    from workers.celery_settings import broker_url

    url = broker_url(settings)
    if url.startswith("redis+socket://"):
        url = "unix://" + url.removeprefix("redis+socket://").replace("virtual_host=", "db=")
    client = redis.Redis.from_url(url, socket_connect_timeout=BROKER_SECONDS, socket_timeout=BROKER_SECONDS)
    try:
        yield client
    finally:
        client.close()


def write_refusal(database: Database) -> str | None:
    """Return why the database cannot be written, or None if it can. The test changes no data."""
    try:
        with database.write() as session:
            # A read-only database refuses this UPDATE. If the disk is full, the commit at the end of the block fails.
            table = table_of(Heartbeat)
            session.execute(update(table).values(version=table.c.version))
    except Exception as err:
        if is_conflict(err):
            return None  # another process is writing the same rows, so the database is writable
        if not is_unavailable(err) and "read-only" not in str(err):
            raise
        return reason(err)
    return None


def reason(err: Exception) -> str:
    """Return the first line of an error message from Redis or the database."""
    lines = str(getattr(err, "orig", err)).strip().splitlines()
    return lines[0][:200] if lines else type(err).__name__

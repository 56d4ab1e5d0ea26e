"""Looks at the broker and at whether the database can be written, for the cause of a silence and for the metrics."""

from __future__ import annotations

from sqlalchemy import update

from scanner.records.database import Database, is_unavailable
from scanner.records.health_models import Heartbeat
from scanner.settings import Settings
from workers.queues import QUEUES

BROKER_SECONDS = 2.0


def broker_problem(settings: Settings) -> str | None:
    """Return why Redis does not answer, None when it does."""
    try:
        queue_lengths(settings)
    except Exception as err:  # noqa: BLE001 - redis has many errors, and all mean that nobody gets messages
        return _reason(err)
    return None


def messages(settings: Settings) -> dict[str, int] | None:
    """Return how many messages wait in each queue, None when Redis does not answer."""
    try:
        return queue_lengths(settings)
    except Exception:  # noqa: BLE001 - as above; `broker_problem` says why
        return None


def queue_lengths(settings: Settings) -> dict[str, int]:
    """Return how many messages wait in each queue. Raises what the Redis client raises."""
    import redis  # late: importing it takes as long as the rest of the status

    from workers.celery_settings import broker_url

    url = broker_url(settings)
    if url.startswith("redis+socket://"):
        url = "unix://" + url.removeprefix("redis+socket://").replace("virtual_host=", "db=")
    client = redis.Redis.from_url(url, socket_connect_timeout=BROKER_SECONDS, socket_timeout=BROKER_SECONDS)
    try:
        with client.pipeline(transaction=False) as pipe:
            for queue in QUEUES:
                pipe.llen(queue)
            return dict(zip(QUEUES, pipe.execute(), strict=True))
    finally:
        client.close()


def write_refusal(database: Database) -> str | None:
    """Return why the database cannot be written, None when it can. Changes no value."""
    try:
        with database.write() as session:
            # As much as is needed for a read-only database to refuse it. A full disk shows at the commit.
            session.execute(update(Heartbeat).values(version=Heartbeat.version))
    except Exception as err:
        if not is_unavailable(err) and "read-only" not in str(err):
            raise
        return _reason(err)
    return None


def _reason(err: Exception) -> str:
    lines = str(getattr(err, "orig", err)).strip().splitlines()
    return lines[0][:200] if lines else type(err).__name__

"""Checks that each queue has a worker, by sending a task to the queue. The worker's answer is a key in Redis."""

from __future__ import annotations

import threading
import time

import redis

from scanner.records.database import Database
from scanner.settings import Settings
from workers import wake
from workers.health import broker_state
from workers.health.checks.check import Wrong
from workers.queues import QUEUES

ANSWER_SECONDS = 10.0
KEPT_SECONDS = 60
LOOK_SECONDS = 0.05
OK, DATABASE = b"ok", b"database"
"""The possible answers: the worker works, or it cannot write to the database."""


def task_name(queue: str) -> str:
    """Return the name of the task that `check_queue` sends to this queue."""
    return f"r8scan.echo_{queue}"


def answer(queue: str, database: Database, settings: Settings) -> None:
    """Record in Redis that a worker of this queue received the message, and whether it can write to the database."""
    word = DATABASE if broker_state.write_refusal(database) else OK
    with broker_state.connected(settings) as client:
        client.set(_key(queue), word, ex=KEPT_SECONDS)


def check_queue(queue: str, settings: Settings, *, seconds: float = ANSWER_SECONDS) -> str:
    """Send a message to the queue and wait for a worker's answer. Return how long this took, as text."""
    role = QUEUES[queue]
    try:
        with broker_state.connected(settings) as client:
            client.delete(_key(queue))
            started = time.monotonic()
            if not wake.wake(task_name(queue)):
                raise Wrong("the message could not be sent", "see the check of Redis")
            found = _await(client, _key(queue), started + seconds)
    except redis.RedisError as err:
        raise Wrong(f"Redis failed ({broker_state.reason(err)})", "see the check of Redis") from err
    if found is None:
        sentence = f"no worker answered within {seconds:g} s"
        todo = f"start or restart a {role}; if all of its threads are busy (r8scan status), try again later"
        raise Wrong(sentence, todo)
    if found == DATABASE:
        raise Wrong("its worker cannot write into the database", f"look at the settings and the log of the {role}")
    return f"a worker answered after {time.monotonic() - started:.1f} s"


def _await(client: redis.Redis, key: str, deadline: float) -> bytes | None:
    pause = threading.Event()
    while time.monotonic() < deadline:
        value = client.get(key)
        if value in (OK, DATABASE):
            return bytes(value)
        pause.wait(LOOK_SECONDS)
    return None


def _key(queue: str) -> str:
    return f"r8scan:echo:{queue}"

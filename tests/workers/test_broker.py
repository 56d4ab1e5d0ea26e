"""Tests that messages in Redis that an attacker wrote can only make workers look for due work."""

from __future__ import annotations

import base64
import json
import os
import pickle
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from sqlalchemy import func, select, update

from celeryconfig import task_queues, task_routes
from scanner.compromise import reports
from scanner.compromise.reports import Subject, new_report
from scanner.detection import sha256_digest
from scanner.detection.patterns.token_formats import hint_of
from scanner.records import schema
from scanner.records.audit_models import AuditEntry
from scanner.records.compromise_models import Report
from scanner.records.database import Database
from scanner.records.models import Incident, Notification, db_now
from scanner.tokens import sql
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from workers import broker
from workers.broker import ARGUMENTS, MAX_WAITING, MessageRefused, checked
from workers.sandbox.world import until

VIRTUAL_HOST = 7
UNCONSUMED_HOST = 6
CELERY_TASKS = ("celery.chain", "celery.group", "celery.map", "celery.accumulate", "celery.backend_cleanup")
REMOVED_TASK = "r8scan.report"


@dataclass
class Service:
    database: Database
    sender: Celery
    redis: redis.Redis
    log: Path
    worker: subprocess.Popen[bytes]
    folder: Path

    def send(self, task: str) -> None:
        """Send the message that starts a task, as r8scan does."""
        self.sender.send_task(task, queue=task_routes[task]["queue"], ignore_result=True)

    def push(self, message: object, queue: str = "polling") -> None:
        """Append any message to a queue in Redis."""
        self.redis.lpush(queue, message if isinstance(message, bytes | str) else json.dumps(message))

    def known(self, token: str) -> str:
        digest = sha256_digest(token.encode())
        row = ImportedToken(digest, hint_of(token.encode()), "ci", "ana", ("ana@example.com",))
        with self.database.write() as session:
            ImportRun.begin().write(session, [row])
        return digest

    def reported(self, digest: str) -> None:
        reports.record(self.database, [new_report(Subject(digest), sign="abuse_report", note="", reporter="soc")])

    def is_disabled(self, digest: str) -> bool:
        with self.database.read() as session:
            return sql.look_up(session, [digest])[digest].disabled_at is not None

    def count(self, model: type) -> int:
        with self.database.read() as session:
            return session.execute(select(func.count()).select_from(model)).scalar_one()

    def await_look(self, digest: str) -> None:
        """Wait until the worker has processed all earlier messages.

        To know this, report the token with this digest as compromised, and wait until the worker has disabled it.

        Args:
            digest: The digest of a live token.
        """
        queues = [queue.name for queue in task_queues]
        until(lambda: self.worker.poll() is not None or not any(self.redis.llen(name) for name in queues), 60)
        self.reported(digest)
        self.send("r8scan.sweep")
        until(lambda: self.worker.poll() is not None or self.is_disabled(digest), 30)
        assert self.worker.poll() is None, self.log.read_text()[-3000:]


@pytest.fixture
def service(tmp_path: Path, redis_socket: str) -> Iterator[Service]:
    database = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    schema.upgrade(database)
    broker = f"redis+socket://{redis_socket}?virtual_host={VIRTUAL_HOST}"
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONUNBUFFERED": "1",
        "R8SCAN_STATE_DIR": str(tmp_path / "state"),
        "R8SCAN_REDIS_URL": broker,
        "R8SCAN_SOURCES": "",
        "R8SCAN_LOG_LEVEL": "debug",
    }
    log = tmp_path / "worker.log"
    command = [sys.executable, "-m", "celery", "-A", "workers", "worker", "-n", "reports@test", "--pool", "solo"]
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [*command, "--without-gossip", "--without-mingle"],
            env=environment,
            cwd=tmp_path,
            stdout=output,
            stderr=output,
        )
    raw = redis.Redis(unix_socket_path=redis_socket, db=VIRTUAL_HOST)
    try:
        until(lambda: worker.poll() is not None or "reports@test ready" in log.read_text(), 60)
        with Celery("elsewhere", broker=broker) as sender:
            yield Service(database, sender, raw, log, worker, tmp_path)
    finally:
        worker.kill()
        worker.wait()
        raw.flushdb()
        raw.close()
        database.close()


def forged(task: str, args: object = (), kwargs: object = None, *, queue: str = "", **more: Any) -> dict[str, Any]:
    """Return a message in the format of kombu, Celery's library for messages.

    `more` replaces the parts `headers`, `embed`, `body` and `content_type` of the message.
    """
    identifier = str(uuid.uuid4())
    body = json.dumps([args, kwargs or {}, more.get("embed", {})])
    return {
        "body": more.get("body", base64.b64encode(body.encode()).decode()),
        "content-encoding": "utf-8",
        "content-type": more.get("content_type", "application/json"),
        "headers": {"lang": "py", "task": task, "id": identifier, "root_id": identifier, **more.get("headers", {})},
        "properties": {
            "correlation_id": identifier,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            "delivery_info": {"exchange": "", "routing_key": queue or "polling"},
            "priority": 0,
            "reply_to": identifier,
        },
    }


class Touch:
    """An object that creates the file `path` when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def test_messages_of_every_task_with_hostile_arguments_do_nothing(
    service: Service, fresh_token: Callable[[], str]
) -> None:
    token = fresh_token()
    victim, witness = service.known(token), service.known(fresh_token())
    hostile: list[tuple[Any, Any]] = [
        ([[victim], "abuse_report", "note", "soc"], {}),
        ([], {"digests": [victim], "sign": "abuse_report"}),
        (["/etc/passwd"], {}),
        ([token], {"source": token}),
        ([["public_events"]], {}),
        ([{"source": "public_events"}], {}),
        (["public_events", "gists"], {}),
        ({"0": "public_events"}, {}),
        ("public_events", {}),
        (None, {}),
    ]
    tasks = (*task_routes, REMOVED_TASK, *CELERY_TASKS)
    for task in tasks:
        for args, kwargs in hostile:
            service.push(forged(task, args, kwargs))
    service.await_look(witness)
    assert not service.is_disabled(victim)
    assert service.count(Report) == 1
    assert service.count(Incident) == 1
    assert service.count(AuditEntry) == 2
    log = service.log.read_text()
    assert log.count("a message in Redis was refused") == len(tasks) * len(hostile)
    assert token[8:30] not in log
    assert victim not in log
    assert "Traceback" not in log


def test_options_in_a_message_that_celery_would_obey_are_dropped(
    service: Service, fresh_token: Callable[[], str]
) -> None:
    victim, witness = service.known(fresh_token()), service.known(fresh_token())
    signature: dict[str, Any] = {"task": "celery.map", "args": [], "kwargs": {}, "options": {}, "subtask_type": None}
    embed = {"callbacks": [signature], "errbacks": [signature], "chain": [signature], "chord": signature}
    pickled = base64.b64encode(pickle.dumps(Touch(service.folder / "unpickled"))).decode()
    messages: list[dict[str, Any]] = [
        forged("r8scan.sweep", [], embed=embed),
        forged("r8scan.sweep", [], headers={"timelimit": [0.001, 0.001], "eta": "2999-01-01T00:00:00Z"}),
        forged("r8scan.sweep", [], headers={"compression": "bzip2", "retries": -5, "group": "x", "stamps": {"a": 1}}),
        forged("r8scan.sweep", [], headers={"expires": "soon"}),
        forged("r8scan.sweep", [], headers={"id": {"$": 1}, "root_id": [], "origin": 7, "lang": "c"}),
        forged("r8scan.sweep", body=pickled, content_type="application/x-python-serialize"),
        forged("r8scan.sweep", [], content_type="application/x-python-serialize"),
        forged("r8scan.rescan", []),  # a rescan must not run from the queue of polls, because it would delay polls
        forged("r8scan.poll", ["event_archive"], headers={"task": {}}),
        {},
        {"headers": {"task": "r8scan.sweep"}},
        {"headers": {"task": "r8scan.sweep"}, "body": "ö", "properties": 3},
        {"headers": {"task": "r8scan.sweep"}, "body": "A" * 1_000_000, "properties": {}},
        {"headers": {"task": ["r8scan.sweep"]}, "body": None},
    ]
    for message in messages:
        service.push(message, "responding")
    for raw in (b"", b"not JSON", b"\xff\xfe", b"[" * 100_000, b"7", b"null", b"[[]]", b'"r8scan.sweep"'):
        service.push(raw)
    service.await_look(witness)
    assert not service.is_disabled(victim)
    assert service.count(Report) == 1
    assert not (service.folder / "unpickled").exists()
    log = service.log.read_text()
    assert "Traceback" not in log
    assert log.count("a message in Redis was refused") == len(messages) - 6 + 8


def test_commands_to_workers_are_not_obeyed(service: Service, fresh_token: Callable[[], str]) -> None:
    control = service.sender.control
    for command, arguments in (
        ("shutdown", {}),
        ("pool_shrink", {"n": 1}),
        ("pool_restart", {}),
        ("cancel_consumer", {"queue": "polling"}),
        ("add_consumer", {"queue": "elsewhere"}),
        ("revoke", {"task_id": "1", "terminate": True}),
        ("rate_limit", {"task_name": "r8scan.sweep", "rate_limit": "1/h"}),
        ("time_limit", {"task_name": "r8scan.sweep", "soft": 0.001, "hard": 0.001}),
    ):
        control.broadcast(command, arguments=arguments)
    assert control.ping(timeout=0.5) == [], "no worker listens to commands"
    service.await_look(service.known(fresh_token()))
    service.push(forged("r8scan.sweep", []), "elsewhere")
    service.await_look(service.known(fresh_token()))
    assert service.redis.llen("elsewhere") == 1


def test_unacknowledged_messages_in_redis_are_not_delivered(service: Service, fresh_token: Callable[[], str]) -> None:
    victim = service.known(fresh_token())
    message = forged(REMOVED_TASK, [[victim], "abuse_report"])
    for tag, kept in (("a", json.dumps([message, "", "polling"])), ("b", "not JSON"), ("c", "[]")):
        service.redis.hset("unacked", tag, kept)
        service.redis.zadd("unacked_index", {tag: 1.0})
    service.await_look(service.known(fresh_token()))
    assert not service.is_disabled(victim)
    assert service.count(Report) == 1
    assert service.redis.hlen("unacked") == 3, "the forged entries are not read, and none is added"


def test_keys_of_a_wrong_type_stop_no_worker_permanently(service: Service, fresh_token: Callable[[], str]) -> None:
    service.redis.delete("polling")
    service.redis.set("notifying", "no list")
    service.push(forged("r8scan.sweep", []))
    until(lambda: service.redis.llen("polling") == 0 or service.worker.poll() is not None, 30)
    service.redis.delete("notifying")
    service.await_look(service.known(fresh_token()))


def test_a_full_redis_stops_no_worker_permanently(service: Service, fresh_token: Callable[[], str]) -> None:
    try:
        with service.redis.pipeline(transaction=True) as full:
            for _ in range(5):
                full.lpush("responding", json.dumps(forged("r8scan.sweep", [])))
            full.config_set("maxmemory", "1")
            full.execute()
        until(lambda: service.redis.llen("responding") == 0 or service.worker.poll() is not None, 60)
    finally:
        service.redis.config_set("maxmemory", "0")
    service.await_look(service.known(fresh_token()))


def test_the_sweeper_decides_recorded_reports(service: Service, fresh_token: Callable[[], str]) -> None:
    digest = service.known(fresh_token())
    service.await_look(digest)
    assert service.is_disabled(digest)
    assert service.count(Notification) == 1


def test_expired_rows_are_deleted(service: Service, fresh_token: Callable[[], str]) -> None:
    service.reported(sha256_digest(fresh_token().encode()))
    with service.database.write() as session:
        session.execute(update(Report).values(state="unknown", received_at=db_now(-31 * 86400)))
    service.send("r8scan.tidy")
    until(lambda: service.count(Report) == 0, 30)


def test_every_task_that_exists_has_a_queue_and_only_polls_take_an_argument() -> None:
    from workers.celery import app

    app.loader.import_default_modules()
    ours = {name for name in app.tasks if not name.startswith("celery.")}
    assert ours == set(task_routes)
    assert set(ARGUMENTS) <= ours
    assert {route["queue"] for route in task_routes.values()} == {queue.name for queue in task_queues}


@pytest.mark.parametrize("task", sorted(task_routes))
def test_messages_of_r8scan_are_accepted(task: str) -> None:
    queue = task_routes[task]["queue"]
    args = ["gists"] if task in ARGUMENTS else []
    passed = checked(forged(task, args, headers={"expires": "2020-01-02T03:04:05+00:00"}), queue)
    assert json.loads(base64.b64decode(passed["body"]))[0] == args
    assert passed["headers"]["expires"] is None, "the sender's clock may be wrong"
    with pytest.raises(MessageRefused, match="does not belong"):
        checked(forged(task, args), "other")


def test_ticks_that_no_worker_consumes_do_not_fill_redis(redis_socket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"redis+socket://{redis_socket}?virtual_host={UNCONSUMED_HOST}"
    client = redis.Redis(unix_socket_path=redis_socket, db=UNCONSUMED_HOST)
    client.flushdb()
    before = client.info("memory")["used_memory"]
    monkeypatch.setattr("kombu.transport._transport_cache", {})  # another test may have filled this cache
    broker.install()
    with Celery("beat", broker=url, set_as_current=False).connection_for_write() as connection:
        producer = connection.Producer()
        for queue in task_queues:
            for number in range(MAX_WAITING + 50):
                message = [[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
                headers = {"task": "r8scan.poll", "id": str(number), "argsrepr": "x" * 300, "expires": "2026-11-30"}
                producer.publish(message, routing_key=queue.name, serializer="json", headers=headers)
    assert [client.llen(queue.name) for queue in task_queues] == [MAX_WAITING] * len(task_queues)
    kept = json.loads(client.lrange(task_queues[0].name, 0, 0)[0])
    assert kept["headers"]["id"] == str(MAX_WAITING + 49), "the newest messages are kept"
    assert client.info("memory")["used_memory"] - before < 1_000_000
    client.flushdb()
    client.close()

"""Reports by task, as another internal system sends them through the broker to a real worker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from celery import Celery
from sqlalchemy import MetaData, func, select, update

from scanner.detection import sha256_digest
from scanner.detection.digests import hint_of
from scanner.records import schema
from scanner.records.database import Database
from scanner.records.models import db_now
from scanner.records.sign_models import Report
from scanner.signs import reports
from scanner.signs.reports import Subject, new_report
from scanner.tokens import sql
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from workers.sandbox.world import until


@dataclass
class Service:
    database: Database
    sender: Celery
    log: Path

    def send(self, *arguments: object, task: str = "r8scan.report", **options: object) -> None:
        # As a system that knows nothing of us but the name of the task and its queue.
        self.sender.send_task(task, arguments, options, queue="responding", ignore_result=True)

    def known(self, token: str) -> str:
        digest = sha256_digest(token.encode())
        row = ImportedToken(digest, hint_of(token.encode()), "ci", "ana", ("ana@example.com",))
        with self.database.write() as session:
            ImportRun.begin().write(session, [row])
        return digest

    def is_disabled(self, digest: str) -> bool:
        with self.database.read() as session:
            return sql.look_up(session, [digest])[digest].disabled_at is not None

    def reports(self) -> int:
        with self.database.read() as session:
            return session.execute(select(func.count()).select_from(Report)).scalar_one()


@pytest.fixture
def service(tmp_path: Path, redis_socket: str) -> Iterator[Service]:
    database = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    schema.upgrade(database)
    broker = f"redis+socket://{redis_socket}?virtual_host=7"
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
    try:
        until(lambda: worker.poll() is not None or "reports@test ready" in log.read_text(), 60)
        with Celery("elsewhere", broker=broker) as sender:
            yield Service(database, sender, log)
    finally:
        worker.kill()
        worker.wait()
        database.close()


def test_digests_are_disabled_and_a_second_message_is_idle(service: Service, fresh_token: Callable[[], str]) -> None:
    digests = [service.known(fresh_token()) for _ in range(3)]
    service.send(digests, "abuse_report", "a note", "billing")
    service.send(digests, "abuse_report", "a note", "billing")
    until(lambda: all(service.is_disabled(digest) for digest in digests), 30)
    service.send([service.known(fresh_token())], sign="stolen_laptop", note="another", reporter="billing", key="1")
    until(lambda: service.reports() == 4, 30)


def test_what_is_wrong_is_refused_as_a_whole_and_never_logged(service: Service, fresh_token: Callable[[], str]) -> None:
    token, good = fresh_token(), service.known(fresh_token())
    service.send([good, token], "abuse_report")
    service.send(token, "abuse_report")
    service.send([good], token)
    service.send([good], "abuse_report", 3)
    service.send([good], "abuse_report", "", f"{token}!")
    service.send([good], "abuse_report", "", 3)
    until(lambda: service.log.read_text().count("was refused as a whole") == 6, 30)
    assert service.reports() == 0
    assert "position 2" in service.log.read_text()
    service.send([good], "abuse_report", f"it is {token}", "billing", token)
    until(lambda: service.is_disabled(good), 30)
    tables = MetaData()
    tables.reflect(service.database.engine)
    with service.database.engine.connect() as connection:
        rows = [str(row) for table in tables.sorted_tables for row in connection.execute(select(table))]
    assert token[8:30] not in "\n".join(rows) + service.log.read_text()


def test_the_sweeper_decides_what_was_only_recorded(service: Service, fresh_token: Callable[[], str]) -> None:
    digest = service.known(fresh_token())
    reports.record(service.database, [new_report(Subject(digest), sign="abuse_report", note="", reporter="soc")])
    service.send(task="r8scan.sweep")
    until(lambda: service.is_disabled(digest), 30)


def test_what_is_old_is_tidied_away(service: Service, fresh_token: Callable[[], str]) -> None:
    digest = sha256_digest(fresh_token().encode())
    reports.record(service.database, [new_report(Subject(digest), sign="abuse_report", note="", reporter="soc")])
    with service.database.write() as session:
        session.execute(update(Report).values(state="unknown", received_at=db_now(-31 * 86400)))
    service.send(task="r8scan.tidy")
    until(lambda: service.reports() == 0, 30)

"""Tests that the status reports processes that have ended, hang or take no messages."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import delete, event, text

from scanner.records import heartbeats
from scanner.records.database import Database
from scanner.records.health_models import Heartbeat
from scanner.records.models import ApiToken, db_now
from scanner.records.source_models import SourceState
from scanner.settings import Settings, load_settings
from tests.workers.health.alive import ROLES, process, seen
from workers.health.overview import overview
from workers.health.problems import Kind, Problem
from workers.health.processes import NAMES
from workers.queues import QUEUES


@pytest.fixture
def settings(redis_socket: str) -> Settings:
    return load_settings(
        sources="public_events",
        # The processes of this test are only rows in the database, so they cannot plant test tokens (canaries).
        canaries=False,
        redis_url=f"redis+socket://{redis_socket}?virtual_host=7",
        smtp_url="smtp://127.0.0.1:1",
        email_from="r8scan@vendor.example",
        operator_email="ops@vendor.example",
    )


@pytest.fixture(autouse=True)
def _known_token(database: Database) -> None:
    with database.write() as session:
        session.add(ApiToken(digest="1" * 64))


@pytest.fixture
def polled(database: Database) -> Database:
    with database.write() as session:
        session.add(SourceState(source="public_events", next_poll_at=db_now(60), last_success_at=db_now(-5)))
        seen(session)
    return database


def problems(database: Database, settings: Settings) -> list[Problem]:
    return overview(database, settings).problems


def test_a_service_in_which_every_process_was_seen_has_no_problem(polled: Database, settings: Settings) -> None:
    assert problems(polled, settings) == []


@pytest.mark.parametrize("role", ROLES)
def test_a_process_that_was_not_seen_for_thirty_seconds_is_the_only_problem_until_it_is_seen_again(
    polled: Database, settings: Settings, role: str
) -> None:
    with polled.write() as session:
        session.add(SourceState(source="gists", next_poll_at=db_now(-900), last_success_at=db_now(-900)))
        seen(session, role, silent_seconds=31)
    found = problems(polled, settings)
    assert [one.kind for one in found] == [Kind.PROCESS_SILENT]
    assert found[0].sentence.startswith(f"{NAMES.get(role, f'the {role}')} (host-1, process 1) was seen 31 s ago")
    assert (role == "beat") is found[0].sentence.endswith(", so nothing is polled")
    assert found[0].since is not None
    for queue, consumer in QUEUES.items():
        assert (queue in found[0].sentence) == (consumer == role)
    with polled.write() as session:
        seen(session, role)
    assert problems(polled, settings) == []


def test_a_process_that_was_started_again_on_its_host_takes_the_place_of_the_killed_one(
    polled: Database, settings: Settings
) -> None:
    with polled.write() as session:
        seen(session, "scanner", silent_seconds=40)
        seen(session, "scanner", age_seconds=35, pid=2)
    assert problems(polled, settings) == []


def test_of_two_scanners_the_killed_one_is_named_for_an_hour(polled: Database, settings: Settings) -> None:
    with polled.write() as session:
        seen(session, "scanner", age_seconds=9000)
        seen(session, "scanner", silent_seconds=3000, age_seconds=9000, pid=2)
    (problem,) = problems(polled, settings)
    assert problem.subject == "scanner host-1 2"
    assert "no other process" not in problem.sentence
    with polled.write() as session:
        seen(session, "scanner", silent_seconds=3700, age_seconds=9000, pid=2)
    assert problems(polled, settings) == [], "the process was removed on purpose"


def test_a_queue_that_nobody_ever_consumed_is_named(polled: Database, settings: Settings) -> None:
    with polled.write() as session:
        heartbeats.remove(session, process("rescanner"))
        heartbeats.remove(session, process("beat"))
    assert [(one.kind, one.subject) for one in problems(polled, settings)] == [
        (Kind.PROCESS_SILENT, "beat"),
        (Kind.QUEUE_WITHOUT_CONSUMER, "rescans"),
    ]


def test_a_service_that_does_not_run_is_the_problem_and_not_github(database: Database) -> None:
    settings = load_settings(sources="public_events", smtp_url="smtp://x", operator_email="o@v.example")
    settings = settings.model_copy(update={"email_from": "r8scan@vendor.example"})
    with database.write() as session:
        stale = {"cursor": {"is_stale": True}, "newest_seen_at": db_now(-3600)}
        session.add(SourceState(source="public_events", next_poll_at=db_now(-900), **stale))
    assert [one.kind for one in problems(database, settings)] == [Kind.NOT_RUNNING]
    with database.write() as session:
        seen(session, silent_seconds=600)
    (problem,) = problems(database, settings)
    assert (problem.kind, problem.sentence) == (Kind.NOT_RUNNING, "no worker runs, the last was seen 10 minutes ago")


def test_an_unavailable_redis_is_named_and_not_the_workers(
    polled: Database, settings: Settings, tmp_path: Path
) -> None:
    away = settings.model_copy(update={"redis_url": type(settings.redis_url)(f"redis+socket://{tmp_path}/no.sock")})
    with polled.write() as session:
        seen(session, silent_seconds=45)
    assert [one.kind for one in problems(polled, away)] == [Kind.REDIS_AWAY]
    assert {one.kind for one in problems(polled, settings)} == {Kind.PROCESS_SILENT}, "Redis answers"


@pytest.fixture
def read_only(polled: Database) -> Database:
    with polled.write() as session:
        seen(session, silent_seconds=45)
    if polled.is_postgresql:
        name = polled.url.database
        with polled.write() as session:
            session.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    else:
        event.listen(polled.engine, "connect", lambda connection, _: connection.execute("PRAGMA query_only=ON"))
    polled.close()  # the next connection will be read-only
    return polled


def test_a_database_that_refuses_writes_is_named_and_not_the_processes_that_cannot_write(
    read_only: Database, settings: Settings
) -> None:
    (problem,) = problems(read_only, settings)
    assert problem.kind == Kind.DATABASE_READ_ONLY
    assert "read" in problem.sentence


@pytest.mark.parametrize(("revision", "words"), [("0003", "older"), ("9999", "newer")])
def test_a_database_of_another_version_is_one_problem(
    polled: Database, settings: Settings, revision: str, words: str
) -> None:
    with polled.write() as session:
        session.execute(text(f"UPDATE alembic_version SET version_num = '{revision}'"))
    (problem,) = problems(polled, settings)
    assert problem.kind == Kind.DATABASE_VERSION
    assert words in problem.sentence


def test_a_database_without_tables_says_what_to_run(postgresql_url: str, settings: Settings, tmp_path: Path) -> None:
    for url in (postgresql_url, f"sqlite:///{tmp_path}/empty.db"):
        database = Database(url)
        (problem,) = problems(database, settings)
        database.close()
        assert (problem.kind, problem.todo) == (Kind.DATABASE_VERSION, "run r8scan db upgrade")


def test_an_unavailable_database_is_the_first_problem(settings: Settings, tmp_path: Path) -> None:
    database = Database(f"postgresql://nobody@/none?host={tmp_path}")
    found = problems(database, settings)
    assert [one.kind for one in found] == [Kind.DATABASE_AWAY]


def test_processes_of_two_versions_are_named(polled: Database, settings: Settings) -> None:
    with polled.write() as session:
        heartbeats.write(session, process("web", version="0.0.1"), silent_seconds=0, age_seconds=60)
    (problem,) = problems(polled, settings)
    assert problem.kind == Kind.MIXED_VERSIONS
    assert "0.0.1" in problem.sentence


def test_rows_of_processes_that_never_came_back_are_deleted_after_a_month(polled: Database) -> None:
    with polled.write() as session:
        session.execute(delete(Heartbeat))
        seen(session, "beat", silent_seconds=31 * 86400)
        seen(session, "poller", silent_seconds=29 * 86400)
        heartbeats.purge_expired(session)
        assert [row.role for row in session.query(Heartbeat)] == ["poller"]


def test_missing_processes_are_no_problem_for_a_minute_after_the_start_of_the_service_here(
    database: Database, settings: Settings
) -> None:
    def found() -> tuple[list[Kind], bool]:
        state = overview(database, settings)
        return [one.kind for one in state.problems], state.starting_seconds is not None

    lock = settings.state_dir / "run.lock"
    lock.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    for content in ("", "no number", str(2**22 + 1)):  # the last one is larger than any process id
        lock.write_text(content)
        assert found() == ([Kind.NOT_RUNNING], False)
    lock.write_text(str(os.getpid()))
    assert found() == ([], True)
    os.utime(lock, (time.time() - 61,) * 2)
    assert found() == ([Kind.NOT_RUNNING], False)
    lock.write_text(str(os.getpid()))
    with database.write() as session:
        session.add(SourceState(source="public_events", next_poll_at=db_now(60), last_success_at=db_now(-5)))
        seen(session)
    assert found() == ([], False), "all processes run"

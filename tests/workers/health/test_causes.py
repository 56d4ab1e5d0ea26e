"""Tests that the status names the cause of a fault, for example a full Redis or a wrong clock."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import pytest
import redis
from sqlalchemy import delete, update

from scanner.records import heartbeats
from scanner.records.database import Database
from scanner.records.health_models import Heartbeat
from scanner.records.models import Notification, db_now
from scanner.records.outbox import MAIL_SERVER_DOWN
from scanner.records.source_models import BudgetState, ResourceRate
from scanner.records.states import Channel, NotificationState
from scanner.settings import load_settings
from tests.servers import redis_server
from tests.workers.health.alive import HOST, process, seen
from workers.health.overview import overview
from workers.health.problems import Kind, Problem


def named(database: Database, kind: Kind, **settings: Any) -> list[Problem]:
    return [one for one in overview(database, load_settings(**settings)).problems if one.kind == kind]


def test_a_full_redis_is_not_reported_as_unavailable(database: Database) -> None:
    with database.write() as session:
        seen(session)
        session.execute(delete(Heartbeat).where(Heartbeat.role == "beat"))
    with redis_server() as path, closing(redis.Redis(unix_socket_path=path)) as client:
        url = f"redis+socket://{path}"
        assert named(database, Kind.REDIS_AWAY, redis_url=url) == []
        client.config_set("maxmemory", 1)
        (found,) = named(database, Kind.REDIS_AWAY, redis_url=url)
    assert found.sentence.startswith("Redis is full")


def test_a_mail_server_that_refuses_mails_is_named_with_its_answer_until_a_mail_is_sent(database: Database) -> None:
    values = {"channel": Channel.EMAIL, "merge_key": "a", "recipient": "ana@example.com", "message_id": "<a@b>"}
    error = f"{MAIL_SERVER_DOWN}mail.example.com refused the login (535)"
    with database.write() as session:
        session.add(
            Notification(
                state=NotificationState.FROZEN,
                attempts=1,
                next_attempt_at=db_now(60),
                created_at=db_now(-31),
                error=error,
                **values,
            )
        )
    (found,) = named(database, Kind.MESSAGE_WAITS)
    assert found.sentence == f"{error}; 1 mail waits"
    with database.write() as session:
        session.execute(update(Notification).values(error="mail.example.com refused the recipient: greylisted"))
    assert named(database, Kind.MESSAGE_WAITS) == [], "one recipient may be deferred for minutes"


def test_gateways_that_wait_are_named_beside_a_mail_server_that_refuses_mails(database: Database) -> None:
    def message(channel: Channel, error: str) -> Notification:
        values = {"merge_key": channel.value, "recipient": "x", "message_id": f"<{channel}@b>", "attempts": 1}
        times = {"next_attempt_at": db_now(60), "created_at": db_now(-3600)}
        return Notification(channel=channel, state=NotificationState.FROZEN, error=error, **values, **times)

    with database.write() as session:
        session.add_all(
            [
                message(Channel.EMAIL, f"{MAIL_SERVER_DOWN}mail.example.com refused the login (535)"),
                message(Channel.WEBHOOK, "the gateway answers 503"),
            ]
        )
    found = named(database, Kind.MESSAGE_WAITS)
    assert [one.subject for one in found] == [Channel.EMAIL, Channel.WEBHOOK]
    assert found[1].sentence == "the oldest message (webhook) has waited for 60 minutes"


@pytest.mark.parametrize(("seconds", "remaining", "number"), [(1800, 0, 1), (1800, 1, 0), (60, 0, 0), (-1, 0, 0)])
def test_a_quota_that_is_used_up_for_long_is_named(
    database: Database, seconds: float, remaining: int, number: int
) -> None:
    values = {
        "credential": "R8SCAN_GITHUB_TOKEN",
        "resource": "core",
        "limit": 5000,
        "remaining": remaining,
        "reason": "",
    }
    with database.write() as session:
        session.add(BudgetState(resets_at=db_now(seconds), updated_at=db_now(), **values))
    found = named(database, Kind.REQUESTS_LIMITED)
    assert len(found) == number
    assert all("is used up: requests wait for 30 minutes" in one.sentence for one in found)


def test_all_limits_of_github_are_one_problem_with_one_remedy(database: Database) -> None:
    quota = {"credential": "none", "limit": 60, "remaining": 0, "reason": ""}
    rate = {"per_second": 0.5, "asked": 0, "measured_per_second": 0.4, "refusals": 3}
    times = dict.fromkeys(("next_slot_at", "window_began_at", "refused_at"), db_now())
    with database.write() as session:
        for resource, seconds in (("core", 1800), ("graphql", 2400)):
            session.add(BudgetState(resource=resource, resets_at=db_now(seconds), updated_at=db_now(), **quota))
        session.add(ResourceRate(credential="none", resource="git", **rate, **times))
    (found,) = named(database, Kind.REQUESTS_LIMITED)
    assert found.key == "requests_limited"
    assert found.sentence == (
        "GitHub's quotas core, graphql of anonymous requests are used up: requests wait for up to 40 minutes; GitHub"
        " limits git requests: pushes wait, and 0.5 a second are read"
    )
    assert found.todo.startswith("set R8SCAN_GITHUB_TOKEN or a GitHub App")


def test_a_clock_that_is_off_by_a_day_is_named(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    assert named(database, Kind.CLOCK_OFF) == []
    real = time.time
    monkeypatch.setattr("workers.health.machine.time.time", lambda: real() + 86400)
    (found,) = named(database, Kind.CLOCK_OFF)
    assert "24 hours ahead of the database's" in found.sentence


@pytest.mark.parametrize(("ahead", "words"), [(86400.0, "24 hours ahead of"), (-8000.0, "2 hours behind")])
def test_the_clock_of_another_host_is_compared_with_the_databases(database: Database, ahead: float, words: str) -> None:
    def write(silent_seconds: float, ahead: float) -> list[Problem]:
        with database.write() as session:
            seen(session)
            one = process("scanner", pid=2)
            heartbeats.write(session, one, silent_seconds=silent_seconds, age_seconds=60, clock=time.time() + ahead)
        return named(database, Kind.CLOCK_OFF)

    assert write(0, 1) == []
    (found,) = write(0, ahead)
    assert found.key == f"clock_off:{HOST}"
    assert found.sentence == f"the clock of {HOST} is {words} the database's"
    assert write(31, ahead) == [], "a process that is silent says nothing about the present clock"

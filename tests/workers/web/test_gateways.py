"""Tests for `GET /disabled`, from which API gateways learn which tokens were disabled."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr
from sqlalchemy import update

from scanner.records import announcements
from scanner.records.announcement_models import Announcement
from scanner.records.announcements import SETTLED_SECONDS, DisabledToken
from scanner.records.database import Database
from scanner.records.models import db_now
from scanner.records.states import Cause
from scanner.settings import Settings, load_settings
from tests.workers.web.conftest import Serve
from workers.context import Context
from workers.sandbox import gateway
from workers.sandbox.gateway import Cache
from workers.web import gateways

KEY = "a-key-of-the-gateways"
HEADERS = {"Authorization": f"Bearer {KEY}"}
AT = datetime(2026, 11, 3, tzinfo=UTC)

ContextOf = Callable[[], Context]


@pytest.fixture
def context(database: Database) -> Context:
    settings: Settings = load_settings(
        gateway_key=SecretStr(KEY), database_url=SecretStr(database.url.render_as_string(hide_password=False))
    )
    server_context = Context(settings)
    server_context.__dict__["database"] = database
    return server_context


def announce(database: Database, *digests: str) -> None:
    with database.write() as session:
        announcements.announce(session, [DisabledToken(one, "7", Cause.OPERATOR, AT) for one in digests], ())


def age(database: Database, seconds: float) -> None:
    with database.write() as session:
        session.execute(update(Announcement).values(announced_at=db_now(-seconds)))


def test_a_gateway_catches_up_after_an_outage(database: Database, context: Context, serve: Serve) -> None:
    client = serve(gateways.routes(context))
    cache = Cache(lambda digest: True)
    cursor = gateway.catch_up(cache, client, None, HEADERS)
    for letter in "abc":
        cache.answers(letter * 64)
    announce(database, "a" * 64, "b" * 64)
    cursor = gateway.catch_up(cache, client, cursor, HEADERS)
    assert set(cache.entries) == {"c" * 64}
    age(database, SETTLED_SECONDS + 1)
    cursor = gateway.catch_up(cache, client, cursor, HEADERS)
    cache.answers("a" * 64)
    gateway.catch_up(cache, client, cursor, HEADERS)
    assert set(cache.entries) == {"a" * 64, "c" * 64}


def test_a_gateway_that_was_unavailable_too_long_forgets_everything(
    database: Database, context: Context, serve: Serve
) -> None:
    client = serve(gateways.routes(context))
    cache = Cache(lambda digest: True)
    cache.answers("c" * 64)
    announce(database, "a" * 64)
    age(database, 31 * 86400)
    announce(database, "b" * 64)
    with database.write() as session:
        announcements.purge_expired(session)
    age(database, SETTLED_SECONDS + 1)
    with database.read() as session:
        newest = announcements.list_after(session, None).next_cursor
    assert client.get("/disabled", params={"after": 1}, headers=HEADERS).status_code in (200, 410)
    assert client.get("/disabled", params={"after": newest + 5}, headers=HEADERS).status_code == 410
    assert gateway.catch_up(cache, client, newest + 5, HEADERS) == newest
    assert cache.entries == {}


@pytest.mark.parametrize("after", ["", "-1", "1.5", "x", "9" * 19, "１"])
def test_a_malformed_cursor_is_refused(context: Context, serve: Serve, after: str) -> None:
    answer = serve(gateways.routes(context)).get("/disabled", params={"after": after}, headers=HEADERS)
    assert answer.status_code == 400
    assert "after" in answer.json()["error"]


def test_a_request_without_the_key_is_refused(context: Context, serve: Serve) -> None:
    client = serve(gateways.routes(context))
    assert client.get("/disabled").status_code == 401
    assert client.get("/disabled", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_without_a_key_in_the_settings_the_endpoint_does_not_exist() -> None:
    assert gateways.routes(Context(load_settings())) == []

"""Tests for the HTTP endpoints that receive reports, usage records and found tokens."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import MetaData, func, select
from sqlalchemy.exc import OperationalError

from scanner.compromise import settling
from scanner.detection import sha256_digest
from scanner.detection.patterns.token_formats import hint_of
from scanner.records.audit_models import AuditEntry
from scanner.records.compromise_models import Report
from scanner.records.database import Database
from scanner.records.models import Incident
from scanner.records.usage_models import UsageHour
from scanner.settings import load_settings
from scanner.tokens import sql
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from tests.scanner.compromise.conftest import logged  # noqa: F401 - the same fixture
from tests.workers.web.conftest import Serve
from workers.context import Context
from workers.sandbox.world import until
from workers.web import reports as web

KEY = "a key of internal systems"
HEADERS = {"Authorization": f"Bearer {KEY}"}


@pytest.fixture
def context(database: Database) -> Iterator[Context]:
    """Yield the objects that all requests share, and close them after the server has stopped."""
    settings = load_settings(
        database_url=SecretStr(database.url.render_as_string(hide_password=False)),
        redis_url=SecretStr("redis+socket:///nowhere/redis.sock"),
        report_key=SecretStr(KEY),
    )
    server_context = Context(settings)
    yield server_context
    server_context.close()


@pytest.fixture
def client(context: Context, serve: Serve) -> httpx.Client:
    return serve(web.routes(context))


@pytest.fixture
def ours(database: Database, fresh_token: Callable[[], str]) -> str:
    token = fresh_token()
    row = ImportedToken(sha256_digest(token.encode()), hint_of(token.encode()), "ci", "ana", ("ana@example.com",))
    with database.write() as session:
        ImportRun.begin().write(session, [row])
    return token


def is_disabled(database: Database, token: str) -> bool:
    digest = sha256_digest(token.encode())
    with database.read() as session:
        return sql.look_up(session, [digest])[digest].disabled_at is not None


def count(database: Database, model: type) -> int:
    with database.read() as session:
        return session.execute(select(func.count()).select_from(model)).scalar_one()


def test_valid_reports_disable_their_tokens_and_invalid_ones_are_named(
    client: httpx.Client, database: Database, ours: str
) -> None:
    given = [
        {"token": ours, "sign": "stolen_laptop", "note": "4711", "key": "case-1"},
        {"digest": "a" * 64, "sign": "abuse_report"},
        {"digest": "a" * 63, "sign": "abuse_report"},
        {"digest": "b" * 64, "token": ours, "sign": "abuse_report"},
        "nonsense",
    ]
    answer = client.post("/reports", json={"reports": given}, headers=HEADERS)
    assert answer.status_code == 200
    told = answer.json()
    assert (told["recorded"], told["decisions"]) == (2, {"disabled": 1, "unknown": 1})
    assert [bad["index"] for bad in told["bad"]] == [2, 3, 4]
    assert is_disabled(database, ours)
    again = client.post("/reports", json={"reports": given[:1]}, headers=HEADERS).json()
    assert (again["recorded"], again["repeated"]) == (0, 1)
    with database.read() as session:
        (entry,) = session.query(AuditEntry).filter_by(what="reports_received")
        evidence = {"tokens": 2, "sign": "abuse_report, stolen_laptop", "note": "4711"}
        assert (entry.who, entry.evidence) == ("api", evidence)


@pytest.mark.parametrize("authorization", ["", "Bearer x", f"Basic {KEY}", "Bearer", "Bearer \xe9", f"Bearer {KEY}x"])
def test_without_the_key_every_request_is_refused(client: httpx.Client, database: Database, authorization: str) -> None:
    headers = {b"Authorization": authorization.encode("latin-1")}
    body = {"reports": [{"digest": "a" * 64, "sign": "x"}]}
    assert client.post("/reports", json=body, headers=headers).status_code == 401
    assert client.post("/usage", content="{}", headers=headers).status_code == 401
    assert count(database, Report) == 0


def test_without_a_key_in_the_settings_the_endpoints_do_not_exist(database: Database) -> None:
    context = Context(load_settings(database_url=SecretStr(database.url.render_as_string(hide_password=False))))
    assert [route.path for route in web.routes(context)] == ["/leaked-token"]


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[]", b"{}", b'{"reports": []}', b"[" * 100_000, b"\xff"])
def test_a_malformed_report_is_refused(client: httpx.Client, body: bytes) -> None:
    answer = client.post("/reports", content=body, headers=HEADERS)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}


def test_the_size_of_bodies_is_limited(client: httpx.Client) -> None:
    bounds = {"/reports": web.REPORTS_BYTES, "/usage": web.USAGE_BYTES, "/leaked-token": web.POSSESSION_BYTES}
    for path, longest in bounds.items():
        assert client.post(path, content=b" " * (longest + 1), headers=HEADERS).status_code == 413


def test_a_body_of_more_lines_than_usage_can_have_is_refused_before_it_is_read(client: httpx.Client) -> None:
    answer = client.post("/usage", content=b"\n" * (web.MAX_USAGE_LINES + 1), headers=HEADERS)
    assert (answer.status_code, "lines" in answer.text) == (413, True)


def test_a_body_of_too_many_bad_lines_is_refused_and_nothing_is_stored(
    client: httpx.Client, database: Database, ours: str
) -> None:
    record = json.dumps({"token": ours, "time": datetime.now(UTC).isoformat()})
    answer = client.post("/usage", content=record + "\nx" * (web.MAX_BAD_LINES + 1), headers=HEADERS)
    assert (answer.status_code, "nothing was stored" in answer.text) == (413, True)
    with database.read() as session:
        assert session.execute(select(UsageHour)).first() is None
    answer = client.post("/usage", content=record + "\nx" * web.MAX_BAD_LINES, headers=HEADERS)
    assert (answer.status_code, answer.json()["records"]) == (200, 1)


def test_usage_records_are_added_up(client: httpx.Client, database: Database, ours: str) -> None:
    now = datetime.now(UTC).isoformat()
    lines = [json.dumps({"token": ours, "time": now, "ip": "203.0.113.7", "country": "DE"})] * 3
    answer = client.post("/usage", content="\n".join([*lines, "nonsense", "x" * 10_000]), headers=HEADERS)
    assert answer.json() == {"records": 3, "bad": 2, "bad_lines": [4, 5]}
    with database.read() as session:
        row = session.execute(select(UsageHour)).scalar_one()
        assert (row.digest, row.count, row.networks) == (sha256_digest(ours.encode()), 3, ["203.0.113.0/24"])


def test_usage_that_is_sent_again_with_its_key_is_added_once(
    client: httpx.Client, database: Database, ours: str
) -> None:
    body = json.dumps({"token": ours, "time": datetime.now(UTC).isoformat()})
    keyed = {**HEADERS, "Idempotency-Key": "batch 4711"}
    answers = [client.post("/usage", content=body, headers=keyed).json() for _ in range(2)]
    assert [answer["repeated_tokens"] for answer in answers] == [0, 1]
    client.post("/usage", content=body, headers={**HEADERS, "Idempotency-Key": "batch 4712"})
    with database.read() as session:
        assert session.execute(select(UsageHour.count)).scalar_one() == 2
    refused = client.post("/usage", content=body, headers={**HEADERS, "Idempotency-Key": "k" * 201})
    assert (refused.status_code, count(database, UsageHour)) == (400, 1)


def test_stored_usage_is_accepted_even_if_deciding_fails(
    client: httpx.Client, database: Database, ours: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object, **__: object) -> None:
        raise OperationalError("", None, Exception("away"))

    monkeypatch.setattr(settling, "settle", away)
    body = json.dumps({"token": ours, "time": datetime.now(UTC).isoformat()})
    assert client.post("/usage", content=body, headers=HEADERS).status_code == 200
    assert count(database, UsageHour) == 1


def test_a_found_token_is_disabled_and_the_answer_is_the_same_for_any_token(
    client: httpx.Client, database: Database, ours: str, fresh_token: Callable[[], str]
) -> None:
    first = client.post("/leaked-token", json={"token": ours, "url": "https://github.com/a/b"})
    second = client.post("/leaked-token", json={"token": fresh_token()})
    again = client.post("/leaked-token", json={"token": ours, "url": "https://github.com/a/b"})
    assert first.status_code == second.status_code == again.status_code == 202
    assert first.content == second.content == again.content
    until(lambda: is_disabled(database, ours), 30)
    with database.read() as session:
        assert session.execute(select(Incident.cause)).scalar_one() == "public_repository"


def test_a_found_token_in_a_form_is_accepted(client: httpx.Client, database: Database, ours: str) -> None:
    body = urlencode({"token": f" {ours} "})
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    assert client.post("/leaked-token", content=body, headers=headers).status_code == 202
    until(lambda: is_disabled(database, ours), 30)
    assert client.post("/leaked-token", content="a=b&" * 100, headers=headers).status_code == 400


def test_a_list_of_tokens_gets_the_same_answer_as_one_token(
    client: httpx.Client, database: Database, ours: str, fresh_token: Callable[[], str]
) -> None:
    one = client.post("/leaked-token", json={"token": fresh_token()})
    bodies: list[list[object]] = [
        [fresh_token(), ours, {"token": fresh_token(), "url": "https://paste.example/x"}, "no token"],
        [fresh_token() for _ in range(900)],
        [{"token": fresh_token()}],
    ]
    for body in bodies:
        answer = client.post("/leaked-token", json=body)
        assert (answer.status_code, answer.content) == (202, one.content)
    until(lambda: is_disabled(database, ours), 30)
    until(lambda: count(database, Report) == 905, 30)


@pytest.mark.parametrize(
    ("body", "status"), [([], 400), (["x"] * 1001, 413), (["x"], 400), ([3], 400), ([["x"]], 400), ("x", 400)]
)
def test_a_malformed_or_too_long_list_is_refused(
    client: httpx.Client, database: Database, body: object, status: int
) -> None:
    assert client.post("/leaked-token", json=body).status_code == status
    assert count(database, Report) == 0


def test_tokens_in_lists_are_counted_one_by_one(client: httpx.Client, fresh_token: Callable[[], str]) -> None:
    statuses = [client.post("/leaked-token", json=[fresh_token() for _ in range(600)]).status_code for _ in range(2)]
    assert statuses == [202, 429]


@pytest.mark.parametrize("body", [{}, {"token": 3}, {"token": "x"}, {"token": "x", "url": []}, []])
def test_a_malformed_token_is_refused(client: httpx.Client, database: Database, body: object) -> None:
    assert client.post("/leaked-token", json=body).status_code == 400
    assert count(database, Report) == 0


def test_a_client_above_its_rate_is_refused(client: httpx.Client, fresh_token: Callable[[], str]) -> None:
    for _ in range(25):
        answer = client.post("/leaked-token", json={"token": fresh_token()})
        if answer.status_code == 429:
            break
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "60"


def test_an_unavailable_database_is_reported_without_details(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "r8scan.db"
    path.write_bytes(b"this is no database, however long it is looked at" * 100)
    context = Context(load_settings(database_url=SecretStr(f"sqlite:///{path}"), report_key=SecretStr(KEY)))
    report = {"digest": "a" * 64, "sign": "x"}
    answer = serve(web.routes(context)).post("/reports", json={"reports": [report]}, headers=HEADERS)
    assert (answer.status_code, answer.json()) == (503, {"error": "try again later"})
    context.database.close()


def test_no_raw_token_is_stored_or_returned(
    client: httpx.Client,
    database: Database,
    ours: str,
    fresh_token: Callable[[], str],
    logged: io.StringIO,  # noqa: F811
) -> None:
    other = fresh_token()
    now = datetime.now(UTC).isoformat()
    report = {"token": ours, "sign": "abuse_report", "note": f"see {other}", "key": other}
    answers = [
        client.post("/reports", json={"reports": [report, {**report, "sign": other}]}, headers=HEADERS),
        client.post("/usage", content=json.dumps({"token": other, "time": now, "user_agent": ours}), headers=HEADERS),
        client.post("/leaked-token", json={"token": other, "url": f"https://paste.example/{ours}"}),
        client.post("/leaked-token", json={"token": other + other}),
        client.post("/leaked-token", json={"token": other, "url": f"http://{ours}"}),
    ]
    tables = MetaData()
    tables.reflect(database.engine)
    with database.engine.connect() as connection:
        rows = [str(row) for table in tables.sorted_tables for row in connection.execute(select(table))]
    everywhere = "\n".join([*rows, *(answer.text for answer in answers), logged.getvalue()])
    for raw in (ours, other):
        assert raw[8:30] not in everywhere

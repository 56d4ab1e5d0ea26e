"""Tests that a user must sign in to the console, and may then do only what the role allows."""

from __future__ import annotations

import http.client
import re
import socket
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import select, update

from scanner.records.audit_models import AuditEntry
from scanner.records.console_models import ConsoleSession, ConsoleUser
from scanner.records.database import Database
from scanner.records.models import Incident, db_now
from scanner.records.states import IncidentState, Role
from tests.workers.web.console.conftest import (
    FROM_HERE,
    PASSWORD,
    client_of,
    context_of,
    newest_incident,
    sign_in,
)
from workers.context import Context
from workers.web import bodies
from workers.web.bodies import BodyBudget
from workers.web.console import mount, rendering, serving, users
from workers.web.console.protections import local_path
from workers.web.console.users import BadUser
from workers.web.rates import Rate

OPEN_PATHS = {
    "/",
    "/console",
    "/console/sign-in",
    "/console/static/{version}/{name}",
}
FOR_VIEWERS = {
    *("/console/sign-out", "/console/incidents/search", "/console/tokens/search", "/console/audit/verify"),
}
"""The forms that viewers may use, because these forms change nothing."""
SOME_ID = "00000000-0000-4000-8000-000000000000"


def addresses(context: Context, method: str) -> list[str]:
    routes = mount.routes(context, BodyBudget())
    paths = [route.path for route in routes if method in (route.methods or ()) and route.path not in OPEN_PATHS]
    assert paths
    return [re.sub(r"\{id\}", SOME_ID, re.sub(r"\{rest:path\}", "no/such/page", path)) for path in paths]


def test_without_a_session_every_page_leads_to_the_sign_in(client: httpx.Client, context: Context) -> None:
    for address in addresses(context, "GET"):
        answer = client.get(address)
        assert answer.status_code == 303, address
        assert answer.headers["Location"].startswith("/console/sign-in?next=%2Fconsole%2F"), address


def test_without_a_session_no_action_is_executed(client: httpx.Client, context: Context) -> None:
    for address in addresses(context, "POST"):
        answer = client.post(address, data={"reason": "mine"})
        assert (answer.status_code, answer.headers["Location"]) == (303, "/console/sign-in"), address


def test_a_viewer_can_change_nothing(viewer: httpx.Client, context: Context) -> None:
    for address in addresses(context, "POST"):
        if address in FOR_VIEWERS:
            continue
        assert viewer.post(address, data={"reason": "mine"}).status_code == 403, address
    page = viewer.get(f"/console/incidents/{newest_incident(context)}").text
    assert "<form" not in page.replace('<form method="post" action="/console/sign-out">', "")


FOREIGN: tuple[dict[str, str], ...] = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "none"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://127.0.0.1"},
    {"Sec-Fetch-Site": "", "Origin": "http://elsewhere.example"},
    {"Origin": "http://elsewhere.example"},
    {"Origin": "null"},
    {},
)


def test_a_form_that_another_site_sends_is_refused(operator: httpx.Client, context: Context) -> None:
    del operator.headers["Sec-Fetch-Site"]
    one = newest_incident(context, state=IncidentState.OPEN)
    for headers in FOREIGN:
        for address in (f"/console/incidents/{one}/close", "/console/sign-in", "/console/sign-out"):
            assert operator.post(address, data={"reason": "mine"}, headers=headers).status_code == 403, headers


def test_without_fetch_metadata_the_origin_has_to_be_this_host(operator: httpx.Client, context: Context) -> None:
    del operator.headers["Sec-Fetch-Site"]
    one = newest_incident(context, state=IncidentState.OPEN)
    origin = {"Origin": str(operator.base_url).rstrip("/")}
    answer = operator.post(f"/console/incidents/{one}/close", data={"reason": "mine"}, headers=origin)
    assert answer.headers["Location"] == f"/console/incidents/{one}?said=closed"


def test_a_forged_cookie_is_refused_without_a_query(
    client: httpx.Client, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(client, "ana")
    client.cookies.clear()
    monkeypatch.setattr(context.database, "read", lambda: pytest.fail("the database was asked"))
    for cookie in ("x", "x.y", "." * 50, "a" * 5000, f"{'a' * 43}.{'0' * 64}", "' OR 1=1 --.00"):
        answer = client.get("/console/incidents", headers={"Cookie": f"r8scan={cookie}"})
        assert answer.status_code == 303, cookie


def test_a_session_ends_with_sign_out_time_idleness_and_a_changed_credential(
    context: Context, own_database: Database
) -> None:
    def expire() -> None:
        with own_database.write() as session:
            session.execute(update(ConsoleSession).values(expires_at=db_now(-1)))

    def idle() -> None:
        with own_database.write() as session:
            session.execute(update(ConsoleSession).values(seen_at=db_now(-3601)))

    def change_password() -> None:
        with own_database.write() as session:
            session.execute(update(ConsoleUser).values(password_hash="$argon2id$another"))

    for number, end in enumerate((lambda: None, expire, idle, change_password)):
        with client_of(context) as client:
            sign_in(client, "ana")
            cookie = client.cookies["r8scan"]
            assert client.get("/console/").status_code == 200
            if number == 0:
                assert client.post("/console/sign-out").status_code == 303
                assert "r8scan" not in client.cookies
            end()
            answer = client.get("/console/", headers={"Cookie": f"r8scan={cookie}"})
            assert answer.status_code == 303, number


def test_a_removed_role_is_lost_at_the_next_request(operator: httpx.Client, own_database: Database) -> None:
    with own_database.write() as session:
        session.execute(update(ConsoleUser).values(role=Role.VIEWER))
    assert operator.post("/console/decisions/reject", data={}).status_code == 403
    with own_database.write() as session:
        users.remove(session, "ana", who="operator:test")
    assert operator.get("/console/").status_code == 303


def test_a_page_that_refreshes_itself_does_not_keep_a_session_alive(
    operator: httpx.Client, own_database: Database
) -> None:
    def seen_is_old() -> bool:
        with own_database.read() as session:
            return bool(session.execute(select(ConsoleSession.seen_at < db_now(-600))).scalar_one())

    with own_database.write() as session:
        session.execute(update(ConsoleSession).values(seen_at=db_now(-900)))
    assert operator.get("/console/", headers={"HX-Request": "true"}).status_code == 200
    assert seen_is_old()
    assert operator.get("/console/").status_code == 200
    assert not seen_is_old()


def test_a_page_whose_session_is_over_is_sent_to_the_sign_in_by_its_refresh(client: httpx.Client) -> None:
    answer = client.get("/console/", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Redirect"]) == (401, "/console/sign-in")


@pytest.mark.parametrize(("name", "password"), [("ana", "wrong"), ("nobody", PASSWORD), ("", ""), ("a\0b", "x")])
def test_a_wrong_name_and_a_wrong_password_get_the_same_answer(client: httpx.Client, name: str, password: str) -> None:
    answer = client.post("/console/sign-in", data={"name": name, "password": password})
    assert answer.status_code == 401
    assert "The name or the password is wrong." in answer.text
    assert "set-cookie" not in answer.headers


def test_guesses_are_slowed_down_by_network_and_by_name(context: Context) -> None:
    with client_of(context) as client:
        answers = [
            client.post("/console/sign-in", data={"name": "ana", "password": "guess"}).status_code for _ in range(12)
        ]
    assert answers == [401] * 10 + [429] * 2


def test_strangers_who_guess_a_name_do_not_keep_its_owner_out(context: Context) -> None:
    def attempt(client: httpx.Client, network: int, password: str) -> int:
        headers = {"X-Forwarded-For": f"10.0.{network}.1"}
        data = {"name": "ana", "password": password}
        return client.post("/console/sign-in", data=data, headers=headers).status_code

    with client_of(context) as client:
        assert attempt(client, 200, PASSWORD) == 303
        assert [attempt(client, number, "guess") for number in range(22)][-1] == 429
        assert attempt(client, 201, PASSWORD) == 429
        assert attempt(client, 200, PASSWORD) == 303


def test_a_password_is_not_sent_unencrypted_over_a_public_network(context: Context) -> None:
    with client_of(context, headers={"X-Forwarded-For": "8.8.8.8"}) as client:
        assert "plain HTTP" in client.get("/console/sign-in").text
        answer = client.post("/console/sign-in", data={"name": "ana", "password": PASSWORD})
        assert answer.status_code == 403
    with client_of(context, headers={"X-Forwarded-For": "8.8.8.8", "X-Forwarded-Proto": "https"}) as client:
        answer = client.post("/console/sign-in", data={"name": "ana", "password": PASSWORD})
        assert answer.status_code == 303
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith("__Host-r8scan=")
        assert {"HttpOnly", "Secure", "SameSite=lax", "Path=/"} <= set(cookie.split("; "))
        inside = client.get("/console/", headers={"Cookie": cookie.partition(";")[0]})
        assert inside.status_code == 200
        assert "max-age" in inside.headers["Strict-Transport-Security"]


def test_the_user_of_the_settings_signs_in_until_the_hash_changes(own_database: Database) -> None:
    first, second = (SecretStr(users.hash_password(PASSWORD)) for _ in range(2))
    with client_of(context_of(own_database, console_password_hash=first)) as client:
        sign_in(client, "operator")
        cookie = client.cookies["r8scan"]
        assert client.get("/console/").status_code == 200
    with client_of(context_of(own_database, console_password_hash=second)) as client:
        assert client.get("/console/", headers={"Cookie": f"r8scan={cookie}"}).status_code == 303


def test_without_users_the_page_says_how_to_add_one(own_database: Database) -> None:
    with own_database.write() as session:
        for name in ("ana", "vera"):
            users.remove(session, name, who="operator:test")
    with client_of(context_of(own_database)) as client:
        assert "r8scan console user add" in client.get("/console/sign-in").text


def test_signing_in_and_out_is_in_the_audit_with_the_person(operator: httpx.Client, own_database: Database) -> None:
    operator.post("/console/sign-out")
    with own_database.read() as session:
        statement = select(AuditEntry.what).where(AuditEntry.who == "console:ana").order_by(AuditEntry.id.desc())
        assert session.execute(statement.limit(2)).scalars().all() == ["console_signed_out", "console_signed_in"]


def test_every_answer_has_the_headers_that_protect_it(operator: httpx.Client) -> None:
    for path in ("/console/", "/console/sign-in", "/console/nothing", f"/console/incidents/{SOME_ID}"):
        headers = operator.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert headers["Referrer-Policy"] == "same-origin"


@pytest.mark.parametrize(
    "given",
    [
        *("https://elsewhere.example/", "//elsewhere.example", "/\\elsewhere.example", "/console/../reports"),
        *("/console//elsewhere.example", "javascript:alert(1)", "/console/\r\nSet-Cookie: x=1", "", "/other", "ü"),
    ],
)
def test_a_sign_in_leads_nowhere_else(given: str) -> None:
    assert local_path(given) == "/console/"


def test_a_sign_in_leads_back_to_the_page_that_was_wanted(client: httpx.Client) -> None:
    wanted = "/console/incidents?state=open&q=acme"
    for given, then in ((wanted, wanted), ("//elsewhere.example", "/console/")):
        answer = client.post("/console/sign-in", data={"name": "ana", "password": PASSWORD, "next": given})
        assert answer.headers["Location"] == then


def test_only_the_files_of_the_console_are_served(client: httpx.Client) -> None:
    for name in ("../app.py", "..%2f..%2fapp.py", "%2e%2e/serving.py", "htmx.LICENSE", "no.js", "console.css%00.js"):
        assert client.get(f"/console/static/{rendering.static_version()}/{name}").status_code in (303, 404), name


def test_static_files_are_kept_by_browsers(client: httpx.Client) -> None:
    answer = client.get(rendering.static_address("console.css"))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/css; charset=utf-8")
    assert "immutable" in answer.headers["Cache-Control"]


def test_a_form_that_is_too_large_or_no_form_is_refused(operator: httpx.Client, context: Context) -> None:
    address = f"/console/incidents/{newest_incident(context)}/note"
    assert operator.post(address, data={"reason": "x" * 70_000}).status_code == 413
    assert operator.post(address, data={f"f{number}": "x" for number in range(50)}).status_code == 400
    assert operator.post(address, content=b"reason=\xff\xfe").status_code == 400


def test_a_form_that_arrives_too_slowly_is_refused(
    operator: httpx.Client, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "GRACE_SECONDS", 0.2)
    address = f"/console/incidents/{newest_incident(context)}/note"
    head = (
        f"POST {address} HTTP/1.1\r\nHost: 127.0.0.1\r\nSec-Fetch-Site: same-origin\r\nContent-Length: 1000\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nCookie: r8scan={operator.cookies['r8scan']}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", operator.base_url.port or 0), timeout=30) as connection:
        connection.sendall(head.encode() + b"reason=x")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")
    assert operator.get("/console/").status_code == 200


def test_no_path_leads_out_of_the_console(operator: httpx.Client) -> None:
    paths = (
        *("/console/../health", "/console/%2e%2e/%2e%2e/etc/passwd", "/console/static/../../app.py"),
        *("/console//sources", "/console/incidents/..%2f..%2fhealth", "/console/jobs/1%00", "/console/jobs/-1"),
        *("/console/mails/%2e%2e/html", "/console/incidents/%D9%A1", "/CONSOLE/", f"/console/jobs/{'9' * 40}"),
    )
    connection = http.client.HTTPConnection("127.0.0.1", operator.base_url.port)
    for path in paths:
        # Do not use httpx here, because it would change these paths before it sends them.
        connection.request("GET", path, headers={"Cookie": f"r8scan={operator.cookies['r8scan']}"})
        answer = connection.getresponse()
        assert b"root:" not in answer.read(), path
        assert answer.status in (303, 404), path
    connection.close()


def test_a_header_that_is_injected_into_an_address_stays_text(client: httpx.Client) -> None:
    answer = client.get("/console/incidents?q=%0d%0aSet-Cookie:%20a=b")
    assert "set-cookie" not in answer.headers
    assert "\r" not in answer.headers["Location"]


def test_a_busy_console_leaves_the_other_routes_alone(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "REQUESTS", (Rate(3, 0.001), Rate(100, 100)))
    with client_of(context) as client:
        answers = [client.get("/console/sign-in") for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert "Retry-After" in answers[-1].headers
        assert client.get("/health").status_code == 200


def test_without_the_setting_there_is_no_console(own_database: Database) -> None:
    with client_of(context_of(own_database, console=False)) as client:
        assert client.get("/console/").status_code == 404
        assert client.get("/health").status_code == 200


@pytest.mark.parametrize("name", ["", "A b", "-x", "x" * 65, "ä", "operator"])
def test_a_malformed_name_is_refused(own_database: Database, name: str) -> None:
    with own_database.write() as session, pytest.raises(BadUser):
        users.add(session, name, users.hash_password(PASSWORD), Role.VIEWER, who="operator:test")


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
def test_a_password_that_is_too_short_or_too_long_is_refused(password: str) -> None:
    with pytest.raises(BadUser, match="12 to 256"):
        users.hash_password(password)


def test_incidents_are_untouched_by_all_refused_requests(client: httpx.Client, own_database: Database) -> None:
    for headers in (FROM_HERE, {}):
        client.post("/console/incidents/bulk/confirmed", data={"act": "close"}, headers=headers)
    with own_database.read() as session:
        assert session.execute(select(Incident.state).where(Incident.state == IncidentState.OPEN)).scalars().all()


def test_the_licences_of_vendored_files_are_kept() -> None:
    assert "BSD" in (Path(rendering.FOLDER) / "static" / "htmx.LICENSE").read_text()

"""Tests that an attacker gains nothing with unusual HTTP methods, cookies, headers, URLs and forms."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from urllib.parse import parse_qsl, quote, urlsplit

import httpx
from sqlalchemy import select, update

from scanner.records import audit
from scanner.records.audit_models import AuditEntry
from scanner.records.console_models import ConsoleSession
from scanner.records.database import Database
from scanner.records.models import Incident, ScanJob
from scanner.records.reading_models import UnreadContent
from scanner.records.source_models import SourceState
from tests.console_pictures import pages
from tests.workers.web.console.conftest import PASSWORD, newest_incident, sign_in, signed_in
from tests.workers.web.console.filled import HOSTILE
from tests.workers.web.console.test_access import FOREIGN, addresses
from tests.workers.web.console.test_pages import Tags
from workers.context import Context
from workers.web.console import sessions

BREAKING_OUT = f"{HOSTILE}\"><script>alert(1)</script><p title='x' onfocus='alert(1)' \" onfocus=\"alert(1)"
"""Text that ends an attribute or a tag if a page does not escape the text."""
PARAMETERS = {
    "/console/sign-in": ("next",),
    "/console/": ("said",),
    "/console/incidents": (
        *("state", "action", "cause", "account", "repository", "source", "mail", "since", "until", "assignee"),
        *("q", "before", "said"),
    ),
    "/console/tokens": ("q", "account", "state", "show", "before"),
    "/console/jobs": ("state", "kind", "source", "parent", "before", "said"),
    "/console/outbox": ("state", "channel", "recipient", "before", "said"),
    "/console/audit": ("who", "what", "incident", "before", "people", "sign_ins"),
    "/console/decisions": ("said",),
    "/console/decisions/confirm": ("act",),
}
"""All parameters of the console's URLs."""


def answers_to(client: httpx.Client, value: str) -> Iterator[tuple[str, httpx.Response]]:
    """Send `value` in place of each parameter of each URL. Yield each request's description and response."""
    for path, names in PARAMETERS.items():
        for name in names:
            yield f"{path} {name}", client.get(path, params={name: value})


def assert_no_markup(page: str, what: str) -> None:
    assert "\u202e" not in page, what
    for tag, values in Tags(page).found:
        assert tag != "img", what
        assert tag != "script" or (values.get("src") or "").startswith("/console/static/"), what
        assert not any(name.startswith("on") for name in values), what


def test_no_form_of_another_site_reaches_any_address(operator: httpx.Client, context: Context) -> None:
    del operator.headers["Sec-Fetch-Site"]
    for number, address in enumerate(addresses(context, "POST")):
        headers = FOREIGN[number % len(FOREIGN)]
        assert operator.post(address, data={"reason": "mine"}, headers=headers).status_code == 403, address


def test_no_other_method_reaches_a_page_or_an_action(operator: httpx.Client, context: Context) -> None:
    got, posted = set(addresses(context, "GET")), set(addresses(context, "POST"))
    methods = ("PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
    for number, address in enumerate(sorted(got | posted)):
        method = methods[number % len(methods)]
        assert operator.request(method, address).status_code in (404, 405), (method, address)
    for address in posted - got:
        # Another site can make the operator's browser send a GET request with the operator's cookie, so GET must not
        # change anything.
        assert operator.get(address, params={"reason": "mine", "act": "close"}).status_code in (404, 405), address


def test_a_cookie_is_good_only_with_the_key_and_the_session_of_this_database(
    client: httpx.Client, context: Context
) -> None:
    with context.database.write() as session:
        key = sessions.signing_key(session)
    signed_in(client, context, "ana")
    good = client.cookies["r8scan"]
    client.cookies.clear()
    secret = good.rpartition(".")[0]
    forged = (
        sessions.signed("A" * 43, key),
        sessions.signed(secret, b"x" * 32),
        f"{secret}.",
        good.upper(),
        f"{good}x",
        f'"{good}',
    )
    for cookie in forged:
        answer = client.get("/console/", headers={"Cookie": f"r8scan={cookie}"})
        assert answer.status_code == 303, cookie
    assert client.get("/console/", headers={"Cookie": f"r8scan={good}"}).status_code == 200


def test_a_sign_in_begins_a_new_session_whatever_cookie_it_brings(client: httpx.Client, context: Context) -> None:
    signed_in(client, context, "vera")
    planted = client.cookies["r8scan"]
    client.cookies.clear()
    answer = client.post(
        "/console/sign-in", data={"name": "ana", "password": PASSWORD}, headers={"Cookie": f"r8scan={planted}"}
    )
    assert answer.cookies["r8scan"] != planted
    client.cookies.clear()
    assert "vera · viewer" in client.get("/console/", headers={"Cookie": f"r8scan={planted}"}).text


def test_no_field_cookie_or_header_gives_its_sender_another_role_or_name(
    client: httpx.Client, context: Context, own_database: Database
) -> None:
    claims = {"role": "operator", "name": "ana", "who": "console:ana", "is_operator": "true"}
    headers = {
        **{f"X-{name}": "ana" for name in ("Remote-User", "Forwarded-User", "Auth-Request-User")},
        "Remote-User": "ana",
        "Authorization": "Basic YW5hOmNvcnJlY3QgaG9yc2UgYmF0dGVyeSBzdGFwbGU=",
    }
    assert client.get("/console/", headers=headers).status_code == 303
    signed_in(client, context, "vera")
    cookies = {"Cookie": f"r8scan={client.cookies['r8scan']}; role=operator; name=ana"}
    address = f"/console/incidents/{newest_incident(context)}/note"
    answer = client.post(address, data={"reason": "mine", **claims}, headers={**headers, **cookies}, params=claims)
    assert answer.status_code == 403
    signed_in(client, context, "ana")
    assert client.post(address, data={"reason": "a note", **claims, "who": "console:vera"}).status_code == 303
    with own_database.read() as session:
        statement = select(AuditEntry).where(AuditEntry.what == "note").order_by(AuditEntry.id.desc()).limit(1)
        assert session.execute(statement).scalar_one().who == "console:ana"


def test_a_person_with_a_password_has_the_role_of_the_user_and_not_of_the_session(
    viewer: httpx.Client, own_database: Database
) -> None:
    with own_database.write() as session:
        session.execute(update(ConsoleSession).values(role="operator"))
    assert viewer.post("/console/decisions/reject", data={"held": "9", "reason": "mine"}).status_code == 403


def test_no_field_of_a_form_becomes_a_header(operator: httpx.Client, client: httpx.Client) -> None:
    injected = "x\r\nSet-Cookie: r8scan=planted\r\n\r\n<script>"
    fields = ("q", "account", "repository", "source", "assignee")
    for path in ("/console/incidents/search", "/console/tokens/search"):
        answer = operator.post(path, data=dict.fromkeys(fields, injected))
        assert (answer.status_code, "set-cookie" in answer.headers) == (303, False), path
        assert "\n" not in answer.headers["Location"], path
        assert any("planted" in value for _, value in parse_qsl(urlsplit(answer.headers["Location"]).query)), path
    answer = client.post("/console/sign-in", data={"name": "ana", "password": PASSWORD, "next": f"/console/{injected}"})
    assert answer.headers["Location"] == "/console/"
    assert "planted" not in answer.headers["set-cookie"]


def test_the_name_of_the_host_that_a_client_sends_leads_nowhere(client: httpx.Client) -> None:
    hosts = {
        "Host": "elsewhere.example",
        "X-Forwarded-Host": "elsewhere.example",
        "Forwarded": "host=elsewhere.example",
    }
    connection = http.client.HTTPConnection("127.0.0.1", client.base_url.port)
    for path in ("/", "/console", "/console/", "/console/incidents?q=x", "/console/sign-in"):
        connection.request("GET", path, headers=hosts)
        answer = connection.getresponse()
        assert b"elsewhere.example" not in answer.read(), path
        assert "elsewhere.example" not in (answer.getheader("Location") or ""), path
    connection.close()


def test_no_parameter_of_an_address_can_bring_markup(operator: httpx.Client, context: Context) -> None:
    for what, answer in answers_to(operator, BREAKING_OUT):
        assert answer.status_code in (200, 400), what
        assert_no_markup(answer.text, what)
    for path in (
        *(f"/console/{quote(BREAKING_OUT)}", f"/console/incidents/{quote(BREAKING_OUT)}"),
        f"/console/incidents/{newest_incident(context)}?after={quote(BREAKING_OUT)}",
    ):
        assert_no_markup(operator.get(path).text, path)


def test_no_parameter_of_an_address_is_too_long_or_too_odd_for_an_answer(operator: httpx.Client) -> None:
    for value in ("x" * 5000, "\0\ud7ff%00%0d%0a' OR 1=1 --%' _\\"):
        for what, answer in answers_to(operator, value):
            assert answer.status_code in (200, 400), (what, value)


def test_a_client_that_is_no_trusted_proxy_cannot_choose_the_network_whose_limit_it_uses(server: httpx.Client) -> None:
    guesses = [
        server.post(
            "/console/sign-in",
            data={"name": f"name-{number}", "password": "guess"},
            headers={"Sec-Fetch-Site": "same-origin", "X-Forwarded-For": f"10.0.{number}.1"},
        ).status_code
        for number in range(16)
    ]
    assert (guesses[0], guesses[-1]) == (401, 429)


def test_a_form_without_a_length_is_refused_at_its_limit(operator: httpx.Client, context: Context) -> None:
    address = f"/console/incidents/{newest_incident(context)}/note"
    chunks = (b"reason=" if number == 0 else b"x" * 4096 for number in range(40))
    assert operator.post(address, content=chunks).status_code == 413


def test_no_value_inside_a_recorded_object_can_bring_markup(viewer: httpx.Client, context: Context) -> None:
    one, hostile = newest_incident(context), BREAKING_OUT
    with context.database.write() as session:
        target = {"repository": hostile, "pushes": [{"repository": hostile}], "gist": hostile, "owner": hostile}
        progress = {"phase": hostile, "total": hostile, "done": hostile}
        session.execute(update(ScanJob).values(target=target, progress=progress, counts={hostile: 1}))
        place = dict.fromkeys(("kind", "repository", "path", "url", "git_object", hostile), hostile)
        session.execute(update(UnreadContent).values(place=place))
        session.execute(update(SourceState).values(counts={hostile: 1}))
        session.execute(update(Incident).values(evidence={hostile: hostile}))
        evidence = {"text": hostile, hostile: hostile, "several": [hostile, {hostile: hostile}], "nested": {hostile: 1}}
        audit.record(session, "note", evidence, who=f"console:{hostile}"[:100], incident_id=one)
    for name, path in pages(context):
        assert_no_markup(viewer.get(path).text, name)


def test_the_password_of_a_person_is_in_no_page_and_in_no_audit_entry(
    client: httpx.Client, own_database: Database
) -> None:
    sign_in(client, "ana")
    wrong = client.post("/console/sign-in", data={"name": PASSWORD, "password": PASSWORD, "next": "/console/"})
    assert wrong.status_code == 401
    assert PASSWORD not in wrong.text
    with own_database.read() as session:
        for entry in session.execute(select(AuditEntry)).scalars():
            assert PASSWORD not in f"{entry.who} {entry.evidence}"

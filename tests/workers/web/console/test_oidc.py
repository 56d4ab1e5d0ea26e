"""Tests for sign-in with an identity provider, including attempts with forged responses."""

from __future__ import annotations

import contextlib
import gzip
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey
from sqlalchemy import select

from scanner.records.audit_models import AuditEntry
from scanner.records.database import Database
from scanner.settings import SettingsError, load_settings
from tests.workers.web.console.conftest import client_of, context_of
from tests.workers.web.console.identities import values_of
from workers.context import Context
from workers.web.console import oidc
from workers.web.console.oidc import Flow, OidcError, Provider, is_safe_address, name_of


@pytest.fixture
def oidc_context(own_database: Database, issuer: str) -> Context:
    return context_of(own_database, **values_of(issuer))


def at_provider(client: httpx.Client, name: str, begin: str = "/console/sign-in/oidc") -> str:
    """Sign in at the identity provider as this user. Return the path to which the provider sends the browser."""
    to_provider = client.get(begin).headers["Location"]
    back = httpx.post(to_provider, data={"sub": name}, trust_env=False)
    assert back.status_code in (302, 303), back.text
    address = back.headers["Location"]
    assert address.startswith("http://console.example/console/sign-in/oidc/callback?")
    return f"{urlsplit(address).path}?{urlsplit(address).query}"


def test_a_group_gives_the_role_and_the_audit_names_the_person(oidc_context: Context, own_database: Database) -> None:
    expected = (("ana", "oidc:ana@example.com", 303, "operator"), ("vera", "oidc:vera", 403, "viewer"))
    for name, shown, may_act, role in expected:
        with client_of(oidc_context) as client:
            begin = "/console/sign-in/oidc?next=%2Fconsole%2Fjobs%3Fstate%3Dfailed"
            answer = client.get(at_provider(client, name, begin))
            assert (answer.status_code, answer.headers["Location"]) == (303, "/console/jobs?state=failed"), answer.text
            assert f"{shown} · {role}" in client.get("/console/").text
            assert client.post("/console/decisions/reject", data={"held": "1"}).status_code in (may_act, 409)
        with own_database.read() as session:
            entries = select(AuditEntry).where(AuditEntry.what == "console_signed_in").order_by(AuditEntry.id.desc())
            entry = session.execute(entries.limit(1)).scalar_one()
            assert (entry.who, entry.evidence["subject"]) == (f"console:{shown}", name)


def test_nobody_without_a_group_gets_in(oidc_context: Context) -> None:
    with client_of(oidc_context) as client:
        answer = client.get(at_provider(client, "otto"))
        assert (answer.status_code, "no group of yours" in answer.text) == (401, True)
        assert "r8scan" not in client.cookies


def test_an_answer_is_valid_once_and_only_in_the_browser_that_requested_it(oidc_context: Context) -> None:
    with client_of(oidc_context) as client:
        path = at_provider(client, "ana")
        cookie = client.cookies["r8scan-oidc"]
        client.cookies.clear()
        for forged in ("", "x", f"{'a' * 43}.Lw==", "." * 60, f"{cookie.partition('.')[0][:-1]}.Lw=="):
            answer = client.get(path, headers={"Cookie": f"r8scan-oidc={forged}"})
            assert (answer.status_code, "another browser" in answer.text) == (401, True), forged
        first = client.get(path, headers={"Cookie": f"r8scan-oidc={cookie}"})
        assert first.status_code == 303
        assert "r8scan-oidc" not in client.cookies
        client.cookies.clear()
        again = client.get(path, headers={"Cookie": f"r8scan-oidc={cookie}"})
        assert (again.status_code, "refused" in again.text) == (401, True)


def test_the_request_to_the_provider_has_pkce_state_and_nonce_and_no_secret(oidc_context: Context) -> None:
    with client_of(oidc_context) as client:
        asked = parse_qs(urlsplit(client.get("/console/sign-in/oidc").headers["Location"]).query)
        flow = Flow(client.cookies["r8scan-oidc"].partition(".")[0])
    assert asked["code_challenge_method"] == ["S256"]
    assert (asked["state"], asked["nonce"]) == ([flow.state], [flow.nonce])
    assert flow.verifier not in str(asked)
    assert asked["redirect_uri"] == ["http://console.example/console/sign-in/oidc/callback"]


def test_an_error_of_the_provider_is_shown_as_text(oidc_context: Context) -> None:
    with client_of(oidc_context) as client:
        client.get("/console/sign-in/oidc")
        flow = Flow(client.cookies["r8scan-oidc"].partition(".")[0])
        answer = client.get(
            "/console/sign-in/oidc/callback", params={"state": flow.state, "error": "<script>alert(1)</script>"}
        )
        assert answer.status_code == 401
        assert "&lt;script&gt;" in answer.text


def test_changed_settings_end_the_sessions_that_they_let_in(
    oidc_context: Context, own_database: Database, issuer: str
) -> None:
    with client_of(oidc_context) as client:
        client.get(at_provider(client, "ana"))
        cookie = client.cookies["r8scan"]
        assert client.get("/console/").status_code == 200
    for changed in ({"oidc_operators": ("others",)}, {"oidc_issuer": None}):
        with client_of(context_of(own_database, **values_of(issuer, **changed))) as client:
            assert client.get("/console/", headers={"Cookie": f"r8scan={cookie}"}).status_code == 303


def test_an_unavailable_provider_is_named_on_the_page(own_database: Database) -> None:
    with client_of(context_of(own_database, **values_of("http://127.0.0.1:1"))) as client:
        answer = client.get("/console/sign-in/oidc")
        assert (answer.status_code, "identity provider does not answer" in answer.text) == (503, True)


class Answering(BaseHTTPRequestHandler):
    """An HTTP handler that sends headers and parts of a body that a test chooses."""

    headers_sent: ClassVar[dict[str, str]] = {}
    pieces: ClassVar[Iterable[bytes]] = ()
    sent = 0

    def do_GET(self) -> None:
        self.send_response(200)
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):  # the client has closed the connection
            for piece in self.pieces:
                self.wfile.write(piece)
                Answering.sent += len(piece)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Run a server that acts as an identity provider, and yield its URL."""
    monkeypatch.setattr(Answering, "sent", 0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("headers", "pieces", "message"),
    [
        ({}, [bytes(1 << 16)] * 10_000, "too large"),
        ({"Content-Encoding": "gzip"}, [gzip.compress(bytes(1 << 20))], "compressed"),
        ({}, [b"[" * 400_000], "refused"),
        ({}, [b'{"issuer": ' + b"9" * 400_000 + b"}"], "refused"),
    ],
)
def test_an_answer_of_the_provider_is_read_within_limits(
    own_database: Database,
    answering: str,
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
    pieces: list[bytes],
    message: str,
) -> None:
    monkeypatch.setattr(Answering, "headers_sent", headers)
    monkeypatch.setattr(Answering, "pieces", pieces)
    provider = Provider(context_of(own_database, **values_of(answering)).settings)
    with pytest.raises(OidcError, match=message):
        provider.address(Flow.begin())
    assert Answering.sent < 64 << 20  # the client stopped reading the endless answer


def test_an_answer_that_arrives_byte_by_byte_has_one_deadline(
    own_database: Database, answering: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "MAX_ANSWER_SECONDS", -1.0)
    monkeypatch.setattr(Answering, "pieces", [b"{", b"}"])
    provider = Provider(context_of(own_database, **values_of(answering)).settings)
    with pytest.raises(OidcError, match="too slowly"):
        provider.address(Flow.begin())


KEY, OTHER_KEY = RSAKey.generate_key(2048), RSAKey.generate_key(2048)


class Forging(Provider):
    """An identity provider that answers with a token and an issuer that the test chooses."""

    def __init__(self, context: Context, header: dict[str, Any], claims: dict[str, Any], key: Any) -> None:
        super().__init__(context.settings)
        self.token = jwt.encode(header, claims, key, algorithms=[header["alg"]])
        self.named_issuer = self._issuer

    def _asked(self, method: str, address: str, **given: Any) -> dict[str, Any]:
        base = self._issuer
        answers: dict[str, dict[str, Any]] = {
            f"{base}/.well-known/openid-configuration": {
                "issuer": self.named_issuer,
                "authorization_endpoint": f"{base}/a",
                "token_endpoint": f"{base}/t",
                "jwks_uri": f"{base}/k",
            },
            f"{base}/t": {"id_token": self.token, "token_type": "Bearer"},
            f"{base}/k": {"keys": [KEY.as_dict(private=False)]},
        }
        return answers[address]


def test_a_token_that_is_not_for_this_sign_in_lets_nobody_in(oidc_context: Context) -> None:
    flow = Flow.begin()
    issuer = oidc_context.settings.oidc_issuer
    good: dict[str, Any] = {"iss": issuer, "aud": "r8scan", "sub": "ana", "exp": 4_000_000_000, "iat": 1_700_000_000}
    good |= {"nonce": flow.nonce, "groups": ["r8-operators"]}
    rs256 = {"alg": "RS256"}
    found = Forging(oidc_context, rs256, good, KEY).identity(flow, "code")
    assert (found.person.name, found.subject) == ("oidc:ana", "ana")
    forged: dict[str, tuple[dict[str, Any], dict[str, Any], RSAKey]] = {
        "issuer": (rs256, {**good, "iss": "https://elsewhere.example"}, KEY),
        "audience": (rs256, {**good, "aud": "another-client"}, KEY),
        "audiences": (rs256, {**good, "aud": ["r8scan", "another"], "azp": "another"}, KEY),
        "expired": (rs256, {**good, "exp": 1_700_000_100}, KEY),
        "nonce": (rs256, {**good, "nonce": Flow.begin().nonce}, KEY),
        "no nonce": (rs256, {key: value for key, value in good.items() if key != "nonce"}, KEY),
        "nobody": (rs256, {**good, "sub": ""}, KEY),
        "another key": (rs256, good, OTHER_KEY),
        "group": (rs256, {**good, "groups": ["r8"]}, KEY),
        "groups": (rs256, {**good, "groups": {"r8-operators": True}}, KEY),
    }
    for name, (header, claims, key) in forged.items():
        with pytest.raises(OidcError):
            pytest.fail(f"{name}: {Forging(oidc_context, header, claims, key).identity(flow, 'code')}")
    unsigned = Forging(oidc_context, rs256, good, KEY)
    head, body, _ = unsigned.token.split(".")
    for token in (f"eyJhbGciOiJub25lIn0.{body}.", f"{head}.{body}.", "x", "", "a.b.c", f"{head}.{body}.AAAA"):
        unsigned.token = token
        with pytest.raises(OidcError):
            unsigned.identity(flow, "code")


def test_an_issuer_may_end_in_a_slash_if_provider_and_token_agree(oidc_context: Context) -> None:
    flow = Flow.begin()
    issuer = f"{oidc_context.settings.oidc_issuer}/"
    claims: dict[str, Any] = {"iss": issuer, "aud": "r8scan", "sub": "ana", "exp": 4_000_000_000, "iat": 1_700_000_000}
    provider = Forging(oidc_context, {"alg": "RS256"}, {**claims, "nonce": flow.nonce, "groups": "r8-viewers"}, KEY)
    with pytest.raises(OidcError, match="invalid_claim"):
        provider.identity(flow, "code")
    provider = Forging(oidc_context, {"alg": "RS256"}, {**claims, "nonce": flow.nonce, "groups": "r8-viewers"}, KEY)
    provider.named_issuer = issuer
    assert provider.identity(flow, "code").subject == "ana"


@pytest.mark.parametrize("verified", [{}, {"email_verified": False}, {"email_verified": "false"}])
def test_a_mail_address_that_is_not_verified_gives_no_role(oidc_context: Context, verified: dict[str, Any]) -> None:
    changed = {"oidc_role_claim": "email", "oidc_operators": ("ana@example.com",)}
    provider = Provider(oidc_context.settings.model_copy(update=changed))
    claims = {"sub": "1", "email": "ana@example.com"}
    assert provider._role({**claims, "email_verified": True}) == "operator"
    with pytest.raises(OidcError):
        provider._role({**claims, **verified})


def test_a_role_may_be_deep_in_a_claim_and_a_name_is_one_line(oidc_context: Context) -> None:
    settings = oidc_context.settings
    assert name_of({"sub": "1", "email": "a\nb\x1b[0m@x"}, settings) == "oidc:a b [0m@x"
    assert name_of({"sub": "1", "email": "ana@x", "email_verified": False}, settings) == "oidc:1"
    assert name_of({"sub": "1", "email": "ana@x", "email_verified": "false"}, settings) == "oidc:1"
    assert len(name_of({"sub": "s" * 5000}, settings)) < 255
    deep = settings.model_copy(update={"oidc_role_claim": "realm_access.roles"})
    provider = Provider(deep)
    assert provider._role_values({"realm_access": {"roles": ["a", "b"]}}) == {"a", "b"}
    assert provider._role_values({"realm_access": "x"}) is None


@pytest.mark.parametrize(
    ("address", "is_safe"),
    [
        *(("https://id.example/x", True), ("http://127.0.0.1:9/x", True), ("http://localhost/x", True)),
        *(
            ("http://id.example/x", False),
            ("ftp://127.0.0.1", False),
            ("https://", False),
            ("", False),
            ("https://[", False),
        ),
    ],
)
def test_secrets_are_sent_encrypted_or_not_at_all(address: str, is_safe: bool) -> None:
    assert is_safe_address(address) == is_safe


@pytest.mark.parametrize("missing", ["oidc_client_id", "console_url", "oidc_operators"])
def test_a_setting_that_is_missing_is_named(missing: str) -> None:
    values = values_of("https://id.example", oidc_viewers=())
    del values[missing]
    with pytest.raises(SettingsError, match=f"R8SCAN_{missing.upper()}"):
        load_settings(read_dotenv=False, use_state=False, **values)

"""Tests for the credentials of GitHub Apps, whose tokens are renewed before they expire."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from starlette.responses import Response

from scanner.github import client as github_client
from scanner.github.client import App, GitHub, connect, get_json
from scanner.github.credentials import AppInstallation
from scanner.github.errors import BadCredential, Malformed
from scanner.github.git_protocol import list_refs
from workers.sandbox.github import SandboxGitHub


@pytest.fixture(scope="module")
def keys() -> tuple[str, str]:
    """Return the private key and the public key of a GitHub App, both in PEM format."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


@pytest.fixture
def app(sandbox: SandboxGitHub, keys: tuple[str, str]) -> Iterator[GitHub]:
    sandbox.app_keys["4711"] = keys[1]
    client = connect(sandbox.api_url, sandbox.url, App("4711", 99, keys[0]))
    yield client
    client.close()


def test_an_app_gets_one_token_for_api_and_git(app: GitHub, sandbox: SandboxGitHub) -> None:
    sandbox.create_repository("ana/app")
    for _ in range(3):
        get_json(app, f"{app.api_url}/events", expected=list)
        list_refs(app, "ana/app")
    assert sandbox.requests["app"] == 1
    assert app.credential_label == "GitHub App 4711, installation 99"


def test_a_token_that_expired_early_is_replaced_and_the_request_repeated(app: GitHub, sandbox: SandboxGitHub) -> None:
    get_json(app, f"{app.api_url}/events", expected=list)
    sandbox.installation_tokens[:] = ["another"]
    get_json(app, f"{app.api_url}/events", expected=list)
    assert sandbox.requests["app"] == 2


def test_a_token_is_renewed_before_it_expires(keys: tuple[str, str]) -> None:
    now, numbers = [1_800_000_000.0], itertools.count()

    def exchange(signed: str, installation: int) -> tuple[str, datetime]:
        assert (signed.count("."), installation) == (2, 99)
        return f"token-{next(numbers)}", datetime.fromtimestamp(now[0], UTC) + timedelta(hours=1)

    credential = AppInstallation("4711", 99, keys[0], exchange, clock=lambda: now[0])
    assert [credential.token(), credential.token()] == ["token-0", "token-0"]
    now[0] += 3600 - 301
    assert credential.token() == "token-0"
    now[0] += 2
    assert credential.token() == "token-1"
    assert credential.renew()
    assert credential.token() == "token-2"


def test_the_error_about_an_unknown_app_names_the_settings(sandbox: SandboxGitHub, keys: tuple[str, str]) -> None:
    client = connect(sandbox.api_url, sandbox.url, App("1", 2, keys[0]))
    with pytest.raises(BadCredential, match="R8SCAN_GITHUB_APP_ID"):
        get_json(client, f"{client.api_url}/events", expected=list)
    client.close()


def test_a_malformed_key_is_a_one_line_error(sandbox: SandboxGitHub) -> None:
    client = connect(sandbox.api_url, sandbox.url, App("1", 2, "no key"))
    with pytest.raises(BadCredential) as caught:
        get_json(client, f"{client.api_url}/events", expected=list)
    assert str(caught.value) == "R8SCAN_GITHUB_APP_PRIVATE_KEY is not an RSA private key in PEM form"
    assert "no key" not in repr(client)
    client.close()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_an_app_that_is_rejected_asks_for_no_token_for_a_minute(
    sandbox: SandboxGitHub, keys: tuple[str, str], status: int
) -> None:
    client = connect(sandbox.api_url, sandbox.url, App("4711", 99, keys[0]))
    sandbox.faults["app"].extend([lambda: Response(status_code=status)] * 9)
    asked = []
    for _ in range(5):
        with pytest.raises(BadCredential) as caught:
            get_json(client, f"{client.api_url}/events", expected=list)
        asked.append(caught.value.asked)
    assert asked == [True, False, False, False, False]
    assert sandbox.requests["app"] == 1
    client.close()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Response(b" " * 2_000), "too_large"),
        (Response(gzip.compress(b" " * 2_000), headers={"Content-Encoding": "gzip"}), "too_large"),
        (Response(b"[" * 900), "not_json"),
        (Response(b'{"token": 5, "expires_at": 5}'), "unexpected_json"),
    ],
)
def test_an_answer_with_a_token_is_read_within_limits(
    app: GitHub, sandbox: SandboxGitHub, monkeypatch: pytest.MonkeyPatch, answer: Response, reason: str
) -> None:
    monkeypatch.setattr(github_client, "MAX_JSON_BYTES", 1_000)
    sandbox.faults["app"].append(lambda: answer)
    with pytest.raises(Malformed) as caught:
        get_json(app, f"{app.api_url}/events", expected=list)
    assert caught.value.reason == reason

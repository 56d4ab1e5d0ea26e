"""An identity provider for tests with three users, and the settings of a console that uses it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from pydantic import SecretStr

from scanner.child_processes import die_with_parent
from workers.sandbox.world import until

USERS: dict[str, dict[str, Any]] = {
    "ana": {"email": "ana@example.com", "email_verified": True, "groups": ["staff", "r8-operators"]},
    "vera": {"email": "vera@example.com", "email_verified": False, "groups": ["r8-viewers"]},
    "otto": {"email": "otto@example.com", "groups": ["staff"]},
}


@contextmanager
def provider() -> Iterator[str]:
    """Run an identity provider in a separate process, and yield its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    claims = [f"--user-claims={json.dumps({'sub': sub, **values})}" for sub, values in USERS.items()]
    child = subprocess.Popen(
        [sys.executable, "-m", "oidc_provider_mock", "-p", str(port), "-n", "true", *claims],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=die_with_parent,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until(lambda: child.poll() is None and answers(address), 30)
        yield address
    finally:
        child.kill()
        child.wait()


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/.well-known/openid-configuration", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def values_of(issuer: str, **changed: Any) -> dict[str, Any]:
    return {
        "console_url": "http://console.example",
        "oidc_issuer": issuer,
        "oidc_client_id": "r8scan",
        "oidc_client_secret": SecretStr("a secret / of the client"),
        "oidc_operators": ("r8-operators",),
        "oidc_viewers": ("r8-viewers",),
        **changed,
    }

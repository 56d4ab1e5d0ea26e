"""`r8scan serve` as GitHub meets it: a signed alert disables a token, and each other request has its answer."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from starlette.responses import Response as Answer

from scanner.child_processes import start_child
from scanner.records.database import Database
from scanner.records.schema import upgrade
from tests.scanner.sources.knowing import exposures, is_disabled, know
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.world import until

Token = Callable[[], str]
ROUTE = "/github/secret-scanning"


@pytest.fixture
def own_database(tmp_path: Path) -> Iterator[Database]:
    own = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    upgrade(own)
    yield own
    own.close()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "serve.log"


@pytest.fixture
def server(sandbox: SandboxGitHub, own_database: Database, tmp_path: Path, log: Path) -> Iterator[httpx.Client]:
    """The command as a process of its own."""
    port = free_port()
    env = {
        "PATH": os.environ["PATH"],
        "R8SCAN_STATE_DIR": str(tmp_path / "state"),
        "R8SCAN_GITHUB_API_URL": sandbox.api_url,
        "R8SCAN_GITHUB_WEB_URL": sandbox.url,
        "R8SCAN_WEB_PORT": str(port),
    }
    with log.open("wb") as output:
        child = start_child([sys.executable, "-m", "workers", "serve"], env=env, stdout=output, stderr=output)
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)
    try:
        until(lambda: child.poll() is not None or answers(client), 30)
        yield client
    finally:
        client.close()
        child.terminate()
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def free_port() -> int:
    with socket.socket() as own:
        own.bind(("127.0.0.1", 0))
        return int(own.getsockname()[1])


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def alert(sandbox: SandboxGitHub, server: httpx.Client, body: bytes, **headers: str) -> httpx.Response:
    return server.post(ROUTE, content=body, headers={**sandbox.signer.headers(body), **headers})


def test_a_signed_alert_disables_the_token_and_tells_github(
    server: httpx.Client, sandbox: SandboxGitHub, own_database: Database, fresh_token: Token, log: Path, tmp_path: Path
) -> None:
    token, other = fresh_token(), fresh_token()
    digest = know(own_database, token)
    records = [
        {"token": token, "type": "mixed_up", "url": f"{sandbox.url}/ana/app/issues/7", "source": "issue_comment"},
        {"token": other, "type": "replicate_api_token", "url": "", "source": "content"},
    ]
    answer = alert(sandbox, server, json.dumps(records).encode())
    assert answer.status_code == 200
    assert {one["label"] for one in answer.json()} == {"true_positive", "false_positive"}
    assert is_disabled(own_database, digest)
    (place,) = exposures(own_database)
    assert (place.kind, place.source) == ("issue_comment", "partner_alerts")
    written = b"".join(path.read_bytes() for path in [log, *(tmp_path / "state").rglob("*")] if path.is_file())
    assert token.encode() not in written
    assert other.encode() not in written


def test_every_other_request_has_its_answer(server: httpx.Client, sandbox: SandboxGitHub) -> None:
    body = b"[]"
    assert alert(sandbox, server, body).json() == []
    forged = alert(sandbox, server, body, **{"Github-Public-Key-Signature": "AAAA"})
    assert (forged.status_code, set(forged.json())) == (403, {"error"})
    assert server.post(ROUTE, content=body).status_code == 403
    changed = server.post(ROUTE, content=b"[ ]", headers=sandbox.signer.headers(body))
    assert changed.status_code == 403
    for no_list in (b"<html>", b"{}", b"[" * 100_000):
        told = alert(sandbox, server, no_list)
        assert told.status_code == 400
        assert told.json()["error"].startswith("the body is not")
    assert alert(sandbox, server, b" " * (10 * 1024 * 1024 + 1)).status_code == 413
    many = alert(sandbox, server, b"[" + b"{}," * 10_000 + b"{}]")
    assert (many.status_code, "more than 10000 records" in many.json()["error"]) == (413, True)
    assert server.get(ROUTE).status_code == 405
    assert server.get("/nothing").json() == {"error": "there is nothing here"}


def test_a_body_in_chunks_has_the_same_limit(server: httpx.Client, sandbox: SandboxGitHub) -> None:
    chunk = b" " * 1024 * 1024
    answer = server.post(ROUTE, content=iter([chunk] * 11), headers=sandbox.signer.headers(chunk))
    assert answer.status_code == 413


def test_without_githubs_keys_it_is_asked_to_come_again(server: httpx.Client, sandbox: SandboxGitHub) -> None:
    sandbox.faults["alert_keys"].append(lambda: Answer(status_code=500))
    answer = alert(sandbox, server, b"[]")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


def test_a_port_that_is_taken_is_told_in_one_line(server: httpx.Client, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "R8SCAN_STATE_DIR": str(tmp_path / "state")}
    command = [sys.executable, "-m", "workers", "serve", "--port", str(server.base_url.port)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "something else listens there" in done.stderr
    assert done.stderr.count("\n") == 1

"""Tests for the endpoint that receives GitHub's signed secret scanning alerts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
from starlette.responses import Response as Answer

from scanner.records.database import Database
from tests.scanner.sources.knowing import exposures, is_disabled, know
from tests.workers.web.conftest import ROUTE, alert
from workers.sandbox.github import SandboxGitHub

Token = Callable[[], str]


def test_a_signed_alert_disables_the_token_and_github_gets_the_label(
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


def test_every_other_request_is_refused_with_its_own_status(server: httpx.Client, sandbox: SandboxGitHub) -> None:
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


def test_a_record_with_an_odd_field_disables_its_token_too(
    server: httpx.Client, sandbox: SandboxGitHub, own_database: Database, fresh_token: Token
) -> None:
    for odd in ("\ud800", "a\0b", "\ud800" * 300, "x" * 100_000):
        for name in ("type", "url", "source"):
            token = fresh_token()
            digest = know(own_database, token)
            url = f"{sandbox.url}/ana/app/issues/7"
            record = {"token": token, "type": "t", "url": url, "source": "content", name: odd}
            answer = alert(sandbox, server, json.dumps([record, {"token": "\ud800"}]).encode())
            assert answer.status_code == 200, (odd[:3], name)
            assert {one["label"] for one in answer.json()} == {"true_positive", "false_positive"}
            assert is_disabled(own_database, digest)


def test_a_path_that_no_database_can_store_is_kept_with_escapes(
    server: httpx.Client, sandbox: SandboxGitHub, own_database: Database, fresh_token: Token
) -> None:
    token = fresh_token()
    know(own_database, token)
    url = f"{sandbox.url}/ana/app/blob/{'a' * 40}/a%00b%ff.py"
    assert alert(sandbox, server, json.dumps([{"token": token, "url": url, "source": "content"}]).encode()).is_success
    (place,) = exposures(own_database)
    assert place.path == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}.py"


def test_costly_bodies_are_refused_or_read_and_break_nothing(
    server: httpx.Client, sandbox: SandboxGitHub, own_database: Database, fresh_token: Token
) -> None:
    for body, status in (
        (b"[" + b"[" * 1_000_000, 400),
        (b"[" + b"[]," * 2_000_000 + b"0]", 413),
        (b"[" + b'{"a":1},' * 1_000_000 + b"0]", 413),
        (b"[" + b"1" * 5_000_000 + b"]", 200),
        (b"[1e999999999,-Infinity,NaN]", 200),
        (b'[{"token":' + b'{"a":' * 5_000 + b"1" + b"}" * 5_000 + b"}]", 400),
        (b'["\xff\xfe"]', 400),
    ):
        assert alert(sandbox, server, body).status_code == status, body[:20]
    ours = fresh_token()
    digest = know(own_database, ours)
    twice = f'[{{"token": "x", "token": "{ours}", "n": {"9" * 10_000}}}]'.encode()
    assert alert(sandbox, server, twice).status_code == 200
    assert is_disabled(own_database, digest)


def test_an_unsigned_request_is_refused_before_its_body_is_read(server: httpx.Client, sandbox: SandboxGitHub) -> None:
    port = server.base_url.port
    assert port is not None
    unknown = "Github-Public-Key-Identifier: 00\r\nGithub-Public-Key-Signature: AAAA\r\n"
    for headers in ("", "Github-Public-Key-Identifier: 00\r\n", unknown):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            connection.sendall(f"POST {ROUTE} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: 1000\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 403")


def test_without_githubs_keys_github_is_asked_to_send_the_alert_again(
    server: httpx.Client, sandbox: SandboxGitHub
) -> None:
    sandbox.faults["alert_keys"].append(lambda: Answer(status_code=500))
    answer = alert(sandbox, server, b"[]")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0


def test_a_port_in_use_is_a_one_line_error(server: httpx.Client, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "R8SCAN_STATE_DIR": str(tmp_path / "state")}
    command = [sys.executable, "-m", "workers", "serve", "--port", str(server.base_url.port)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "something else listens there" in done.stderr
    assert done.stderr.count("\n") == 1

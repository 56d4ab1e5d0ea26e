"""Tests for the commands that manage tokens in r8scan's own token store and show incidents."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scanner.detection import Candidate, Place, sha256_digest
from scanner.detection.patterns.token_formats import hint_of
from scanner.records.database import Database
from scanner.response.policy import Policy
from scanner.response.respond import respond
from tests.certificates import Authority
from workers.cli.app import COMMANDS
from workers.sandbox import token_store
from workers.sandbox.http_server import Tls
from workers.sandbox.token_store import ReferenceStore

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def upgraded(r8scan: Run) -> None:
    assert r8scan("db", "upgrade").returncode == 0


def test_tokens_are_imported_listed_and_disabled(r8scan: Run, tmp_path: Path, fresh_token: Callable[[], str]) -> None:
    upgraded(r8scan)
    token = fresh_token()
    (tmp_path / "tokens.csv").write_text(f"email,account,name,token\nana@example.com,acme,ci,{token}\n")
    imported = r8scan("tokens", "import", "tokens.csv", installed=True)
    assert (imported.returncode, imported.stdout.strip()) == (0, "1 imported, 0 bad")
    listed = json.loads(r8scan("tokens", "list", "--json", installed=True).stdout)
    digest = sha256_digest(token.encode())
    assert listed["sha256"] == digest
    assert (listed["hint"], listed["name"], listed["email"]) == (hint_of(token.encode()), "ci", "ana@example.com")
    assert listed["disabled_at"] is None
    assert r8scan("tokens", "disable", "--sha256", digest).stdout == f"disabled {digest}\n"
    assert "already" in r8scan("tokens", "disable", listed["id"]).stdout
    assert json.loads(r8scan("tokens", "list", "--json").stdout)["disabled_at"]
    assert hint_of(token.encode()) in r8scan("tokens", "list").stdout


def test_invalid_rows_are_named_and_the_others_are_imported(r8scan: Run, fresh_token: Callable[[], str]) -> None:
    upgraded(r8scan)
    good, bad = fresh_token(), fresh_token()
    text = f"email,account,name,token\nana@example.com,acme,ci,{good}\nnobody,acme,ci,{bad}\n"
    result = r8scan("tokens", "import", "-", stdin=text)
    assert result.returncode == 1
    assert "line 3 its email is not a mail address" in result.stderr
    assert bad not in result.stdout + result.stderr
    assert len(r8scan("tokens", "list", "--json").stdout.splitlines()) == 1


def test_a_token_is_added_from_standard_input(r8scan: Run, fresh_token: Callable[[], str]) -> None:
    upgraded(r8scan)
    token = fresh_token()
    result = r8scan("tokens", "add", "--email", "ana@example.com", stdin=f"{token}\n")
    assert result.returncode == 0
    assert token not in result.stdout
    assert r8scan("tokens", "add", stdin="nonsense\n").returncode == 1


def test_a_token_is_protected_and_unprotected(r8scan: Run, fresh_token: Callable[[], str]) -> None:
    upgraded(r8scan)
    r8scan("tokens", "add", stdin=f"{fresh_token()}\n")
    assert r8scan("tokens", "protect", "1").returncode == 0
    assert json.loads(r8scan("tokens", "list", "--json").stdout)["protected"] is True
    r8scan("tokens", "protect", "1", "--off")
    assert json.loads(r8scan("tokens", "list", "--json").stdout)["protected"] is False


def test_an_incident_is_listed_and_shown(r8scan: Run, tmp_path: Path, fresh_token: Callable[[], str]) -> None:
    upgraded(r8scan)
    token = fresh_token()
    r8scan("tokens", "add", "--email", "ana@example.com", "--name", "ci", stdin=f"{token}\n")
    database = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    place = Place("file", "https://github.example/ana/app/blob/x/a.py", "ana/app", 1, path="a\x1b[2J.py")
    candidate = Candidate(sha256_digest(token.encode()), hint_of(token.encode()), place, 12, 1)
    respond(database, [candidate], source="test", policy=Policy())
    database.close()
    listed = json.loads(r8scan("incidents", "list", "--json").stdout)
    assert (listed["action"], listed["token_name"], listed["exposures"]) == ("disabled", "ci", 1)
    shown = r8scan("incidents", "show", listed["id"][:6])
    assert shown.returncode == 0
    assert "\x1b[2J" not in shown.stdout
    assert "ana@example.com" in shown.stdout
    first = shown.stdout.splitlines()[0]
    assert first == "It was found in ana/app, and disabled. The mail to its owner is waiting."
    by_hint = r8scan("incidents", "show", hint_of(token.encode()), env={"COLUMNS": "110"})
    assert by_hint.stdout.splitlines()[0] == first
    hint = hint_of(token.encode())
    for written in (hint[:6], hint.replace("…", "...")):
        assert r8scan("incidents", "show", written).stdout.splitlines()[0] == first
    assert re.search(
        r"^  \S+ \S+Z  incident opened \(r8scan\): because the token was found in public$", by_hint.stdout, re.MULTILINE
    )
    unknown = r8scan("incidents", "show", "r8_xyz…1234")
    line = "r8scan: no incident is about a token with the hint r8_xyz…1234: see r8scan incidents list -q r8_xyz\n"
    assert unknown.stderr == line
    whole = json.loads(r8scan("incidents", "show", listed["id"], "--json").stdout)
    assert whole["exposures"][0]["line"] == 12
    assert whole["notifications"][0]["recipient"] == "ana@example.com"


def test_a_mistake_prints_one_line_that_says_what_to_do(r8scan: Run, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    cases: list[tuple[tuple[str, ...], dict[str, str], str]] = [
        (("tokens", "list"), {"R8SCAN_DATABASE_URL": f"sqlite:///{tmp_path}/other.db"}, "r8scan db upgrade"),
        (("incidents", "list", "--since", "soon"), {}, "--since must be a day"),
        (("tokens", "list"), {"R8SCAN_DATABASE_URL": "sqlite:////proc/nowhere/db"}, "R8SCAN_DATABASE_URL"),
        (("tokens", "list"), {"R8SCAN_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}, "R8SCAN_DATABASE_URL"),
        (("tokens", "list"), {"R8SCAN_ENFORCE": "perhaps"}, "R8SCAN_ENFORCE"),
        (("tokens", "import", "no-such-file"), {}, "no-such-file"),
        (("tokens", "disable"), {}, "--sha256"),
        (("rescan", "repo", "not-a-name"), {}, "OWNER/NAME"),
        (("store", "check", "localhost:8199"), {}, "https://"),
        (("store", "check", "ftp://x"), {}, "https://"),
        (("store", "check", "http://127.0.0.1:9", "--digest", "junk"), {}, "64 hex digits"),
        (("run",), {"R8SCAN_STATE_DIR": str(tmp_path / "a-file")}, "R8SCAN_STATE_DIR"),
        (("run",), {"R8SCAN_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x"}, "R8SCAN_DATABASE_URL"),
    ]
    for arguments, env, wanted in cases:
        result = r8scan(*arguments, env=env)
        is_usage = wanted in ("--since must be a day", "--sha256", "OWNER/NAME", "https://", "64 hex digits")
        assert result.returncode == (2 if is_usage else 1), arguments
        assert wanted in result.stderr, (arguments, result.stderr)
        assert len(result.stderr.strip().splitlines()) == 1, (arguments, result.stderr)
        assert "Traceback" not in result.stderr


def test_a_store_with_mutual_tls_passes_its_check(r8scan: Run, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    server, client_certificate = authority.issue("server"), authority.issue("client")
    store = ReferenceStore("")
    store.add("a" * 64)
    store.accepts = lambda authorization: True  # type: ignore[method-assign]  # the TLS handshake checks the client
    env = {
        "R8SCAN_TOKEN_STORE_CERT_FILE": str(client_certificate.cert_file),
        "R8SCAN_TOKEN_STORE_KEY_FILE": str(client_certificate.key_file),
        "R8SCAN_TOKEN_STORE_CA_FILE": str(authority.file),
    }
    with token_store.running(store, Tls(server.cert_file, server.key_file, authority.file)):
        checked = r8scan("store", "check", store.url, "--digest", "A" * 64, "--disable", env=env)
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "ok      a client without a certificate is refused" in checked.stdout
    assert store.tokens["a" * 64]["disabled_at"]


def test_a_file_that_is_no_database_is_a_one_line_error(r8scan: Run, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "r8scan.db").write_text("not a database " * 100)
    result = r8scan("tokens", "list")
    assert result.returncode == 1
    assert len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_the_installed_command_imports_all_that_a_command_needs(r8scan: Run, command: str) -> None:
    helped = r8scan(command, "--help", installed=True)
    assert (helped.returncode, helped.stderr) == (0, "")
    assert f"r8scan {command}" in helped.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        *(("incidents", "list"), ("status", "--json"), ("accounts", "erase", "nobody")),
        *(("report", "--sign", "stolen", "-"), ("scan", ".")),
    ],
)
def test_the_installed_command_does_what_the_forked_one_does(r8scan: Run, arguments: tuple[str, ...]) -> None:
    upgraded(r8scan)
    results = [r8scan(*arguments, stdin="junk\n", installed=installed) for installed in (True, False)]
    first, second = ((one.returncode, one.stderr, one.stdout) for one in results)
    assert first[:2] == second[:2]
    assert "Traceback" not in first[1]
    assert "--json" in arguments or first[2] == second[2]


def test_the_command_prints_its_version_and_help_with_examples(r8scan: Run) -> None:
    assert r8scan("--version", installed=True).stdout.startswith("r8scan 0.")
    for command in (("tokens", "import"), ("tokens", "add"), ("incidents", "show"), ("rescan", "repo"), ("run",)):
        assert "Example" in r8scan(*command, "--help").stdout, command
    assert "Usage" in r8scan("--help").stdout
    shell = {"SHELL": "/bin/bash", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    assert "_R8SCAN_COMPLETE" in r8scan("--show-completion", "bash", env=shell, installed=True).stdout

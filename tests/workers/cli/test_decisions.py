"""Tests for the commands with which operators act on tokens and incidents, such as enable and close."""

from __future__ import annotations

import csv
import io
import json
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from scanner.detection import Candidate, Place, sha256_digest
from scanner.detection.patterns.token_formats import hint_of
from scanner.records.database import Database
from scanner.records.models import Notification
from scanner.response.policy import Policy
from scanner.response.respond import respond

Run = Callable[..., "subprocess.CompletedProcess[str]"]
POLICY = Policy(mail_domain="vendor.example")


@pytest.fixture
def stored(r8scan: Run, tmp_path: Path) -> Iterator[Database]:
    """Yield the database that the commands of the test use, with all tables."""
    assert r8scan("db", "upgrade").returncode == 0
    database = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    yield database
    database.close()


def find(database: Database, token: str, path: str = "app.py") -> None:
    place = Place("file", f"https://github.example/ana/app/blob/x/{path}", "ana/app", 1, path=path)
    candidate = Candidate(sha256_digest(token.encode()), hint_of(token.encode()), place, 12, 1)
    respond(database, [candidate], source="test", policy=POLICY)


@pytest.fixture
def leaked(r8scan: Run, stored: Database, fresh_token: Callable[[], str]) -> str:
    """Return a token that was registered, found in public, and disabled."""
    token = fresh_token()
    r8scan("tokens", "add", "--email", "ana@example.com", "--account", "acme", "--name", "=ci()", stdin=f"{token}\n")
    find(stored, token)
    return token


def incident(r8scan: Run) -> dict[str, Any]:
    listed = json.loads(r8scan("incidents", "list", "--json", "--limit", "1").stdout)
    whole: dict[str, Any] = json.loads(r8scan("incidents", "show", listed["id"], "--json").stdout)
    return whole


def only_line(result: subprocess.CompletedProcess[str], status: int = 1) -> str:
    assert result.returncode == status
    (line,) = result.stderr.strip().splitlines()
    return line


def test_a_token_is_enabled_with_a_reason(r8scan: Run, stored: Database, leaked: str) -> None:
    del stored
    digest = sha256_digest(leaked.encode())
    assert r8scan("tokens", "enable", "--sha256", digest).returncode == 2
    assert "say why" in only_line(r8scan("tokens", "enable", "--sha256", digest, "--reason", " "))
    done = r8scan("tokens", "enable", "--sha256", digest, "--reason", "our own sample")
    assert done.stdout == f"works again: {digest}\n"
    assert json.loads(r8scan("tokens", "list", "--json").stdout)["disabled_at"] is None
    assert "was not disabled" in r8scan("tokens", "enable", "--sha256", digest, "--reason", "again").stdout
    assert "token enabled by operator" in r8scan("incidents", "show", incident(r8scan)["id"]).stdout


def test_an_incident_is_noted_closed_and_opened_again(r8scan: Run, leaked: str) -> None:
    found = incident(r8scan)["id"]
    assert r8scan("incidents", "note", found[:8], f"called them about {leaked}").returncode == 0
    assert r8scan("incidents", "close", found, "--reason", "done").stdout == "closed\n"
    assert "closed already" in only_line(r8scan("incidents", "close", found, "--reason", "done"))
    assert r8scan("incidents", "reopen", found, "--reason", "not done").stdout == "open again\n"
    assert "is open" in only_line(r8scan("incidents", "reopen", found, "--reason", "not done"))
    story = incident(r8scan)["timeline"]
    assert [moment["what"] for moment in story][-3:] == ["note", "incident closed", "incident reopened"]
    assert all(moment["who"].startswith("operator") for moment in story[-3:])
    assert leaked not in json.dumps(story)


def test_a_mail_is_sent_again(r8scan: Run, stored: Database, leaked: str) -> None:
    del leaked
    found = incident(r8scan)["id"]
    assert "is already waiting" in only_line(r8scan("incidents", "resend", found, "--reason", "lost"))
    with stored.write() as session:
        session.execute(update(Notification).values(state="sent"))
    assert r8scan("incidents", "resend", found, "--reason", "lost").stdout == "1 mail is queued\n"
    assert [one["state"] for one in incident(r8scan)["notifications"]] == ["sent", "pending"]


def test_incidents_are_exported_as_json_and_csv(
    r8scan: Run, stored: Database, leaked: str, fresh_token: Callable[[], str], tmp_path: Path
) -> None:
    find(stored, leaked, "=HYPERLINK(1).py")
    second = fresh_token()
    r8scan("tokens", "add", "--email", "bo@example.com", "--account", "other", stdin=f"{second}\n")
    find(stored, second)
    whole = json.loads(r8scan("incidents", "export", "--format", "json").stdout)
    assert [(one["account"], len(one["exposures"])) for one in whole] == [("acme", 2), ("other", 1)]
    assert whole[0]["timeline"]
    assert r8scan("incidents", "export", "--format", "csv", "--output", "out.csv").returncode == 0
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o600
    text = (tmp_path / "out.csv").read_text()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["account"], row["path"], row["token_name"]) for row in rows] == [
        ("acme", "app.py", "'=ci()"),
        ("acme", "'=HYPERLINK(1).py", "'=ci()"),
        ("other", "app.py", ""),
    ]
    only = json.loads(r8scan("incidents", "export", "--format", "json", "--account", "other").stdout)
    assert [one["account"] for one in only] == ["other"]
    assert json.loads(r8scan("incidents", "export", "--format", "json", "--until", "2020-01-01").stdout) == []
    recent = r8scan("incidents", "export", "--format", "json", "--since", "yesterday", "--until", "today")
    assert json.loads(recent.stdout) == whole
    assert "--since" in only_line(r8scan("incidents", "export", "--format", "json", "--since", "once"), status=2)
    assert leaked not in text + json.dumps(whole)


def test_an_account_is_erased_when_its_tokens_are_dead(
    r8scan: Run, stored: Database, leaked: str, fresh_token: Callable[[], str]
) -> None:
    del stored, leaked
    live = fresh_token()
    r8scan("tokens", "add", "--email", "ana@example.com", "--account", "acme", stdin=f"{live}\n")
    assert "disable them first" in only_line(r8scan("accounts", "erase", "acme", "--yes"))
    r8scan("tokens", "disable", "--sha256", sha256_digest(live.encode()))
    assert r8scan("accounts", "erase", "acme", stdin="n\n").returncode == 1
    erased = json.loads(r8scan("accounts", "erase", "acme", "--yes", "--json").stdout)
    assert (erased["incidents"], erased["api_tokens"]) == (1, 2)
    assert r8scan("incidents", "list", "--json").stdout == ""
    assert r8scan("tokens", "list", "--json").stdout == ""
    assert "keeps no data of such an account" in only_line(r8scan("accounts", "erase", "acme", "--yes"))

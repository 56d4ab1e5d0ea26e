"""Tests for the leaks that a user of `r8scan sandbox` can cause."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from scanner.detection import Candidate, Place
from scanner.records.audit_models import AuditEntry
from scanner.response.policy import Policy
from scanner.response.respond import respond
from scanner.tokens import sql
from workers.sandbox import leak_page, playground, world
from workers.sandbox.http_server import served
from workers.sandbox.leaks import KINDS, REPORTED, Leak, Leaks
from workers.sandbox.world import World, until


@pytest.fixture(scope="module")
def surroundings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world.running(tmp_path_factory.mktemp("world")) as running:
        yield running


@pytest.fixture(scope="module")
def leaks(surroundings: World) -> Leaks:
    return Leaks(surroundings)


def test_the_page_causes_every_kind_of_leak_and_refuses_other_sites(surroundings: World, leaks: Leaks) -> None:
    caused: list[Leak] = []

    def cause(kind: str) -> Leak:
        caused.append(leaks.cause(kind))
        return caused[-1]

    application = leak_page.application(cause, ["<b>something</b>"], surroundings.mailbox, "http://console/")
    with served(application) as url, httpx.Client(base_url=url, trust_env=False, timeout=60) as page:
        for kind in KINDS:
            assert page.post(f"/leak/{kind}").text == f"{caused[-1].sentence}\n"
        assert page.post("/leak/push", headers={"Accept": "text/html"}).headers["location"] == "/"
        assert page.post("/leak/push", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert page.post("/leak/nonsense").status_code == 404
        assert page.get("/mails/0").status_code == 404
        shown = page.get("/").text
    assert all(f'action="/leak/{kind}"' in shown for kind in KINDS)
    assert "&lt;b&gt;something" in shown
    by_kind = {leak.kind: leak.digest for leak in caused}
    with surroundings.database.read() as session:
        known = sql.look_up(session, by_kind.values())
    assert set(by_kind.values()) - known.keys() == {by_kind["unknown"]}
    assert [kind for kind, digest in by_kind.items() if digest in known and known[digest].is_protected] == ["protected"]
    assert [kind for kind, digest in by_kind.items() if digest in known and not known[digest].recipients] == ["nobody"]
    events = [event["type"] for event in surroundings.github.timeline.page(1, 100)]
    assert {"PushEvent", "IssuesEvent", "IssueCommentEvent"} <= set(events)
    assert len(surroundings.github.gists) == 1
    assert (surroundings.github.git_limit, surroundings.mailbox.is_down) == (0, True), (
        "the faults last until they are ended"
    )
    with surroundings.database.read() as session:
        (entry,) = session.query(AuditEntry).filter_by(what="reports_received")
        assert (entry.who, entry.evidence["tokens"]) == ("sandbox", REPORTED)


def test_the_printed_command_is_a_path_unless_r8scan_is_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert Path(playground.command()).is_file()
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    assert playground.command() == "r8scan"


def test_the_outcome_of_each_leak_is_printed_once(surroundings: World, leaks: Leaks) -> None:
    out = io.StringIO()
    journal = playground._Journal(Console(file=out, width=200))
    watched = playground._Watched(surroundings, journal)
    for kind in ("push", "protected"):
        leak = leaks.cause(kind)
        watched.add(leak)
        watched.look()
        assert leak.shown not in out.getvalue(), "no leak was caused yet"
        place = Place("file", "https://github.example/ana/app", "ana/app", 1, path="a.py")
        respond(surroundings.database, [Candidate(leak.digest, leak.shown, place)], source="test", policy=Policy())
        watched.look()
        watched.look()
        assert out.getvalue().count(leak.shown) == 1
    assert "found and disabled after" in out.getvalue()
    assert "found, protected: incident " in out.getvalue()


def test_kinds_of_leaks_that_are_typed_in_the_terminal_are_caused(monkeypatch: pytest.MonkeyPatch) -> None:
    typed: list[str] = []
    out = io.StringIO()

    def cause(kind: str) -> Leak:
        typed.append(kind)
        return Leak(kind, "", "", "")

    reader, writer = os.pipe()
    with os.fdopen(reader) as stdin, os.fdopen(writer, "wb", buffering=0) as terminal:
        monkeypatch.setattr(sys, "stdin", stdin)
        with playground._typed(cause, Console(file=out)):
            terminal.write(b"push\nGi")
            terminal.write(b"st\n\n")
            until(lambda: len(typed) == 2, 30)
    assert typed == ["push", "gist"]


def test_the_settings_for_the_command_line_are_written_into_a_private_file(surroundings: World, tmp_path: Path) -> None:
    playground._write_settings(tmp_path, surroundings)
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert "R8SCAN_STATE_DIR='" in (tmp_path / ".env").read_text()

"""Tests for the list commands: filters, limits, and tables that fit the width of the terminal."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import update

from scanner.detection import Candidate, Place
from scanner.records.database import Database
from scanner.records.models import Incident, NotificationSubject, db_now
from scanner.records.schema import current_revision
from scanner.response.policy import Policy
from scanner.response.respond import respond
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from workers.cli.days import day, point_in_time
from workers.cli.errors import UserError
from workers.cli.output import ago
from workers.cli.tables import FittedTable

Run = Callable[..., "subprocess.CompletedProcess[str]"]
TOKENS = 5


HEADER = "email,account,name,token\n"
"""A list of tokens to import that has only a header and no tokens."""
IN_DATABASE = "in the database {}/state/r8scan.db."
NO_TABLES = "the database has no tables yet: run r8scan db upgrade"


@pytest.fixture
def leaked(r8scan: Run, tmp_path: Path) -> Run:
    """Leak five tokens of two accounts in two repositories. Return the function that runs `r8scan`."""
    assert r8scan("db", "upgrade").returncode == 0
    empty = f"No tokens {IN_DATABASE.format(tmp_path)} Import them: r8scan tokens import FILE\n"
    assert r8scan("tokens", "list").stdout == empty
    database = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    digests = [f"{number:064x}" for number in range(TOKENS)]
    accounts = ["acme" if number < 3 else "globex" for number in range(TOKENS)]
    with database.write() as session:
        entries = [
            ImportedToken(digest, f"r8_Ab{number}…xyz9", f"key{number}", accounts[number], ("ana@example.com",))
            for number, digest in enumerate(digests)
        ]
        ImportRun.begin().write(session, entries)
    for number, digest in enumerate(digests):
        repository = "ana/app" if number % 2 else "ben/site"
        place = Place("file", f"https://github.example/{repository}/{number}", repository, number % 2 + 1, path="a.py")
        source = "gists" if number == 0 else "public_events"
        respond(database, [Candidate(digest, f"r8_Ab{number}…xyz9", place, 1, 1)], source=source, policy=Policy())
    with database.write() as session:
        old = update(Incident).where(Incident.digest == digests[-1]).values(detected_at=db_now(-5 * 86400))
        session.execute(old)
        told = update(NotificationSubject).values(mail_state="failed")
        session.execute(told.where(NotificationSubject.incident_id.in_(_ids(session, digests[1]))))
    database.close()
    return r8scan


def _ids(session: object, digest: str) -> list[object]:
    from sqlalchemy import select

    return list(session.execute(select(Incident.id).where(Incident.digest == digest)).scalars())  # type: ignore[attr-defined]


FILTERS: dict[tuple[str, ...], set[int]] = {
    ("--account", "globex"): {3, 4},
    ("--repository", "ana/app"): {1, 3},
    ("--source", "gists"): {0},
    ("--mail", "failed"): {1},
    ("--mail", "waiting", "--account", "acme"): {0, 2},
    ("--since", "2d"): {0, 1, 2, 3},
    ("--until", "2d"): {4},
    ("--cause", "public_repository", "--action", "disabled"): {0, 1, 2, 3, 4},
    ("--state", "closed"): set(),
    ("--search", "r8_Ab2"): {2},
}


def test_incidents_are_listed_by_every_filter_of_the_console(leaked: Run) -> None:
    for arguments, wanted in FILTERS.items():
        done = leaked("incidents", "list", "--json", *arguments)
        assert done.returncode == 0, done.stderr
        assert {int(json.loads(line)["sha256"], 16) for line in done.stdout.splitlines()} == wanted, arguments


def test_a_filter_with_an_unknown_value_names_similar_values(leaked: Run, tmp_path: Path) -> None:
    kind = f"of this kind {IN_DATABASE.format(tmp_path)}"
    for arguments, words in {
        ("incidents", "list", "--account", "ACME"): "No entry has --account ACME: did you mean acme?",
        ("incidents", "list", "--repository", "Ana/App"): "No entry has --repository Ana/App: did you mean ana/app?",
        ("incidents", "list", "--source", "gits"): "No entry has --source gits: did you mean gists?",
        ("tokens", "list", "--account", "xy"): "No entry has --account xy: it can be acme, globex",
    }.items():
        assert leaked(*arguments).stdout == f"No {arguments[0]} {kind} {words}\n"
    assert leaked("incidents", "list", "--account", "acme", "--state", "closed").stdout == f"No incidents {kind}\n"


def test_a_list_says_how_many_it_leaves_out(leaked: Run) -> None:
    some = leaked("incidents", "list", "--limit", "2")
    assert some.stderr == "2 of 5 shown: --all shows all\n"
    assert some.stdout.count("ana/app") + some.stdout.count("ben/site") == 2
    assert (leaked("incidents", "list", "--limit", "2", "--all").stderr) == ""
    assert leaked("tokens", "list", "--limit", "3", "--account", "acme").stderr == ""
    assert leaked("tokens", "list", "--limit", "2", "--account", "acme").stderr == "2 of 3 shown: --all shows all\n"
    assert len(leaked("tokens", "list", "--json", "--state", "disabled").stdout.splitlines()) == TOKENS
    assert leaked("tokens", "list", "--state", "live").stdout.startswith("No tokens of this kind in the database ")


def test_incidents_are_counted_by_repository_and_account(leaked: Run) -> None:
    counted = [json.loads(line) for line in leaked("incidents", "top", "--json").stdout.splitlines()]
    assert counted == [{"repository": "ben/site", "incidents": 3}, {"repository": "ana/app", "incidents": 2}]
    newer = leaked("incidents", "top", "account", "--since", "2d", "--json").stdout.splitlines()
    assert [json.loads(line)["incidents"] for line in newer] == [3, 1]
    assert "ben/site" in leaked("incidents", "top", "repository").stdout


def test_tables_show_relative_times_and_json_shows_iso_times(leaked: Run) -> None:
    assert "5 d ago" in leaked("incidents", "list").stdout
    first = json.loads(leaked("incidents", "list", "--json").stdout.splitlines()[-1])
    assert datetime.fromisoformat(first["detected_at"]) < datetime.now(UTC) - timedelta(days=4)
    assert first["repository"] == "ben/site"


def test_a_word_is_broken_at_no_width(leaked: Run) -> None:
    for width in (40, 60, 80, 120):
        shown = leaked("incidents", "list", env={"COLUMNS": str(width)}).stdout
        words = {"acme", "globex", "incident"} if width >= 100 else set()
        assert {"disabled", "ana/app", "ben/site", *words} <= set(shown.split()), width
        assert max(map(len, shown.splitlines())) <= width


COLUMNS = ("name", "place", "note")
ROWS = (("first", "a/long/path/in/a/repository.py", "it has some words"), ("second", "-", "and others"))


def _drawn(width: int, optional: tuple[str, ...] = ()) -> str:
    console = Console(width=width, record=True, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(FittedTable("Table", COLUMNS, ROWS, optional), crop=False)
    return captured.get()


def test_a_table_wraps_between_words_then_leaves_out_columns_then_stacks_rows() -> None:
    assert "it has some words" in _drawn(80)
    wrapped = _drawn(50)
    assert "repository.py" in wrapped
    assert "it has some words" not in wrapped
    assert {"it", "has", "some", "words"} <= set(wrapped.split())
    assert "words" not in _drawn(40, optional=("note",))
    stacked = _drawn(20)
    assert "a/long/path/in/a/repository.py" in stacked
    assert "  note   and others" in stacked
    assert "place  -" not in stacked


def test_a_column_without_a_name_is_shown() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(FittedTable("Timeline", ("at", ""), (("now", "the detail"),)))
    assert "the detail" in captured.get()


def test_times_and_days_are_words() -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    assert ago(now - timedelta(seconds=90), now) == "90 s ago"
    assert ago(now - timedelta(hours=3), now) == "3 h ago"
    assert (ago(now, now), ago(None, now), ago(now + timedelta(days=2), now)) == ("now", None, "in 2 d")
    assert day("yesterday", "--since", now=now) == "2026-11-29"
    assert day("7d", "--since", now=now) == "2026-11-23"
    assert day("2026-01-31", "--since", now=now) == "2026-01-31"
    with pytest.raises(UserError, match="--until must be a day"):
        day("31.1.2026", "--until")


def test_an_export_ends_with_a_whole_day_or_at_a_time() -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC)
    midnight = datetime(2026, 11, 29, tzinfo=UTC)
    for text in ("yesterday", "1d", "2026-11-29", "2026-11-29T00:00", "2026-11-29 01:00+01:00"):
        assert point_in_time(text, "--since", now=now) == midnight, text
    assert point_in_time("yesterday", "--until", is_end=True, now=now) == midnight + timedelta(days=1)
    assert point_in_time("2026-11-29T00:00Z", "--until", is_end=True, now=now) == midnight
    assert point_in_time("", "--until", is_end=True, now=now) is None
    for wrong in ("29.11.2026", "2026-11-29T25:00", "9999-12-31", "0001-01-01T00:00+14:00", "T1"):
        with pytest.raises(UserError, match="--until must be a day or a time"):
            point_in_time(wrong, "--until", is_end=True, now=now)


def test_an_empty_default_database_gets_its_tables_and_no_other_does(r8scan: Run, tmp_path: Path) -> None:
    other = {"R8SCAN_DATABASE_URL": f"sqlite:///{tmp_path}/other.db"}
    refused = r8scan("tokens", "import", "-", env=other)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert r8scan("tokens", "import", "-", stdin=HEADER).returncode == 0
    assert r8scan("incidents", "list").stdout == f"No incidents {IN_DATABASE.format(tmp_path)}\n"
    made = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    assert current_revision(made) is not None
    made.close()
    assert r8scan("db", "current").returncode == 0


def test_a_default_database_without_tables_gets_them_too(r8scan: Run, tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with closing(sqlite3.connect(tmp_path / "state" / "r8scan.db")) as begun:
        begun.execute("PRAGMA journal_mode = WAL")
    assert (tmp_path / "state" / "r8scan.db").stat().st_size > 0
    reading = r8scan("incidents", "list")
    assert (reading.returncode, reading.stderr) == (1, f"r8scan: {NO_TABLES}\n")
    assert r8scan("tokens", "import", "-", stdin=HEADER).returncode == 0
    assert r8scan("incidents", "list").stdout == f"No incidents {IN_DATABASE.format(tmp_path)}\n"


def test_an_older_default_database_is_not_upgraded_silently(r8scan: Run, tmp_path: Path) -> None:
    from scanner.records.schema import upgrade_to

    older = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    upgrade_to(older, "0018")
    refused = r8scan("incidents", "list")
    assert refused.returncode == 1
    assert "run r8scan db upgrade" in refused.stderr
    assert current_revision(older) == "0018"
    older.close()

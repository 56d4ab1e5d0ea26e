"""Tests that a wrong setting, path or argument causes one line that names it and says what to do."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from scanner.records.database import Database
from scanner.records.schema import upgrade
from workers.cli.app import build
from workers.cli.errors import explain

MAKE_KEY = "make one with: openssl rand -hex 32"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def state(tmp_path: Path) -> Database:
    migrated = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    upgrade(migrated)
    return migrated


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("R8SCAN_REPORT_KEY", "short", f"must have at least 16 characters; {MAKE_KEY}"),
        ("R8SCAN_GATEWAY_KEY", "short", f"must have at least 16 characters; {MAKE_KEY}"),
        ("R8SCAN_VENDOR_NAME", "", "must not be empty"),
        ("R8SCAN_STATE_DIR", "", "must not be empty"),
        ("R8SCAN_STATE_DIR", "what?", "must not contain ?, # or %: name another folder"),
        ("R8SCAN_VENDOR_NAME", "\udcff", "must be text in UTF-8"),
        ("R8SCAN_GITHUB_TOKEN", "a\nb", "must be one line of printable characters"),
        ("R8SCAN_DATABASE_URL", "mysql://x", "must be postgresql://user:password@host/name or sqlite:////path/to/file"),
        (
            "R8SCAN_DATABASE_URL",
            "postgresql://u:p@[::1/x",
            "must be postgresql://user:password@host/name or sqlite:////path/to/file",
        ),
        ("R8SCAN_SUPPORT_CONTACT", "a" * 201, "must have at most 200 characters"),
        ("R8SCAN_WEB_PORT", "abc", "must be a whole number, such as 10"),
        ("R8SCAN_EVENTS_POLL_SECONDS", "abc", "must be a number, such as 2.5"),
    ],
)
def test_a_wrong_value_of_a_setting_is_reported_in_our_own_words(
    r8scan: Run, name: str, value: str, words: str
) -> None:
    done = r8scan("settings", env={name: value})
    assert (done.returncode, done.stderr) == (1, f"r8scan: {name} {words}\n")


def test_a_state_folder_that_cannot_be_made_names_the_right_setting(r8scan: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = r8scan("db", "upgrade", env={"R8SCAN_STATE_DIR": "/proc/x"})
    assert done.stderr.strip().endswith("check R8SCAN_STATE_DIR")
    database = {"R8SCAN_DATABASE_URL": f"sqlite:///{tmp_path}/file/x/r8scan.db"}
    assert r8scan("db", "upgrade", env=database).stderr.strip().endswith("check R8SCAN_DATABASE_URL")
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "r8scan.db").write_text("This file is no database.")
    assert "correct R8SCAN_STATE_DIR" in r8scan("status").stdout.splitlines()[0]
    file = r8scan("status", env={"R8SCAN_STATE_DIR": str(tmp_path / "file")})
    assert file.stderr.startswith(f"r8scan: R8SCAN_STATE_DIR: {tmp_path}/file: Not a directory")


def test_the_check_of_a_store_names_the_file_that_it_cannot_read(r8scan: Run, tmp_path: Path) -> None:
    missing = str(tmp_path / "nope")
    done = r8scan("store", "check", "http://127.0.0.1:1", "--secret-file", missing)
    todo = "correct the name, or make it readable for you"
    assert done.stderr == f"r8scan: {missing} cannot be read (No such file or directory): {todo}\n"


def test_a_path_that_does_not_exist_is_named_with_what_to_do(r8scan: Run) -> None:
    scanned = r8scan("scan", "/nope")
    assert scanned.stderr == "r8scan: there is no /nope: name a file or folder that exists, or - for standard input\n"
    reported = r8scan("report", "/nope", "--sign", "abuse_report")
    reason = "cannot read /nope (No such file or directory): give its name, or - for standard input"
    assert reported.stderr == f"r8scan: {reason}\n"


def test_a_dotenv_that_is_a_folder_is_a_one_line_error(r8scan: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    done = r8scan("settings")
    line = f"r8scan: {tmp_path}/.env is not read, because it is a folder: rename it, or remove it\n"
    assert (done.returncode, done.stderr) == (1, line)


def test_an_unavailable_store_is_reported_once(r8scan: Run) -> None:
    done = r8scan("store", "check", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "BROKEN  the store can be reached: Connection refused; correct the address, start the store, or look at the"
        " network",
        "1 rule is broken",
    ]


def test_a_missing_template_folder_is_reported_once(r8scan: Run, tmp_path: Path) -> None:
    done = r8scan("email", "check", env={"R8SCAN_EMAIL_TEMPLATES_DIR": str(tmp_path / "nope")})
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"r8scan: R8SCAN_EMAIL_TEMPLATES_DIR: {tmp_path}/nope is not a folder: correct it; until then, the built-in"
        " templates are used"
    ]


def test_a_long_word_that_the_user_typed_is_cut_in_the_message(r8scan: Run, state: Database) -> None:
    del state
    done = r8scan("incidents", "show", "a" * 5000)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert len(done.stderr) < 300


@pytest.mark.parametrize("wanted", ["", "xyz", "-", "-1"])
def test_a_malformed_id_is_a_one_line_error(r8scan: Run, state: Database, wanted: str) -> None:
    done = r8scan("incidents", "show", "--", wanted)
    line = f'r8scan: "{wanted}" is not the beginning of an incident\'s id: see r8scan incidents list -q TEXT\n'
    assert (done.returncode, done.stderr) == (1, line)


def _arguments(command: Any) -> list[str]:
    positional = [one.metavar or one.name for one in command.params if one.param_type_name == "argument"]
    return positional + [name for one in getattr(command, "commands", {}).values() for name in _arguments(one)]


def test_every_argument_has_a_name_in_capitals() -> None:
    names = _arguments(typer.main.get_command(build()))
    assert len(names) > 15
    assert [name for name in names if name != name.upper()] == []


@pytest.mark.parametrize(
    "command", [("db", "upgrade"), ("incidents", "list"), ("tokens", "list"), ("rescan", "list"), ("run",)]
)
def test_a_database_that_is_newer_than_the_program_is_a_one_line_error_in_every_command(
    r8scan: Run, state: Database, command: tuple[str, ...]
) -> None:
    with state.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        session.execute(text("ALTER TABLE incidents RENAME COLUMN hint TO changed"))
        session.execute(text("ALTER TABLE scan_jobs RENAME COLUMN target TO changed"))
    done = r8scan(*command)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("r8scan: the database is newer than this program (9999, wanted ")
    assert line.endswith("install the version that upgraded it")


@pytest.mark.parametrize(
    "command",
    [
        ("incidents", "list"),
        ("incidents", "close", "1f3c", "--reason", "a sample"),
        ("brake", "release", "--yes"),
        ("jobs", "list"),
        ("audit", "verify"),
        ("tokens", "import", "-"),
        ("rescan", "repo", "ana/app"),
        ("serve", "--port", "0"),
    ],
)
def test_a_database_one_revision_behind_is_a_one_line_error_in_every_command(
    r8scan: Run, state: Database, command: tuple[str, ...]
) -> None:
    with state.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '0023'"))
    done = r8scan(*command)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, done.stdout) == (1, "")
    assert line.startswith("r8scan: the database is older than this program (0023, wanted ")
    assert line.endswith("run r8scan db upgrade")


def test_the_doctor_says_that_a_database_is_newer(r8scan: Run, state: Database) -> None:
    with state.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    settings = {"R8SCAN_GITHUB_API_URL": "http://127.0.0.1:1", "R8SCAN_GITHUB_WEB_URL": "http://127.0.0.1:1"}
    lines = r8scan("doctor", env=settings).stdout.splitlines()
    (line,) = [one for one in lines if "WRONG  database" in one]
    assert "newer than this program" in line
    assert line.endswith("install the version that upgraded it")


def test_a_full_disk_is_a_one_line_error() -> None:
    full = OSError(errno.ENOSPC, "No space left on device", "/var/lib/r8scan/log")
    assert explain(full) == (
        "the disk cannot be written: No space left on device (/var/lib/r8scan/log); make room, or move R8SCAN_STATE_DIR"
    )
    sqlite = OperationalError("INSERT", {}, Exception("database or disk is full"))
    assert explain(sqlite) == "the disk of the database is full: make room, or change R8SCAN_STATE_DIR"
    assert explain(OSError(errno.ENOSPC, "No space left on device")) == (
        "cannot write: No space left on device; make room for the output, and in R8SCAN_STATE_DIR"
    )
    assert explain(OSError(errno.EBADF, "Bad file descriptor")) is None

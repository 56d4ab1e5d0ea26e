"""Tests that a command whose database does not exist names this database, and creates none."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("incidents", "list"),
        ("incidents", "show", "1f3c"),
        ("incidents", "export", "--format", "csv"),
        ("jobs", "list"),
        ("audit", "list"),
        ("tokens", "list"),
        ("brake", "status"),
        ("brake", "release", "--yes"),
        ("canary", "list"),
        ("rescan", "list"),
        ("console", "user", "list"),
        ("db", "current"),
    ],
)
def test_a_command_in_a_wrong_folder_names_the_database_and_creates_none(
    r8scan: Run, tmp_path: Path, command: tuple[str, ...]
) -> None:
    done = r8scan(*command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"r8scan: there is no r8scan installation here: {tmp_path}/state/r8scan.db does not")
    assert not (tmp_path / "state").exists()
    named = r8scan(*command, env={"R8SCAN_DATABASE_URL": f"sqlite:///{tmp_path}/other.db"})
    assert named.stderr.startswith(f"r8scan: there is no database: {tmp_path}/other.db does not exist; correct R8SCAN_")
    assert not (tmp_path / "other.db").exists()


def test_the_doctor_creates_nothing(r8scan: Run, tmp_path: Path) -> None:
    settings = {"R8SCAN_GITHUB_API_URL": "http://127.0.0.1:1", "R8SCAN_GITHUB_WEB_URL": "http://127.0.0.1:1"}
    done = r8scan("doctor", env=settings)
    assert f"state folder: {tmp_path}/state does not exist yet; r8scan run creates it" in done.stdout
    assert f"WRONG  database: there is no r8scan installation here: {tmp_path}/state/r8scan.db" in done.stdout
    assert not (tmp_path / "state").exists()


def test_a_command_that_may_come_first_creates_the_default_database_but_no_other(r8scan: Run, tmp_path: Path) -> None:
    (tmp_path / "tokens.csv").write_text("email,account,name,token\n")
    named = {"R8SCAN_DATABASE_URL": f"sqlite:///{tmp_path}/other.db"}
    assert r8scan("tokens", "import", "tokens.csv", env=named).returncode == 1
    assert not (tmp_path / "other.db").exists()
    done = r8scan("tokens", "import", "tokens.csv")
    assert done.returncode == 0
    assert done.stderr.startswith(f"created the database {tmp_path}/state/r8scan.db, because there was none; ")
    assert r8scan("tokens", "import", "tokens.csv").stderr == ""
    assert (tmp_path / "state" / "r8scan.db").exists()
    assert r8scan("incidents", "list").stdout == f"No incidents in the database {tmp_path}/state/r8scan.db.\n"


def test_a_report_in_a_wrong_folder_names_the_new_database_and_fails_because_no_token_is_known(
    r8scan: Run, tmp_path: Path, fresh_token: Callable[[], str]
) -> None:
    for is_new in (True, False):
        done = r8scan("report", "--sign", "abuse_report", "--key", str(is_new), stdin=fresh_token())
        assert (done.returncode, done.stdout) == (1, "1 token found: 1 plain\n1 unknown to the token store\n")
        assert ("created the database" in done.stderr) is is_new
        line = f"no token is known in the database {tmp_path}/state/r8scan.db, so every token counts as unknown: import"
        assert line in done.stderr

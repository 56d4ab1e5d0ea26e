"""Tests for `r8scan console`, which manages the people who may sign in to the console."""

from __future__ import annotations

import json
from pathlib import Path

from argon2 import PasswordHasher

from scanner.records.database import Database
from scanner.records.states import Role
from tests.workers.cli.conftest import Run
from workers.web.console import users

PASSWORD = "correct horse battery staple"


def test_a_user_is_added_listed_changed_and_removed(r8scan: Run, tmp_path: Path) -> None:
    assert r8scan("db", "upgrade").returncode == 0
    added = r8scan("console", "user", "add", "Ana", "--role", "operator", stdin=f"{PASSWORD}\n")
    assert (added.returncode, added.stdout) == (0, "ana may sign in as operator\n")
    again = r8scan("console", "user", "add", "ana", stdin=f"{PASSWORD}\n")
    assert (again.returncode, "the user ana already exists" in again.stderr) == (1, True)
    assert r8scan("console", "user", "role", "ana", "viewer").returncode == 0
    assert r8scan("console", "user", "password", "ana", stdin=f"another {PASSWORD}\n").returncode == 0
    listed = json.loads(r8scan("console", "user", "list", "--json").stdout)
    assert (listed["name"], listed["role"]) == ("ana", "viewer")
    database = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    with database.read() as session:
        kept = users.Credential(users.listed(session)[0].password_hash, Role.VIEWER)
    database.close()
    assert users.check(kept, "ana", f"another {PASSWORD}") is not None
    assert users.check(kept, "ana", PASSWORD) is None
    assert r8scan("console", "user", "remove", "ana").returncode == 0
    assert r8scan("console", "sign-out", "ana").stdout.startswith("ana has no session: ")
    gone = r8scan("console", "user", "remove", "ana")
    assert (gone.returncode, "there is no user ana" in gone.stderr) == (1, True)


def test_a_short_password_is_a_one_line_error_and_nobody_is_added(r8scan: Run) -> None:
    assert r8scan("db", "upgrade").returncode == 0
    refused = r8scan("console", "user", "add", "ana", stdin="short\n")
    assert (refused.returncode, refused.stderr) == (1, "r8scan: a password has 12 to 256 characters\n")
    assert "No users" in r8scan("console", "user", "list").stdout


def test_a_hash_for_the_settings_is_printed_and_not_the_password(r8scan: Run) -> None:
    printed = r8scan("console", "hash", stdin=f"{PASSWORD}\n")
    assert PASSWORD not in printed.stdout + printed.stderr
    assert PasswordHasher().verify(printed.stdout.strip(), PASSWORD)

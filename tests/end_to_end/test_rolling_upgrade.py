"""Tests that the previous version of r8scan can still use this version's database."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scanner.records.database import Database
from scanner.records.schema import current_revision, newest_revision

ROOT = Path(__file__).parents[2]
BEFORE_RELEASES = "3a73a9781e26fbfb9181496cfc446b7370726487"
"""The last commit with the tables of revision 0018. It is used as the previous version until a version is tagged."""
PARTS = ("scanner", "workers", "notifications", "celeryconfig.py")
COMMANDS = """
import contextlib, os, sys, workers
from workers.cli import main
assert workers.__file__.startswith(os.environ["PYTHONPATH"])
# Skip the check of the database's version, as if this program had started before the upgrade.
with contextlib.suppress(ImportError):
    from scanner.records import versions
    versions.check = lambda database: None
for arguments in (
    ["tokens", "import", "tokens.csv"],
    ["report", "found.txt", "--sign", "stolen_laptop"],
    ["incidents", "list", "--json"],
):
    sys.argv = ["r8scan", *arguments]
    try:
        main()
    except SystemExit as err:
        if err.code:
            raise
"""


def git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout


def previous_version() -> str:
    """Return the git tag of the previous version, or BEFORE_RELEASES if there is none."""
    tags = git("tag", "--list", "v*", "--sort=-version:refname", "--no-contains", "HEAD").decode().split()
    return tags[0] if tags else BEFORE_RELEASES


@pytest.fixture(scope="module")
def old_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    packed = git("archive", previous_version(), *PARTS)
    subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
    return folder


def test_the_previous_version_works_with_the_tables_of_this_one(
    old_code: Path, upgraded_sqlite: Path, tmp_path: Path, fresh_token: Callable[[], str]
) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    shutil.copy(upgraded_sqlite, state / "r8scan.db")
    token = fresh_token()
    (tmp_path / "tokens.csv").write_text(f"email,account,name,token\nowner@example.com,acme,ci,{token}\n")
    (tmp_path / "found.txt").write_text(f"{token}\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHONPATH": str(old_code),
        "R8SCAN_STATE_DIR": str(state),
    }
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert (found["action"], found["account"], found["notifications"]) == ("disabled", "acme", ["pending"])
    database = Database(f"sqlite:///{state / 'r8scan.db'}")
    assert current_revision(database) == newest_revision()
    database.close()

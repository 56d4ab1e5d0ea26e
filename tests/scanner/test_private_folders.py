"""Tests that only the user of r8scan can read the state folder, and that files of other users are not trusted."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scanner import private_folders
from scanner.private_folders import NotOurs, check_trusted, create_privately, make_private
from scanner.settings import SettingsError, load_settings
from tests.processes import core_dumps_allowed


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def give_away(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Return a function that makes a file appear to belong to another user."""

    def give(path: Path) -> None:
        if os.geteuid() == 0:
            os.chown(path, 12_345, 12_345)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)

    return give


@pytest.mark.parametrize(
    "start", ["from workers import celery; celery._logs()", "from workers.cli.app import run; run()"]
)
def test_commands_and_workers_dump_no_core(start: str) -> None:
    program = f"try:\n {start}\nfinally:\n import resource; print(resource.getrlimit(resource.RLIMIT_CORE))"
    with core_dumps_allowed():
        done = subprocess.run([sys.executable, "-c", program, "--version"], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "(0, 0)", done.stderr


def test_a_folder_that_others_may_read_becomes_private_with_all_its_content(tmp_path: Path) -> None:
    state = tmp_path / "state"
    for folder in (state, state / "mail", state / "mail" / "new"):
        folder.mkdir()
        folder.chmod(0o755)
        (folder / "file").write_text("content")
        (folder / "file").chmod(0o664)
    outside = tmp_path / "outside"
    outside.write_text("of somebody else")
    outside.chmod(0o644)
    (state / "link").symlink_to(outside)
    (state / "gone").symlink_to(tmp_path / "nowhere")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(state / "redis.sock"))
        make_private(state)
    for path in [state, *state.rglob("*")]:
        if not path.is_symlink() and not path.is_socket():
            assert mode(path) == (0o700 if path.is_dir() else 0o600), path
    assert mode(outside) == 0o644


def test_a_file_that_others_may_read_in_a_private_folder_becomes_private(tmp_path: Path) -> None:
    (tmp_path / "r8scan.db").write_text("")
    (tmp_path / "r8scan.db").chmod(0o644)
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool").chmod(0o777)
    (tmp_path / "spool" / "entry").write_text("")
    (tmp_path / "spool" / "entry").chmod(0o666)
    make_private(tmp_path)
    found = {path.name: mode(path) for path in tmp_path.rglob("*")}
    assert found == {"r8scan.db": 0o600, "spool": 0o700, "entry": 0o600}


def test_a_huge_folder_costs_a_limited_number_of_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_folders, "MAX_TIGHTENED", 3)
    for number in range(10):
        (tmp_path / str(number)).write_text("")
        (tmp_path / str(number)).chmod(0o644)
    tmp_path.chmod(0o755)
    make_private(tmp_path)
    assert mode(tmp_path) == 0o700
    assert sum(mode(path) == 0o600 for path in tmp_path.iterdir()) == 3


def test_a_missing_folder_is_ignored(tmp_path: Path) -> None:
    make_private(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_state_folder_of_another_user_is_refused_in_one_line(
    tmp_path: Path, give_away: Callable[[Path], None]
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    give_away(state)
    with pytest.raises(SettingsError) as caught:
        load_settings(state_dir=state)
    assert str(state) in str(caught.value)
    assert "belongs to another user" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_database_is_created_with_access_for_our_user_only(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        create_privately(tmp_path / "state" / "r8scan.db")
        (tmp_path / "old.db").write_text("content")
        create_privately(tmp_path / "old.db")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "state"), mode(tmp_path / "state" / "r8scan.db")) == (0o700, 0o600)
    assert (mode(tmp_path / "old.db"), (tmp_path / "old.db").read_text()) == (0o600, "content")


def test_only_files_that_others_cannot_write_are_trusted(tmp_path: Path, give_away: Callable[[Path], None]) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for allowed in (0o600, 0o644, 0o400):
        file.chmod(allowed)
        check_trusted(file)
    for refused in (0o620, 0o602, 0o666):
        file.chmod(refused)
        with pytest.raises(NotOurs, match="others may write"):
            check_trusted(file)
    file.chmod(0o600)
    give_away(file)
    with pytest.raises(NotOurs, match="belongs to another user"):
        check_trusted(file)

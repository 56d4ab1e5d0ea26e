"""Tests for commands that run in a folder that an attacker has prepared, for example with a `.env` file."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from tests.workers.cli.conftest import Run
from workers.sandbox import world
from workers.sandbox.world import until

DOTENV = "R8SCAN_GITHUB_API_URL=http://127.0.0.1:9\nR8SCAN_ENFORCE=nonsense\nR8SCAN_DIGEST=hmac-sha256\n"
HOSTILE = {"folder": (0o777, 0o600), "group of the folder": (0o775, 0o600), "file": (0o755, 0o666)}


def test_scan_reads_no_dotenv_not_even_in_our_own_folder(r8scan: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(DOTENV)
    found = r8scan("scan", ".", installed=True)
    assert (found.returncode, found.stderr.count("R8SCAN_")) == (0, 0)


def test_scan_works_whoever_owns_the_state_folder(r8scan: Run, tmp_path: Path) -> None:
    assert r8scan("scan", ".", env={"R8SCAN_STATE_DIR": "/proc/1"}).returncode == 0


@pytest.mark.parametrize("kind", sorted(HOSTILE))
@pytest.mark.parametrize("command", [("status",), ("run",), ("tokens", "list"), ("serve",), ("audit", "verify")])
def test_no_command_reads_a_dotenv_that_others_could_have_written(
    r8scan: Run, tmp_path: Path, kind: str, command: tuple[str, ...]
) -> None:
    (tmp_path / ".env").write_text(DOTENV)
    folder_mode, file_mode = HOSTILE[kind]
    (tmp_path / ".env").chmod(file_mode)
    tmp_path.chmod(folder_mode)
    result = r8scan(*command, env={"GITHUB_TOKEN": "ghp_secret"}, installed=command == ("status",))
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1
    assert str(tmp_path) in result.stderr
    assert "others may write to" in result.stderr
    assert "nonsense" not in result.stderr


def test_run_does_not_start_in_a_folder_in_which_others_could_put_modules(r8scan: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    result = r8scan("run")
    assert result.returncode == 1
    assert "start r8scan run in a folder of your own" in result.stderr


def test_our_own_dotenv_is_read(r8scan: Run, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(DOTENV)
    result = r8scan("status")
    assert result.returncode == 1
    assert "R8SCAN_ENFORCE" in result.stderr


def test_only_our_user_can_read_what_the_service_writes(tmp_path: Path) -> None:
    maildir = tmp_path / "world" / "state" / "mail"
    with world.running(tmp_path / "world", smtp_url=f"maildir://{maildir}", sources="public_events") as around:
        for name in ("state", "state/r8scan.db"):
            (around.folder / name).chmod(0o755)
        token = "r8_" + "Q7w" * 12 + "x"
        around.register(token)
        around.github.create_repository("ana/app")
        work = around.workplace("ana/app")
        with around.service():
            until(lambda: (around.state / "redis").is_dir(), 60)
            work.write("a.txt", token)
            work.commit("Leak")
            work.push()
            until(lambda: list(maildir.glob("new/*")), 90)
            found = {path: path.lstat().st_mode for path in [around.state, *around.state.rglob("*")] if path.exists()}
    names = {path.name for path in found}
    assert {"r8scan.db", "r8scan.db-wal", "r8scan.db-shm", "run.lock", "redis.log", "new"} <= names
    for path, mode in found.items():
        assert stat.S_IMODE(mode) & 0o077 == 0, path

"""The command as an operator types it: a process of its own, in a clean environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def r8scan(tmp_path: Path) -> Run:
    """Runs `r8scan` with arguments; `env` adds variables, `stdin` is its input."""

    def run(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "R8SCAN_STATE_DIR": str(tmp_path / "state"),
            "COLUMNS": "200",
            "PYTHONWARNINGS": "error",
            **(env or {}),
        }
        command = [str(Path(sys.executable).parent / "r8scan"), *arguments]
        return subprocess.run(
            command, input=stdin, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    return run

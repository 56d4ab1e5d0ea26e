"""A pytest fixture that runs the `r8scan` command in a separate process."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import commands

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def r8scan(tmp_path: Path) -> Run:
    """Return a function that runs `r8scan` and returns the completed process.

    Its parameter `env` adds environment variables, `stdin` is the standard input, and `installed` runs the installed
    script.
    """

    def run(
        *arguments: str, stdin: str = "", env: dict[str, str] | None = None, installed: bool = False
    ) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "R8SCAN_STATE_DIR": str(tmp_path / "state"),
            "COLUMNS": "200",
            "PYTHONWARNINGS": "error",
            **(env or {}),
        }
        way = commands.installed if installed else commands.forked
        return way(arguments, environment, tmp_path, stdin)

    return run

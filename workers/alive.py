"""Tests whether a process of the service is alive, as a command for container and service managers."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from scanner.settings import SettingsError, load_settings

MAX_AGE_SECONDS = 60.0


def problem(path: Path | None) -> str | None:
    """Return the reason why the process counts as dead, as one line, or None if it is alive."""
    if path is None:
        return "R8SCAN_ALIVE_FILE is not set"
    try:
        age = time.time() - path.stat().st_mtime
    except OSError as err:
        return f"cannot read the age of {path}: {err.strerror}"
    return f"the process has taken no messages for {age:.0f} s" if age > MAX_AGE_SECONDS else None


def main() -> None:
    try:
        found = problem(load_settings().alive_file)
    except SettingsError as err:
        found = str(err)
    if found is not None:
        print(f"r8scan: {found}", file=sys.stderr)  # noqa: T201 - the health check's log shows it
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""Tests that a command imports only the modules that it uses, so that it starts fast."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scanner.detection import sha256_digest
from scanner.detection.patterns.token_formats import DEFAULT_FORMATS, active_formats
from scanner.records.database import Database
from scanner.records.schema import upgrade
from scanner.settings import SettingsError, load_settings
from workers.cli import scan_sources

HEAVY = (
    "scanner.detection.detector",
    "alembic",
    "celery",
    "cryptography",
    "email_validator",
    "github",
    "httpx",
    "jinja2",
    "kombu",
    "notifications",
    "numpy",
    "prometheus_client",
    "psycopg",
    "redis",
    "rich.live",
    "scanner.compromise.brake",
    "scanner.records.audit",
    "scanner.records.indexes",
    "scanner.records.reading_models",
    "scanner.records.usage_models",
    "scanner.response",
    "scanner.tokens",
    "sqlalchemy.dialects.postgresql",
    "starlette",
    "uvicorn",
)
"""Modules that neither the help nor the status with SQLite needs. They take time to import."""
SERVICE = (
    "email_validator",
    "numpy",
    "pydantic_settings",
    "rich",
    "scanner.records",
    "scanner.settings",
    "sqlalchemy",
    "structlog",
)
"""Modules that a scan without findings does not need."""
PROBE = f"""
import gc
import sys
sys.argv = ["r8scan", *sys.argv[1:]]
from workers.cli import main
try:
    main()
except SystemExit:
    print("imported:", *[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
    print("collects garbage:", gc.isenabled(), gc.get_freeze_count() > 0, file=sys.stderr)
    print("commands:", *[name for name in sys.modules if name.startswith("workers.cli.")], file=sys.stderr)
"""


@pytest.mark.parametrize("command", [("status",), ("status", "--help"), ("status", "--json")])
def test_a_command_imports_no_library_that_it_does_not_use(tmp_path: Path, command: tuple[str, ...]) -> None:
    assert imported(tmp_path, *command)[0] == "imported:"


@pytest.mark.parametrize("command", [("--help",), ("--version",), ("status",)])
def test_a_command_imports_no_other_command(tmp_path: Path, command: tuple[str, ...]) -> None:
    allowed = {f"workers.cli.{name}" for name in command if name.isalpha()}
    shared = {
        "workers.cli.app",
        "workers.cli.default_database",
        "workers.cli.groups",
        "workers.cli.opening",
        "workers.cli.output",
        "workers.cli.tables",
        "workers.cli.words",
    }
    others = set(imported(tmp_path, *command)[2].split()) - {"commands:"} - allowed - shared
    assert others == set()


def test_garbage_collection_resumes_after_the_imports_and_ignores_imported_objects(tmp_path: Path) -> None:
    assert imported(tmp_path, "status")[1] == "collects garbage: True True"


def test_the_help_needs_no_database_and_no_detector(tmp_path: Path) -> None:
    assert imported(tmp_path, "--help")[0] == "imported:"


def imported(tmp_path: Path, *command: str) -> list[str]:
    database = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    upgrade(database)
    database.close()
    environment = {
        "PATH": os.environ["PATH"],
        "R8SCAN_STATE_DIR": str(tmp_path / "state"),
        "R8SCAN_REDIS_URL": "redis://x",
        "R8SCAN_EMAIL_FROM": "r8scan <security@vendor.example>",
        "R8SCAN_OPERATOR_EMAIL": "on-call@vendor.example",
    }
    probe = [sys.executable, "-c", PROBE, *command]
    done = subprocess.run(probe, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    return done.stderr.splitlines()


def test_a_scan_imports_no_database_no_settings_and_no_tables(tmp_path: Path) -> None:
    (tmp_path / "clean.txt").write_text("nothing")
    program = PROBE.replace(repr(HEAVY), repr((*SERVICE, *HEAVY[1:])))
    probe = [sys.executable, "-c", program, "scan", "--history", str(tmp_path)]
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(probe, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr.splitlines()[:2] == ["no token found in 1 file (7 B)", "imported:"]


def test_the_settings_of_a_scan_without_variables_are_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("R8SCAN_")]:
        monkeypatch.delenv(name)
    settings = load_settings(read_dotenv=False, use_state=False)
    assert settings.digester() is sha256_digest is scan_sources._digester()
    assert settings.token_formats == DEFAULT_FORMATS == active_formats()
    monkeypatch.setenv("r8scan_token_format", "x")
    with pytest.raises(SettingsError):
        scan_sources._digester()

"""Tests that `r8scan doctor` reports each fault once, says what to do, and shows no secret."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_a_wrong_setting_is_reported_in_the_only_line(r8scan: Run) -> None:
    done = r8scan("doctor", "--json", env={"R8SCAN_ENFORCE": "perhaps"})
    (found,) = map(json.loads, done.stdout.splitlines())
    assert done.returncode == 1
    assert (found["check"], found["state"]) == ("settings", "failed")
    assert "R8SCAN_ENFORCE" in found["sentence"]


def test_the_advice_about_a_database_that_cannot_be_created_names_the_right_setting(r8scan: Run) -> None:
    done = r8scan("doctor", env={"R8SCAN_STATE_DIR": "/proc/x", "R8SCAN_GITHUB_API_URL": "http://127.0.0.1:1"})
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("WRONG  database:")]
    assert "there is no r8scan installation here: /proc/x/r8scan.db does not exist; start r8scan run, or set" in line
    assert line.endswith("R8SCAN_STATE_DIR or R8SCAN_DATABASE_URL as they are set for the service")


def test_doctor_prints_one_line_without_secrets_for_each_fault(r8scan: Run) -> None:
    secrets = {
        "R8SCAN_GITHUB_TOKEN": "hunter2-github",
        "R8SCAN_SMTP_URL": "smtp://mailer:hunter2-mail@127.0.0.1:1",
        "R8SCAN_REDIS_URL": "redis://:hunter2-redis@127.0.0.1:1/0",
        "R8SCAN_DATABASE_URL": "postgresql://someone:hunter2-database@127.0.0.1:1/r8scan",
        "R8SCAN_OPERATOR_SLACK_URL": "http://127.0.0.1:1/hunter2-slack",
        "R8SCAN_ANNOUNCE_REDIS_URL": "redis://:hunter2-stream@127.0.0.1:1/0",
    }
    away = {"R8SCAN_GITHUB_API_URL": "http://127.0.0.1:1", "R8SCAN_GITHUB_WEB_URL": "http://127.0.0.1:1"}
    done = r8scan("doctor", env=secrets | away)
    assert done.returncode == 1
    assert "hunter2" not in done.stdout + done.stderr
    lines = done.stdout.splitlines()
    wrong = [line.removeprefix("WRONG ").partition(":")[0].strip() for line in lines if line.startswith("WRONG")]
    assert wrong == [
        *("database", "redis", "GitHub credential", "git", "mail server"),
        *("operator's slack", "gateways' stream"),
    ]
    assert sum(line.startswith("-") for line in lines) == 9

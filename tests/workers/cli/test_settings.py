"""Tests for `r8scan settings`, which shows the current settings without secrets."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from scanner.settings import SettingsError, load_settings
from workers.cli.settings import masked_url

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def test_each_setting_is_shown_with_its_origin_and_no_secret(r8scan: Run, tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("a-key-of-twenty-chars")
    (tmp_path / ".env").write_text("R8SCAN_VENDOR_NAME=Acme\n")
    env = {
        "GITHUB_TOKEN": "ghp_hidden",
        "R8SCAN_SMTP_URL": "smtps://user:hidden@mail.example:465",
        "R8SCAN_REPORT_KEY_FILE": str(secret),
    }
    done = r8scan("settings", "--json", env=env)
    assert done.returncode == 0
    found = {one["setting"]: (one["value"], one["from"]) for one in map(json.loads, done.stdout.splitlines())}
    assert found["R8SCAN_GITHUB_TOKEN"] == ("(secret)", "GITHUB_TOKEN (environment)")
    assert found["R8SCAN_SMTP_URL"] == ("smtps://user:***@mail.example:465", "environment")
    assert found["R8SCAN_REPORT_KEY"] == ("(secret)", "R8SCAN_REPORT_KEY_FILE (environment)")
    assert found["R8SCAN_VENDOR_NAME"] == ("Acme", ".env")
    assert found["R8SCAN_ENFORCE"] == ("disable", "default")
    for word in ("hidden", "twenty"):
        assert word not in done.stdout + done.stderr
    changed = r8scan("settings", "--changed", env=env).stdout
    assert "R8SCAN_VENDOR_NAME" in changed
    assert "R8SCAN_ENFORCE" not in changed


def test_an_empty_secret_counts_as_not_set_and_a_secret_takes_precedence_over_its_file(
    r8scan: Run, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("a-key-of-twenty-chars")
    env = {
        "GITHUB_TOKEN": "ghp_x",
        "R8SCAN_GITHUB_TOKEN": "",
        "R8SCAN_REPORT_KEY": "",
        "R8SCAN_REPORT_KEY_FILE": "key",
        "R8SCAN_METRICS_KEY": "another-key-of-chars",
        "R8SCAN_METRICS_KEY_FILE": "missing",
    }
    lines = r8scan("settings", "--json", env=env).stdout.splitlines()
    found = {one["setting"]: (one["value"], one["from"]) for one in map(json.loads, lines)}
    assert found["R8SCAN_GITHUB_TOKEN"] == ("(secret)", "GITHUB_TOKEN (environment)")
    assert found["R8SCAN_REPORT_KEY"] == ("(secret)", "R8SCAN_REPORT_KEY_FILE (environment)")
    assert found["R8SCAN_METRICS_KEY"] == ("(secret)", "environment")
    assert found["R8SCAN_CANARY_GITHUB_TOKEN"] == ("-", "default")


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("R8SCAN_OPERATOR_MAIL", "did you mean R8SCAN_OPERATOR_EMAIL?"),
        ("r8scan_enforced", "did you mean R8SCAN_ENFORCE?"),
        ("R8SCAN_SMTP_URL_FILES", "did you mean R8SCAN_SMTP_URL_FILE?"),
        ("R8SCAN_XYZZY", "remove it"),
    ],
)
def test_a_misspelt_setting_is_a_one_line_error_that_names_the_right_one(
    monkeypatch: pytest.MonkeyPatch, name: str, advice: str
) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(SettingsError, match=name.upper()) as caught:
        load_settings()
    assert advice in str(caught.value)


def test_a_misspelt_setting_in_the_file_is_found_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("R8SCAN_SOURCE=gists\nOTHER=1\n")
    with pytest.raises(SettingsError, match="did you mean R8SCAN_SOURCES"):
        load_settings()


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://me:pw@host/db?password=pw", "postgresql://me:***@host/db?***"),
        ("smtp://mail:25", "smtp://mail:25"),
        ("embedded", "embedded"),
        ("redis://:pw@host:6379/0", "redis://:***@host:6379/0"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, masked: str) -> None:
    assert masked_url(url) == masked
    assert "pw" not in masked


def test_a_test_mail_reports_its_result(r8scan: Run, tmp_path: Path) -> None:
    done = r8scan("email", "test", "me@vendor.example", env={"R8SCAN_SMTP_URL": f"maildir://{tmp_path}/mail"})
    assert done.returncode == 0
    assert "written into Maildir" in done.stdout
    (mail,) = [path for path in (tmp_path / "mail").rglob("*") if path.is_file()]
    assert "To: me@vendor.example" in mail.read_text()
    refused = r8scan("email", "test", "me@vendor.example", env={"R8SCAN_SMTP_URL": "smtp://127.0.0.1:1"})
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1)
    assert "check R8SCAN_SMTP_URL" in refused.stderr

"""Tests that settings are read from the documented places, and that a wrong setting is reported in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from email_validator import EmailNotValidError, validate_email
from pydantic_settings import EnvSettingsSource, NoDecode

from scanner.detection import sha256_digest
from scanner.settings import SECRETS, Settings, SettingsError, load_settings, reference
from scanner.settings.checks import check_email


def test_no_setting_is_required(tmp_path: Path) -> None:
    settings = load_settings()
    assert settings.database_url.get_secret_value() == f"sqlite:///{tmp_path}/state/r8scan.db"
    assert settings.smtp_url.get_secret_value() == f"maildir://{tmp_path}/state/mail"
    assert settings.redis_url.get_secret_value() == "embedded"
    assert settings.github_api_url == "https://api.github.com"
    assert settings.github_web_url == "https://github.com"
    assert settings.account_tokens_url == "https://replicate.com/account/api-tokens"
    assert (settings.enforce, settings.digest, settings.log_format) == ("disable", "sha256", "console")
    assert settings.digester() is sha256_digest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "mysql://x/y"),
        ("DATABASE_URL", "nonsense"),
        ("REDIS_URL", "http://x"),
        ("SMTP_URL", "ftp://x"),
        ("GITHUB_API_URL", "ftp://x"),
        ("GITHUB_WEB_URL", "https://user:password@x"),
        ("EMAIL_FROM", "nobody"),
        ("EMAIL_FROM", "a@example.com\nBcc: b@example.com"),
        ("OPERATOR_EMAIL", "nobody"),
        ("ENFORCE", "maybe"),
        ("BRAKE_PER_MINUTE", "-1"),
        ("USAGE_DORMANT", "perhaps"),
        ("USAGE_SPREAD_NETWORKS", "1"),
        ("REPORT_KEY", "too short"),
        ("DIGEST", "md5"),
        ("SOURCES", "public_events,tarot"),
        ("LOG_FORMAT", "xml"),
        ("MAIL_WINDOW", "soon"),
        ("SCAN_THREADS", "0"),
        ("GITHUB_TOKEN_FILE", "/does/not/exist"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"R8SCAN_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    assert message.startswith(f"R8SCAN_{name}")
    assert "\n" not in message
    assert "password" not in message.replace("user:password", "")


def test_a_secret_is_read_from_a_file_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("the-secret\n")
    monkeypatch.setenv("R8SCAN_GITHUB_TOKEN_FILE", str(tmp_path / "token"))
    settings = load_settings()
    assert settings.github_token is not None
    assert settings.github_token.get_secret_value() == "the-secret"
    assert "the-secret" not in repr(settings)


def test_github_token_is_used_unless_r8scan_github_token_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", "plain")
    plain = load_settings().github_token
    monkeypatch.setenv("R8SCAN_GITHUB_TOKEN", "prefixed")
    prefixed = load_settings().github_token
    assert plain is not None
    assert prefixed is not None
    assert (plain.get_secret_value(), prefixed.get_secret_value()) == ("plain", "prefixed")


def test_a_dot_env_file_is_read_and_the_environment_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("R8SCAN_ENFORCE=observe\nR8SCAN_LOG_FORMAT=json\nGITHUB_TOKEN=from-dot-env\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("R8SCAN_LOG_FORMAT", "console")
    settings = load_settings()
    assert (settings.enforce, settings.log_format) == ("observe", "console")
    assert settings.github_token is not None
    assert settings.github_token.get_secret_value() == "from-dot-env"


def test_authorities_that_the_dot_env_file_names_are_trusted_unless_the_environment_names_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("SSL_CERT_FILE=/etc/ours.pem\nSSL_CERT_DIR=/etc/ours\nPATH=/nowhere\n")
    monkeypatch.chdir(tmp_path)
    for name, value in (("SSL_CERT_FILE", ""), ("SSL_CERT_DIR", "/etc/theirs")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SSL_CERT_FILE")
    before = os.environ["PATH"]
    load_settings()
    assert (os.environ["SSL_CERT_FILE"], os.environ["SSL_CERT_DIR"]) == ("/etc/ours.pem", "/etc/theirs")
    assert os.environ["PATH"] == before


def test_the_text_of_a_variable_is_the_value_of_its_setting_and_never_json() -> None:
    source = EnvSettingsSource(Settings)
    fields = Settings.model_fields.items()
    assert [name for name, one in fields if source.field_is_complex(one) and NoDecode not in one.metadata] == []


@pytest.mark.parametrize(
    "address",
    [
        *("ana@example.com", "Ana.B+tag@mail-1.example.co.uk", "a_b@EXAMPLE.IO", "security@vendor.example"),
        *("ops@vendor.test", "ops@vendor.local", "ops@localhost", "ops@10.0.0.1", "ops@[10.0.0.1]", "ops@x.onion"),
        *("a..b@example.com", ".a@example.com", "a@-x.com", "a@x-.com", "a@x..com", "a@xn--a.com", "a@ab--c.com"),
        *(
            "a@example",
            "a@example.c0m",
            "a@example.com.",
            "a@b@example.com",
            f"{'a' * 65}@example.com",
            "ä@example.com",
        ),
    ],
)
def test_a_mail_address_is_accepted_if_the_library_accepts_it(address: str) -> None:
    def accepts(check: Callable[[str], object]) -> bool:
        try:
            check(address)
        except (ValueError, EmailNotValidError):
            return False
        return True

    by_library = accepts(lambda one: validate_email(one, check_deliverability=False, test_environment=True))
    assert accepts(check_email) is by_library


def test_a_digest_with_a_key_needs_the_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("R8SCAN_DIGEST", "hmac-sha256")
    with pytest.raises(SettingsError, match="R8SCAN_DIGEST_KEY_FILE"):
        load_settings()
    monkeypatch.setenv("R8SCAN_DIGEST_KEY_FILE", str(tmp_path / "key"))
    with pytest.raises(SettingsError, match="R8SCAN_DIGEST_KEY_FILE: cannot read"):
        load_settings().digester()
    (tmp_path / "key").write_text("pepper\n")
    digest = load_settings().digester()(b"x")
    assert len(digest) == 64
    assert digest != sha256_digest(b"x")


def test_every_setting_is_in_the_documentation() -> None:
    pages = "\n".join(page.read_text() for page in (Path(__file__).parents[2] / "docs").glob("*.md"))
    for name in Settings.model_fields:
        written = f"R8SCAN_{name.upper()}"
        # A documentation page may shorten the name of a setting, for example R8SCAN_USAGE_DORMANT_DAYS to `…_DAYS`.
        rule, _, threshold = written.rpartition("_")
        assert written in pages or (rule in pages and f"`…_{threshold}`" in pages), written


def test_every_setting_is_documented_by_its_whole_name_and_nothing_else_is() -> None:
    pages = Path(__file__).parents[2] / "docs"
    text = "\n".join(page.read_text(encoding="utf-8") for page in sorted(pages.glob("*.md")))
    named = set(re.findall(r"`(R8SCAN_[A-Z][A-Z_]*[A-Z])`", text))
    known = {f"R8SCAN_{field.upper()}" for field in Settings.model_fields}
    assert known - named == set()
    assert named - known - {f"R8SCAN_{secret}_FILE" for secret in SECRETS} == set()


def test_the_page_of_all_settings_is_generated_from_their_definitions() -> None:
    assert reference.PAGE.read_text(encoding="utf-8") == reference.page(), "run: python -m scanner.settings.reference"
    rows = [line for line in reference.page().splitlines() if line.startswith("| `")]
    assert [row for row in rows if not row.split(" | ")[3].removesuffix(" |").strip()] == [], "each has a meaning"

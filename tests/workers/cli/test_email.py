"""Tests for `r8scan email`: previews of mails, checks of custom templates, and bounces."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from email import message_from_bytes, policy
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from notifications.email.samples import samples
from scanner.records.database import Database
from scanner.records.schema import upgrade
from scanner.settings import SettingsError
from tests.notifications.logos import png
from tests.notifications.outbox_rows import Post, deliver, leak, row
from tests.notifications.returned_mail import bounce
from workers.cli.email import app
from workers.cli.errors import UserError, explain

Run = Callable[..., "subprocess.CompletedProcess[str]"]

NAMES = [name for name, _ in samples()]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def error_line(result: Result) -> str:
    assert result.exit_code == 1
    assert isinstance(result.exception, UserError)
    line = explain(result.exception)
    assert line is not None
    assert "\n" not in line
    return line


def test_preview_writes_every_kind_of_mail_in_three_forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R8SCAN_VENDOR_NAME", "Examplary")
    folder = tmp_path / "new" / "mails"
    result = run("preview", str(folder))
    assert result.exit_code == 0, result.output
    assert f"{len(NAMES)} kinds of mail" in result.output
    written = {path.name for path in folder.iterdir()}
    assert written == {f"{name}.{form}" for name in NAMES for form in ("txt", "html", "eml")}
    assert (folder / "gist.txt").read_text().startswith("Subject: Your Examplary API token")
    message = message_from_bytes((folder / "gist.eml").read_bytes(), policy=policy.default)
    assert message["Auto-Submitted"] == "auto-generated"


def test_preview_into_an_invalid_folder_prints_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    assert "cannot write the previews" in error_line(run("preview", str(tmp_path / "file" / "mails")))


def test_check_passes_the_built_in_templates() -> None:
    result = run("check")
    assert result.exit_code == 0
    assert f"all {len(NAMES)} kinds of mail" in result.output


def test_check_names_each_mail_that_a_custom_template_breaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gist").mkdir()
    (tmp_path / "gist" / "body.html").write_text("<p>{{ page.no_such_thing }}</p>")
    monkeypatch.setenv("R8SCAN_EMAIL_TEMPLATES_DIR", str(tmp_path))
    result = run("check")
    assert "gist: " in result.output
    assert "no_such_thing" in result.output
    assert f"1 of {len(NAMES)} kinds of mail" in error_line(result)


def test_check_says_where_a_template_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "body.txt").write_text("first line\n{% if %}\n")
    monkeypatch.setenv("R8SCAN_EMAIL_TEMPLATES_DIR", str(tmp_path))
    result = run("check")
    assert "shared/body.txt, line 2" in result.output
    assert "see `r8scan email check`" in error_line(run("preview", str(tmp_path / "mails")))


def test_check_finds_a_folder_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R8SCAN_EMAIL_TEMPLATES_DIR", str(tmp_path / "gone"))
    result = run("check")
    assert "gone is not a folder" in error_line(result)


def test_a_preview_shows_the_logo_in_a_browser_and_carries_it_in_the_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "logo").write_bytes(png())
    monkeypatch.setenv("R8SCAN_LOGO_FILE", str(tmp_path / "logo"))
    assert run("preview", str(tmp_path / "mails")).exit_code == 0
    html = (tmp_path / "mails" / "gist.html").read_text()
    assert 'src="data:image/png;base64,' in html
    assert "cid:" not in html
    message = message_from_bytes((tmp_path / "mails" / "gist.eml").read_bytes(), policy=policy.default)
    assert [part.get_content_type() for part in message.walk()].count("image/png") == 1


@pytest.mark.parametrize(("content", "reason"), [(b"<svg/>", "is not a PNG, JPEG or GIF"), (None, "cannot read")])
def test_a_wrong_logo_is_a_one_line_error_that_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / "logo").write_bytes(content)
    monkeypatch.setenv("R8SCAN_LOGO_FILE", str(tmp_path / "logo"))
    error = run("check").exception
    assert isinstance(error, SettingsError)
    line = str(explain(error))
    assert line.startswith("R8SCAN_LOGO_FILE: ")
    assert reason in line
    assert "\n" not in line


def test_the_service_does_not_start_with_a_wrong_logo(r8scan: Run, tmp_path: Path) -> None:
    (tmp_path / "logo").write_text("<svg/>")
    done = r8scan("run", env={"R8SCAN_LOGO_FILE": str(tmp_path / "logo")})
    assert done.returncode == 1
    assert done.stderr == f"r8scan: R8SCAN_LOGO_FILE: {tmp_path}/logo is not a PNG, JPEG or GIF\n"


def test_mails_show_the_configured_address_for_usage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R8SCAN_USAGE_URL", "https://vendor.example/usage")
    assert run("preview", str(tmp_path)).exit_code == 0
    for form in ("txt", "html"):
        assert "https://vendor.example/usage" in (tmp_path / f"gist.{form}").read_text()


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/state/r8scan.db")
    upgrade(database)
    yield database
    database.close()


def test_a_returned_mail_piped_in_is_recorded_as_failed(r8scan: Run, state: Database) -> None:
    notification_id = leak(state)
    deliver(state, Post())
    message_id = row(state, notification_id).message_id
    done = r8scan("email", "bounced", "-", stdin=bounce(message_id).decode())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{message_id}: recorded: the mail has failed\n"
    assert str(row(state, notification_id).error).startswith("bounced: 5.1.1 550")


def test_a_returned_mail_that_is_not_ours_is_a_one_line_error(tmp_path: Path, state: Database) -> None:
    (tmp_path / "mail").write_bytes(bounce("<somebody@elsewhere.example>"))
    assert error_line(run("bounced", str(tmp_path / "mail"))) == (
        "no mail of this service has this Message-ID: <somebody@elsewhere.example>"
    )


def test_a_file_that_is_no_notification_is_a_one_line_error(tmp_path: Path, state: Database) -> None:
    (tmp_path / "mail").write_bytes(b"Subject: I am away\n\nUntil Monday.\n")
    assert "not recorded: it is not a delivery status notification" in error_line(
        run("bounced", str(tmp_path / "mail"))
    )
    assert "cannot read" in error_line(run("bounced", str(tmp_path / "gone")))


def test_bounced_asks_the_mail_server_to_retry_while_the_database_or_the_sending_is_not_ready(
    tmp_path: Path, state: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mail").write_bytes(bounce(row(state, leak(state)).message_id))
    assert run("bounced", str(tmp_path / "mail")).exit_code == 75
    monkeypatch.setenv("R8SCAN_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    result = run("bounced", str(tmp_path / "mail"))
    assert result.exit_code == 75
    assert "R8SCAN_DATABASE_URL" in result.output

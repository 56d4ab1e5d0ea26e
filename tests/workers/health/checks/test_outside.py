"""Tests for the checks of GitHub, git, the mail server, the token store and the channels to the operator."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from notifications.email.transports import transport_for
from scanner.records.database import Database
from scanner.settings import load_settings
from tests.notifications.mail_server import PASSWORD, USER, Mailbox, authority, mail_server
from workers.context import Context
from workers.health.checks import outside
from workers.health.checks.check import Off, Wrong
from workers.health.checks.mail_templates import check_templates
from workers.sandbox import mailbox as sandbox_mailbox
from workers.sandbox.github import SandboxGitHub

SECRET = "hunter2"


def context_of(**settings: Any) -> Context:
    return Context(load_settings(**settings))


def test_an_accepted_credential_shows_its_quota_and_a_rejected_one_is_named(sandbox: SandboxGitHub) -> None:
    sandbox.credential = SECRET
    context = context_of(github_api_url=sandbox.api_url, github_web_url=sandbox.url, github_token=SECRET)
    assert context.credentials == (SECRET,)
    assert outside.check_credential(context, SECRET) == "R8SCAN_GITHUB_TOKEN: core 5,000 of 5,000 left"
    with pytest.raises(Wrong, match="rejects the credential R8SCAN_GITHUB_TOKEN") as wrong:
        outside.check_credential(context, "another")
    assert "another" not in wrong.value.sentence
    sandbox.rate_limit = 0
    with pytest.raises(Wrong, match="the quota of core is used up"):
        outside.check_credential(context, SECRET)


def test_a_missing_credential_is_reported_only_if_a_source_needs_it() -> None:
    with pytest.raises(Wrong, match="60 requests an hour"):
        outside.check_credential(context_of(), None)
    with pytest.raises(Off):
        outside.check_credential(context_of(sources=""), None)


def test_the_check_of_git_sends_a_real_request(sandbox: SandboxGitHub) -> None:
    context = context_of(github_api_url=sandbox.api_url, github_web_url=sandbox.url)
    assert outside.check_git(context) == "127.0.0.1 answers git"
    sandbox.create_repository(outside.PUBLIC_REPOSITORY)
    assert outside.check_git(context) == f"127.0.0.1 listed 0 refs of {outside.PUBLIC_REPOSITORY}"
    away = context_of(github_api_url="http://127.0.0.1:1", github_web_url="http://127.0.0.1:1")
    with pytest.raises(Wrong, match=r"^127\.0\.0\.1 cannot be reached"):
        outside.check_git(away)


def test_a_mail_server_that_accepts_no_mail_is_named_before_a_mail_is_sent() -> None:
    with sandbox_mailbox.running() as mailbox:
        mailbox.is_down = True
        with pytest.raises(Wrong, match="the mail server is down"):
            outside.check_mail(context_of(smtp_url=mailbox.url))


def test_custom_templates_that_cannot_be_used_are_named_with_the_mails_that_owners_get(tmp_path: Path) -> None:
    missing = context_of(email_templates_dir=str(tmp_path / "missing"))
    with pytest.raises(Wrong, match="missing is not a folder") as wrong:
        check_templates(missing)
    assert "mails have the built-in words" in wrong.value.todo
    kept = context_of(email_templates_dir=str(tmp_path))
    assert check_templates(kept).endswith(f"kinds of mail can be rendered with the templates in {tmp_path}")
    (tmp_path / "broken" / "operator").mkdir(parents=True)
    (tmp_path / "broken" / "operator" / "subject.txt").write_text("{% if %}")
    with pytest.raises(Wrong, match="cannot be rendered"):
        check_templates(context_of(email_templates_dir=str(tmp_path / "broken")))


def test_the_mail_login_is_tried_and_nothing_is_sent(tmp_path: Path) -> None:
    mailbox, certificates = Mailbox(), authority(tmp_path)
    with mail_server(mailbox, starttls=certificates.server, login=True) as port:

        def tried(password: str) -> str:
            context = context_of(smtp_url=f"smtp+starttls://{USER}:{quote(password, safe='')}@127.0.0.1:{port}")
            # Use the service's own mail transport, but trust the certificate of the test's mail server.
            context.transport = transport_for(context.settings.smtp_url.get_secret_value(), tls=certificates.client)
            return outside.check_mail(context)

        assert f"logged in as {USER}" in tried(PASSWORD)
        with pytest.raises(Wrong, match="refused the login") as refused:
            tried(SECRET)
    assert SECRET not in refused.value.sentence
    assert mailbox.messages == []
    with pytest.raises(Wrong, match="go into a local folder"):
        outside.check_mail(context_of())


@pytest.mark.parametrize(
    ("command", "answer", "words"),
    [
        ("MAIL", "421 4.3.2 not accepting messages", "refused the sender with 421 4.3.2 not accepting"),
        ("MAIL", "553 5.7.1 not your domain", "refused the sender with 553"),
        ("RCPT", "450 4.2.0 try later", "refused the recipient: 450 4.2.0 try later"),
        ("RCPT", "550 5.7.1 relaying denied", "refused the recipient: 550 5.7.1 relaying denied"),
    ],
)
def test_a_mail_server_that_refuses_sender_or_recipient_fails_the_check(command: str, answer: str, words: str) -> None:
    mailbox = Mailbox(answers={command: answer})
    with mail_server(mailbox) as port:
        addresses = {"email_from": "security@vendor.example", "operator_email": "on-call@vendor.example"}
        context = context_of(smtp_url=f"smtp://127.0.0.1:{port}", **addresses)
        with pytest.raises(Wrong, match=words) as wrong:
            outside.check_mail(context)
        mailbox.answers.clear()
        accepted = outside.check_mail(context)
    assert "R8SCAN_OPERATOR_EMAIL" in wrong.value.todo
    assert "accepts mails from security@vendor.example to on-call@vendor.example" in accepted
    assert mailbox.messages == []


def test_an_empty_or_unavailable_token_store_fails_the_check(database: Database) -> None:
    context = context_of(database_url=database.url.render_as_string(hide_password=False))
    with pytest.raises(Wrong, match="no leak can be recognised"):
        outside.check_store(context)
    context.close()
    away = context_of(token_store_url="http://127.0.0.1:1", token_store_secret=SECRET)
    with pytest.raises(Wrong, match="the token store is unavailable"):
        outside.check_store(away)
    away.close()


def test_a_channel_gets_a_message_only_on_request(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}"
        (channel,) = context_of(operator_slack_url=url).operator_channels
        found = outside.check_channel(channel, send=False)
        connection, _ = server.accept()
        with connection:
            assert connection.recv(1) == b""
    assert "no message was sent" in found
    assert SECRET not in found
    for send in (False, True):
        with pytest.raises(Wrong, match="cannot be reached") as wrong:
            outside.check_channel(channel, send=send)
        assert SECRET not in wrong.value.sentence

"""Tests of sending mails to real SMTP servers that accept, refuse or hang."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from notifications.email.transport import (
    Envelope,
    MailTransport,
    PermanentFailure,
    TransientFailure,
    TransportDown,
)
from notifications.email.transports import transport_for
from tests.notifications.mail_server import PASSWORD, USER, Authority, Mailbox, authority, mail_server, raw_server

CREDENTIALS = f"{USER}:{quote(PASSWORD, safe='')}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("certificates"))


def envelope(recipient: str = "ana@acme.example", number: int = 1) -> Envelope:
    content = f"From: a@vendor.example\r\nMessage-ID: <{number}@vendor.example>\r\n\r\n.a line\r\n..\r\n"
    return Envelope("security@vendor.example", recipient, f"<{number}@vendor.example>", content.encode())


def send(transport: MailTransport, *envelopes: Envelope, seconds: float = 10) -> None:
    with transport.open() as outlet:
        for one in envelopes or (envelope(),):
            outlet.send(one, deadline=time.monotonic() + seconds)


def test_a_run_uses_one_connection_for_all_its_mails() -> None:
    mailbox = Mailbox()
    with mail_server(mailbox) as port:
        send(transport_for(f"smtp://127.0.0.1:{port}"), *(envelope(number=number) for number in range(5)))
    assert [message["Message-ID"] for message in mailbox.messages] == [f"<{n}@vendor.example>" for n in range(5)]
    assert mailbox.messages[0].get_payload() == ".a line\r\n..\r\n"
    assert mailbox.connections == 1


@pytest.mark.parametrize("answer", ["550 5.1.1 no such mailbox", "553 bad address", "552 5.2.2 mailbox full", "550 no"])
def test_a_refused_recipient_does_not_affect_the_others(answer: str) -> None:
    mailbox = Mailbox(answers={"gone@acme.example": answer})
    with mail_server(mailbox) as port, transport_for(f"smtp://127.0.0.1:{port}").open() as outlet:
        with pytest.raises(PermanentFailure, match=answer):
            outlet.send(envelope("gone@acme.example"), deadline=time.monotonic() + 10)
        outlet.send(envelope(), deadline=time.monotonic() + 10)
    assert mailbox.recipients == ["ana@acme.example"]
    assert mailbox.connections == 1


@pytest.mark.parametrize(
    "answer",
    [
        *("450 4.2.1 greylisted", "452 too many", "554 5.7.1 Relay access denied", "550 relay not permitted"),
        *("530 5.7.0 authentication required", "550 5.7.26 DMARC"),
    ],
)
@pytest.mark.parametrize("command", ["RCPT", "DATA"])
def test_a_transient_or_configuration_error_is_not_a_recipients_failure(command: str, answer: str) -> None:
    with mail_server(Mailbox(answers={command: answer})) as port, pytest.raises(TransientFailure) as caught:
        send(transport_for(f"smtp://127.0.0.1:{port}"))
    assert not isinstance(caught.value, TransportDown)


def test_a_permanently_refused_message_fails_permanently() -> None:
    with (
        mail_server(Mailbox(answers={"DATA": "554 5.6.0 not taken"})) as port,
        pytest.raises(PermanentFailure, match=r"554 5\.6\.0"),
    ):
        send(transport_for(f"smtp://127.0.0.1:{port}"))


@pytest.mark.parametrize(("answer", "ours"), [("550 sender rejected", True), ("451 try later", False)])
def test_a_refused_sender_stops_the_run(answer: str, ours: bool) -> None:
    with mail_server(Mailbox(answers={"MAIL": answer})) as port, pytest.raises(TransportDown) as caught:
        send(transport_for(f"smtp://127.0.0.1:{port}"))
    assert caught.value.is_configuration == ours


def test_an_unreachable_server_is_named_in_the_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(TransportDown, match=rf"cannot reach the mail server 127\.0\.0\.1:{port}: Connection refused"):
        send(transport_for(f"smtp://127.0.0.1:{port}"))


def test_a_connection_lost_between_two_mails_is_reopened() -> None:
    mailbox = Mailbox()
    with mail_server(mailbox) as port, transport_for(f"smtp://127.0.0.1:{port}").open() as outlet:
        outlet.send(envelope(), deadline=time.monotonic() + 10)
        outlet._client.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]  # as a server does that closes idle connections
        outlet.send(envelope(number=2), deadline=time.monotonic() + 10)
    assert len(mailbox.messages) == 2
    assert mailbox.connections == 2


def _says(*lines: bytes) -> object:
    def speak(connection: socket.socket) -> None:
        for line in lines:
            connection.sendall(line)
            connection.recv(1000)

    return speak


def _hangs(connection: socket.socket) -> None:
    while connection.recv(1000):
        pass


def _drips(connection: socket.socket) -> None:
    # Send bytes so often that only a deadline for the whole conversation can end it.
    while True:
        connection.sendall(b"2")
        time.sleep(0.05)


def _drips_lines(connection: socket.socket) -> None:
    connection.sendall(b"220 hello\r\n")
    connection.recv(1000)
    while True:
        connection.sendall(b"250-feature\r\n")
        time.sleep(0.01)


def _drips_a_handshake(connection: socket.socket) -> None:
    # Begin a TLS record of 16 kB, and then send its bytes slowly.
    connection.sendall(b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc")
    while True:
        connection.sendall(b"\0")
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("security", "speak"),
    [("smtp", _hangs), ("smtp", _drips), ("smtp", _drips_lines), ("smtps", _hangs), ("smtps", _drips_a_handshake)],
)
def test_a_slow_server_is_abandoned_at_the_deadline_of_the_exchange(security: str, speak: object) -> None:
    assert callable(speak)
    with raw_server(speak) as port, pytest.raises(TransportDown, match=r"in time|timed out"):
        send(transport_for(f"{security}://127.0.0.1:{port}"), seconds=0.4)


def test_a_server_that_hangs_after_the_message_is_abandoned_at_the_deadline() -> None:
    def speak(connection: socket.socket) -> None:
        connection.sendall(b"220 hello\r\n")
        for answer in (b"250 hello\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go on\r\n"):
            connection.recv(1000)
            connection.sendall(answer)
        _hangs(connection)

    with raw_server(speak) as port, pytest.raises(TransportDown, match="did not finish in time"):
        send(transport_for(f"smtp://127.0.0.1:{port}"), seconds=0.5)


@pytest.mark.parametrize(
    "lines", [(b"554 no service here\r\n",), (b"garbage\r\n",), (b"",), (b"220 hi\r\n", b"421 bye\r\n", b"421 bye\r\n")]
)
def test_a_server_that_refuses_the_session_counts_as_down(lines: tuple[bytes, ...]) -> None:
    speak = _says(*lines)
    assert callable(speak)
    with raw_server(speak) as port, pytest.raises(TransportDown):
        send(transport_for(f"smtp://127.0.0.1:{port}"), seconds=1)


def test_starttls_and_login_work_with_a_trusted_certificate(certificates: Authority) -> None:
    mailbox = Mailbox()
    with mail_server(mailbox, starttls=certificates.server, login=True) as port:
        send(transport_for(f"smtp+starttls://{CREDENTIALS}@127.0.0.1:{port}", tls=certificates.client))
    assert len(mailbox.messages) == 1
    assert mailbox.logins == [(USER, True)]


def test_tls_from_the_beginning_works_with_a_trusted_certificate(certificates: Authority) -> None:
    mailbox = Mailbox()
    with mail_server(mailbox, tls=certificates.server) as port:
        send(transport_for(f"smtps://localhost:{port}", tls=certificates.client), envelope(), envelope(number=2))
    assert len(mailbox.messages) == 2


@pytest.mark.parametrize("security", ["smtp+starttls", "smtps"])
def test_an_untrusted_certificate_stops_the_mail(certificates: Authority, security: str) -> None:
    mailbox = Mailbox()
    early, late = (certificates.server, None) if security == "smtps" else (None, certificates.server)
    with (
        mail_server(mailbox, tls=early, starttls=late) as port,
        pytest.raises(TransportDown, match="cannot be trusted") as caught,
    ):
        send(transport_for(f"{security}://127.0.0.1:{port}", tls=ssl.create_default_context()))
    assert caught.value.is_configuration
    assert mailbox.messages == []


def test_a_server_without_starttls_gets_neither_mail_nor_password() -> None:
    mailbox = Mailbox()
    with mail_server(mailbox) as port, pytest.raises(TransportDown, match="STARTTLS") as caught:
        send(transport_for(f"smtp+starttls://{CREDENTIALS}@127.0.0.1:{port}"))
    assert caught.value.is_configuration
    assert (mailbox.messages, mailbox.logins) == ([], [])


def test_the_error_about_a_wrong_password_does_not_contain_it(certificates: Authority) -> None:
    secret = "s3cr3t-value"
    transport = transport_for(f"smtp+starttls://{USER}:{secret}@127.0.0.1:1", tls=certificates.client)
    assert secret not in repr(transport)
    with mail_server(Mailbox(), starttls=certificates.server, login=True) as port:
        url = f"smtp+starttls://{USER}:{secret}@127.0.0.1:{port}"
        with pytest.raises(TransportDown, match=r"refused the login \(535\)") as caught:
            send(transport_for(url, tls=certificates.client))
    assert caught.value.is_configuration
    assert secret not in repr(caught.value) + str(caught.value.__cause__)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://host", "smtp://", "smtp://u:s3cr3t@host:99999", "smtp://u:s3cr3t\u00e4@host", "maildir://", ""),
        *("smtp://u:s3cr3t@[host", "host:25"),
    ],
)
def test_the_error_about_a_wrong_url_does_not_contain_the_password(url: str) -> None:
    with pytest.raises(ValueError) as caught:
        transport_for(url)
    assert "s3cr3t" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_maildir_stores_a_repeated_message_once(tmp_path: Path) -> None:
    transport = transport_for(f"maildir://{tmp_path}/my%20mail")
    send(transport, envelope(), envelope(), envelope(number=2))
    folder = tmp_path / "my mail"
    names = sorted(path.name for path in (folder / "new").iterdir())
    assert len(names) == 2
    assert b"\r" not in (folder / "new" / names[0]).read_bytes()
    assert list((folder / "tmp").iterdir()) == []
    (folder / "new" / names[0]).rename(folder / "cur" / f"{names[0]}:2,S")
    send(transport, envelope(), envelope(number=2))
    assert len(list((folder / "new").iterdir())) == 1
    assert (folder.stat().st_mode & 0o077, (folder / "new" / names[1]).stat().st_mode & 0o077) == (0, 0)


def test_an_unwritable_maildir_counts_as_a_transport_that_is_down(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TransportDown, match="cannot write to the Maildir"):
        send(transport_for(f"maildir://{tmp_path}/file"))

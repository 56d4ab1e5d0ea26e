"""How a finished message leaves the house: the protocol that deliveries use, and the errors they tell apart."""

from __future__ import annotations

import ssl
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

SCHEMES = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


class TransientFailure(Exception):
    """This message was not taken, but may be later. The message is the reason; no password is in it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TransportDown(TransientFailure):
    """No message can go out now: the server is away, or it is set up wrongly. It says nothing about the recipient."""

    def __init__(self, reason: str, *, is_configuration: bool = False) -> None:
        super().__init__(reason)
        self.is_configuration = is_configuration


class PermanentFailure(Exception):
    """This message will never be taken for this recipient. The message is the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Envelope:
    """A finished message (CRLF line ends, 7 bit) and who it goes from and to. `message_id` names it for good."""

    sender: str
    recipient: str
    message_id: str
    content: bytes


class Outlet(Protocol):
    """Takes messages for the length of one run."""

    def send(self, envelope: Envelope, *, deadline: float) -> None:
        """Hand one over for good, by `deadline` (`time.monotonic`). TransientFailure, PermanentFailure."""


class Transport(Protocol):
    """A way out. Safe to share between threads: each run opens an outlet of its own."""

    def open(self) -> AbstractContextManager[Outlet]:
        """An outlet; it connects when the first message is sent. Raises nothing."""


def transport_for(url: str, *, tls: ssl.SSLContext | None = None) -> Transport:
    """The transport that the URL names. ValueError, one line without the password, when it names none.

    `smtp://`, `smtp+starttls://`, `smtps://` with `user:password@host:port` (percent-encoded), or `maildir:///folder`.
    `tls` replaces the default context, which trusts the system's authorities (and the file in SSL_CERT_FILE).
    """
    # Late, as both import the names above.
    from notifications.email.maildir import MaildirTransport
    from notifications.email.smtp import SmtpTransport

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("the mail server's URL is malformed: percent-encode special characters") from None
    if parts.scheme == "maildir" and parts.path and not parts.netloc:
        return MaildirTransport(Path(unquote(parts.path)))
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise ValueError("use smtp://, smtp+starttls:// or smtps://user:password@host:port, or maildir:///folder")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not (user + password).isascii():
        raise ValueError("the mail server's user and password must be ASCII")
    return SmtpTransport(
        host=parts.hostname,
        port=port or SCHEMES[parts.scheme],
        security=parts.scheme,
        user=user,
        password=password,
        tls=tls,
    )

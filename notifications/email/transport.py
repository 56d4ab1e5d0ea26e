"""The interface between mail delivery and its transports (SMTP, Maildir), with the errors that delivery handles."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from scanner.records.states import Channel


class TransientFailure(Exception):
    """Raised if the mail was not accepted, but a later attempt may succeed. `reason` contains no password."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TransportDown(TransientFailure):
    """Raised if no mail to anybody can be sent now.

    `is_configuration` is true if the settings are wrong, and false if the server is unavailable.
    """

    def __init__(self, reason: str, *, is_configuration: bool = False) -> None:
        super().__init__(reason)
        self.is_configuration = is_configuration


class PermanentFailure(Exception):
    """Raised if the server will never accept this mail for this recipient."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Envelope:
    """A finished mail (CRLF line ends, 7 bit) with its sender and recipient. A repeated attempt has the same
    `message_id`.

    `channel` is the channel of its outbox row, so that a transport can send the operator's mails elsewhere.
    """

    sender: str
    recipient: str
    message_id: str
    content: bytes
    channel: Channel = Channel.EMAIL


class MailConnection(Protocol):
    """A connection that sends the mails of one run."""

    def send(self, envelope: Envelope, *, deadline: float) -> None:
        """Send one mail.

        Args:
            envelope: The mail.
            deadline: The end of the exchange, by `time.monotonic`.

        Raises:
            TransientFailure: the server did not accept the mail, but may accept it later.
            TransportDown: no mail can be sent now.
            PermanentFailure: the server will never accept the mail.
        """


class MailTransport(Protocol):
    """A way to send mails. Threads may share it, because each run opens its own connection."""

    def open(self) -> AbstractContextManager[MailConnection]:
        """Return a context with a connection, which is established when the first mail is sent. This raises nothing."""

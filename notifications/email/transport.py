"""The interface of mail transports, such as SMTP, and the exceptions that they raise."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from scanner.records.states import Channel


class TransientFailure(Exception):
    """Raised if the mail was not accepted but may be accepted later. `reason` is one line without a password."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TransportDown(TransientFailure):
    """Raised if no mail to any recipient can be sent now.

    `is_configuration` is true if the settings are wrong, and false if the server is unavailable.
    """

    def __init__(self, reason: str, *, is_configuration: bool = False) -> None:
        super().__init__(reason)
        self.is_configuration = is_configuration


class PermanentFailure(Exception):
    """Raised if the server will never accept this mail for this recipient. `reason` is one line."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Envelope:
    """A composed mail with the addresses of its sender and recipient.

    Attributes:
        sender: The address to which servers return the mail.
        recipient: The address of the recipient.
        message_id: The Message-ID, which is the same in each attempt.
        content: The whole message, with CRLF line ends and only ASCII characters.
        channel: Whether the mail is for an owner or for the operator.
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
            deadline: The latest time to end, by `time.monotonic`.

        Raises:
            TransientFailure: the server did not accept the mail, but may accept it later.
            TransportDown: no mail can be sent now.
            PermanentFailure: the server will never accept this mail for this recipient.
        """


class MailTransport(Protocol):
    """A way to send mails, such as SMTP. Threads may share it."""

    def open(self) -> AbstractContextManager[MailConnection]:
        """Return a context manager that yields a connection."""

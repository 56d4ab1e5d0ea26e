"""A real SMTP server on loopback that stores the mails it receives."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

DOWN = "421 4.3.2 the mail server is down"


@dataclass
class Mailbox:
    """The received mails, oldest first. `faults` are SMTP replies such as "451 later", each of which refuses one
    mail.
    """

    url: str = ""
    contents: list[bytes] = field(default_factory=list)
    recipients: list[str] = field(default_factory=list)
    faults: deque[str] = field(default_factory=deque)
    is_down: bool = False
    """Whether the server refuses all mails."""

    def __post_init__(self) -> None:
        self._arrived = threading.Condition()
        self._messages: list[EmailMessage] = []

    @property
    def messages(self) -> list[EmailMessage]:
        """Return the received mails."""
        with self._arrived:
            for content in self.contents[len(self._messages) :]:
                message = message_from_bytes(content, policy=policy.default)
                assert isinstance(message, EmailMessage)  # noqa: S101 - `policy.default` creates this class
                self._messages.append(message)
            return list(self._messages)

    def wait_for(self, count: int, timeout: float) -> bool:
        """Wait until `count` mails have arrived. Return False after `timeout` seconds."""
        with self._arrived:
            return self._arrived.wait_for(lambda: len(self.contents) >= count, timeout)

    async def handle_MAIL(  # noqa: N802 - aiosmtpd's name
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        """Accept the sender of a mail and return the SMTP reply. Refuse every sender if `is_down` is set."""
        del server, session
        if self.is_down:
            return DOWN
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Store or refuse a mail and return the SMTP reply."""
        del server, session
        if self.is_down:
            return DOWN
        if self.faults:
            return self.faults.popleft()
        with self._arrived:
            self.contents.append(envelope.content)
            self.recipients.extend(envelope.rcpt_tos)
            self._arrived.notify_all()
        return "250 kept"


class _Controller(Controller):
    """An SMTP server that listens on a free port."""

    def port_in_use(self) -> int:
        assert isinstance(self.server, asyncio.Server)  # noqa: S101 - it has started
        return int(self.server.sockets[0].getsockname()[1])

    def _trigger_server(self) -> None:
        # The library would connect to the configured port, which is 0. Connect to the real port.
        with socket.create_connection(("127.0.0.1", self.port_in_use()), timeout=5) as connection:
            connection.recv(1024)


@contextmanager
def running() -> Iterator[Mailbox]:
    """Run an SMTP server until the `with` block ends. Yield its mailbox."""
    mailbox = Mailbox()
    controller = _Controller(mailbox, hostname="127.0.0.1", port=0, server_hostname="mailbox.example")
    controller.start()
    mailbox.url = f"smtp://127.0.0.1:{controller.port_in_use()}"
    try:
        yield mailbox
    finally:
        controller.stop()

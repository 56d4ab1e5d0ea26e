"""Channels that notify the operator of problems and waiting decisions: mail, a signed webhook, and Slack.

No message contains a token, its digest, or its first and last characters.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from typing import TYPE_CHECKING, Literal, Protocol

import httpx

from notifications.gateways import SIGNATURE_HEADER, TIMESTAMP_HEADER, signature
from scanner import tls

if TYPE_CHECKING:
    from notifications.email.render import MailIdentity
    from notifications.email.transport import MailTransport

SEND_SECONDS = 20.0
MAX_LINES = 50
MAX_LINE_LENGTH = 2000
"""The maximum number of characters in one line of a mail to the operator."""

NewsKind = Literal["problem", "decision", "over", "summary", "test"]
"""The kinds of items: a new problem, a decision that waits for the operator, the end of a problem, a daily summary of
incidents, or a test.
"""


class OperatorNotNotified(Exception):
    """Raised if a message to the operator could not be delivered. Its message is one line."""


@dataclass(frozen=True, slots=True)
class News:
    """One item of a message to the operator, such as a problem or a decision to make.

    Attributes:
        kind: What the item is, for example a problem or the end of a problem.
        name: The name of the problem, such as `disk_full`, or `test` for a test message.
        sentence: What happened.
        todo: What the operator can do.
        since: When the problem began.
        docs: The URL of the documentation about this problem.
        subject: What has the problem, such as a source or a channel. Empty if `name` already tells this. Messages do
            not contain the subject.
    """

    kind: NewsKind
    name: str
    sentence: str
    todo: str = ""
    since: datetime | None = None
    docs: str = ""
    subject: str = ""

    @property
    def line(self) -> str:
        """Return the item as one line: what happened and, unless the problem is over, what to do."""
        words = f"Over: {self.sentence}" if self.kind == "over" else self.sentence
        return f"{words}: {self.todo}" if self.todo and self.kind != "over" else words


class OperatorChannel(Protocol):
    """A way to send messages to the operator.

    Attributes:
        name: The channel's name in error messages and in `r8scan doctor`. `r8scan status` names the setting of its
            address: R8SCAN_OPERATOR_<NAME>_URL.
        address: The URL that `r8scan doctor` tests, or an empty string for mail.
    """

    name: str
    address: str

    def notify(self, news: Sequence[News]) -> None:
        """Send all items as one message.

        Raises:
            OperatorNotNotified: the receiver did not accept the message.
        """


class MailChannel:
    """Sends mails to the operator directly, so that they do not need the database."""

    name = "mail"
    address = ""

    def __init__(self, transport: MailTransport, identity: MailIdentity, recipient: str) -> None:
        self._transport, self._identity, self._recipient = transport, identity, recipient

    def notify(self, news: Sequence[News]) -> None:
        """Send all items in one mail.

        Raises:
            OperatorNotNotified: the mail server did not accept the mail, or an address is wrong.
        """
        send_mail(self._transport, self._identity, self._recipient, subject_of(news), text_of(news))


def send_mail(transport: MailTransport, identity: MailIdentity, recipient: str, subject: str, text: str) -> None:
    """Send a plain text mail immediately, without the database.

    Raises:
        OperatorNotNotified: the mail server did not accept the mail, or an address is wrong.
    """
    # Import these modules here. They take 4 MB, and the web server seldom sends a mail: only while no responder process
    # runs.
    from notifications.email.render import (
        UnusableAddress,
        envelope_sender,
        header_line,
        recipient_address,
        sender_address,
    )
    from notifications.email.transport import Envelope, PermanentFailure, TransientFailure
    from notifications.email.wording import clean

    message = EmailMessage()
    try:
        sender, to = sender_address(identity), recipient_address(recipient)
        # Clean the subject. It can contain text from a remote server, and a line break in it would add a mail header.
        message["From"], message["To"], message["Subject"] = sender, to, header_line(subject)
        message["Date"] = format_datetime(datetime.now(UTC))
        message["Message-ID"] = message_id = f"<{uuid.uuid4()}@{sender.domain}>"
        message["Auto-Submitted"] = "auto-generated"  # RFC 3834
        lines = [clean(line, MAX_LINE_LENGTH) for line in text.split("\n")]
        message.set_content("\n".join(lines), cte="quoted-printable")
        content = message.as_bytes(policy=message.policy.clone(linesep="\r\n"))
        envelope = Envelope(envelope_sender(identity), to, message_id, content)
        with transport.open() as connection:
            connection.send(envelope, deadline=time.monotonic() + SEND_SECONDS)
    except (TransientFailure, PermanentFailure) as err:
        raise OperatorNotNotified(f"the mail was not sent: {err.reason}") from err
    except (UnusableAddress, ValueError) as err:
        raise OperatorNotNotified(f"the mail cannot be written: {err}") from err


class WebhookOperatorChannel:
    """Posts messages for the operator as JSON to a webhook, with an HMAC-SHA-256 signature."""

    name = "webhook"

    def __init__(self, url: str, secret: str) -> None:
        self.address, self._secret = url, secret.encode()

    def notify(self, news: Sequence[News]) -> None:
        """Post all items as one JSON object.

        Raises:
            OperatorNotNotified: the receiver cannot be reached, or does not answer with a status of 2xx.
        """
        found = [
            {
                "kind": one.kind,
                "name": one.name,
                "sentence": one.sentence,
                "todo": one.todo,
                "since": one.since.isoformat() if one.since else None,
                "docs": one.docs,
            }
            for one in news
        ]
        body = json.dumps({"news": found}, separators=(",", ":")).encode()
        timestamp = str(int(time.time()))
        _post(
            self.address,
            body,
            {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: signature(self._secret, timestamp, body)},
        )


class SlackChannel:
    """Posts messages for the operator to an incoming webhook of Slack, whose URL is a secret."""

    name = "slack"

    def __init__(self, url: str) -> None:
        self.address = url

    def notify(self, news: Sequence[News]) -> None:
        """Post all items as one text.

        Raises:
            OperatorNotNotified: the receiver cannot be reached, or does not answer with a status of 2xx.
        """
        # Slack requires these three characters to be escaped: https://docs.slack.dev/messaging/formatting-message-text.
        text = text_of(news).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        _post(self.address, json.dumps({"text": text}).encode(), {})


def subject_of(news: Sequence[News]) -> str:
    """Return a subject line that names one item and gives the number of further items."""
    if all(one.kind == "over" for one in news):
        return "r8scan: " + (f"over: {news[0].sentence}" if len(news) == 1 else f"{len(news)} problems are over")
    first = next(one for one in news if one.kind != "over")
    more = sum(one.kind != "over" for one in news) - 1
    return f"r8scan: {first.sentence}"[:150] + (f" (and {more} more)" if more else "")


def text_of(news: Sequence[News]) -> str:
    """Return the text of a message to the operator, with one paragraph for each of the first MAX_LINES items."""
    parts = []
    for one in news[:MAX_LINES]:
        since = f"\nsince {one.since:%Y-%m-%d %H:%M} UTC" if one.since and one.kind != "over" else ""
        parts.append(f"{one.line}{since}" + (f"\n{one.docs}" if one.docs and one.kind != "over" else ""))
    if len(news) > MAX_LINES:
        parts.append(f"and {len(news) - MAX_LINES} more: see r8scan status")
    return "\n\n".join(parts) + "\n"


def _post(url: str, body: bytes, headers: dict[str, str]) -> None:
    headers = {"Content-Type": "application/json", **headers}
    try:
        with (
            httpx.Client(
                verify=tls.trusted(), timeout=SEND_SECONDS / 2, follow_redirects=False, trust_env=False
            ) as client,
            # Do not read the body of the response. Only the status is needed, and the body could be endless.
            client.stream("POST", url, content=body, headers=headers) as response,
        ):
            status = response.status_code
    except httpx.HTTPError as err:
        raise OperatorNotNotified(f"the receiver cannot be reached ({type(err).__name__})") from err
    if not 200 <= status < 300:
        raise OperatorNotNotified(f"the receiver answered {status}")

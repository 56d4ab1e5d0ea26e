"""Reads bounces: delivery status notifications (RFC 3464) about mails that could not be delivered."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.message import Message
from email.parser import BytesHeaderParser, BytesParser
from email.policy import compat32

from notifications.email.wording import clean

MAX_BYTES = 1024 * 1024
"""The limit for the size of a bounce, which may contain the whole returned mail."""
MAX_DIAGNOSTIC_LENGTH = 300
MAX_RECIPIENTS = 100
_MAX_FIELD_LENGTH = 2000

# Limits for the size of a bounce, because Python's mail parser is slow for large input. Real bounces are far smaller.
MAX_LINES = 20_000
"""A megabyte of base64 in lines of 76 characters has 14,000 lines."""
MAX_LINE_BYTES = 8000
"""RFC 5322, section 2.1.1, allows 998 bytes, but some servers write longer lines."""
MAX_DASHED_LINES = 100
"""The limit for lines that begin with two dashes. Each may be a boundary between parts."""
MAX_FIELD_BYTES = 32 * 1024
"""The limit for one header field with its continuation lines."""

# A status code such as 5.1.1 (RFC 3463, section 2).
_STATUS = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_MESSAGE_ID = re.compile(r"<[!-;=?-~]{3,250}>")
_WITHOUT_STATUS = "5.0.0"
_TYPE = re.compile(r"^[A-Za-z0-9-]{1,40} ?; ?")
"""The type at the beginning of a diagnostic, as in `smtp; 550 …`."""


class NotABounce(ValueError):
    """Raised if a mail is not a valid delivery status notification. The message is one line."""


@dataclass(frozen=True, slots=True)
class Bounce:
    """A server's report about one mail.

    Attributes:
        message_id: The Message-ID of the returned mail.
        action: What the server did, in lower case, for example "failed" (RFC 3464, section 2.3.3).
        status: The status code, such as "5.1.1".
        diagnostic: The error message of the server.
    """

    message_id: str
    action: str
    status: str
    diagnostic: str

    @property
    def has_failed(self) -> bool:
        """Return whether the server will no longer try to deliver the mail."""
        # A temporary error (status 4) also counts here: the server has given up after some days.
        return self.action == "failed" and not self.status.startswith("2")

    @property
    def reason(self) -> str:
        """Return the server's status code and message as one text."""
        return clean(f"bounced: {self.status} {self.diagnostic}", MAX_DIAGNOSTIC_LENGTH + 20)


def read_bounce(content: bytes) -> Bounce:
    """Parse a bounce from the content of a mail.

    Raises:
        NotABounce: the content is not a delivery status notification, is too large, or would take too long to parse.
    """
    if len(content) > MAX_BYTES:
        raise NotABounce(f"it is larger than {MAX_BYTES // 1024**2} MB")
    _refuse_costly(content)
    try:
        return _read(content)
    except NotABounce:
        raise
    except (
        Exception
    ) as err:  # the standard library's parser fails in many ways on hostile content, such as deep nesting
        raise NotABounce(f"it cannot be read ({type(err).__name__})") from err


def _refuse_costly(content: bytes) -> None:
    """Refuse content that would take too long to parse.

    Raises:
        NotABounce: The content has too many lines, or a line or a header field is too long.
    """
    lines = re.split(rb"\r\n|\r|\n", content, maxsplit=MAX_LINES)
    if len(lines) > MAX_LINES:
        raise NotABounce(f"it has more than {MAX_LINES} lines")
    if max(map(len, lines)) > MAX_LINE_BYTES:
        raise NotABounce(f"a line is longer than {MAX_LINE_BYTES} bytes")
    if sum(line.startswith(b"--") for line in lines) > MAX_DASHED_LINES:
        raise NotABounce(f"it has more than {MAX_DASHED_LINES} lines that may separate parts")
    size = 0
    for line in lines:
        size = size + len(line) if line.startswith((b" ", b"\t")) else 0
        if size > MAX_FIELD_BYTES:
            raise NotABounce(f"a header field is longer than {MAX_FIELD_BYTES // 1024} kB")


def _read(content: bytes) -> Bounce:
    # Use the policy compat32, because it does not parse the values of headers. For a malicious header, the newer
    # policies are slow or fail.
    message = BytesParser(policy=compat32).parsebytes(_without_envelope(content))
    payload = message.get_payload()
    if message.get_content_type() != "multipart/report" or not isinstance(payload, list):
        raise NotABounce("it is not a delivery status notification (multipart/report)")
    parts = [part for part in payload if isinstance(part, Message)]
    reports = [part for part in parts if part.get_content_type() == "message/delivery-status"]
    returned = [id_ for part in parts for id_ in _message_ids(part)]
    if not reports:
        raise NotABounce("it has no delivery status (message/delivery-status)")
    if not returned:
        raise NotABounce("it does not return the Message-ID of the mail")
    recipient = _recipient(reports[0])
    status = _STATUS.search(_field(recipient, "Status"))
    return Bounce(
        message_id=returned[0],
        action=_field(recipient, "Action").split(";")[0].strip().lower(),
        status=status[0] if status else _WITHOUT_STATUS,
        diagnostic=clean(_TYPE.sub("", _field(recipient, "Diagnostic-Code")), MAX_DIAGNOSTIC_LENGTH),
    )


def _without_envelope(content: bytes) -> bytes:
    """Remove the first line `From …`, which mail servers add when they pipe a mail into a command."""
    return content.partition(b"\n")[2] if content.startswith(b"From ") else content


def _recipient(report: Message) -> Message:
    """Return the fields about the first recipient whose delivery failed, otherwise about the first recipient."""
    blocks = report.get_payload()
    if not isinstance(blocks, list):
        raise NotABounce("its delivery status is empty")
    recipients = [block for block in blocks[:MAX_RECIPIENTS] if isinstance(block, Message) and block["Action"]]
    if not recipients:
        raise NotABounce("its delivery status names no action")
    failed = (block for block in recipients if _field(block, "Action").lower().startswith("failed"))
    return next(failed, recipients[0])


def _message_ids(part: Message) -> list[str]:
    """Return the Message-ID of the returned mail in a list, or an empty list."""
    kind = part.get_content_type()
    returned: object = None
    if kind == "message/rfc822":
        payload = part.get_payload()
        returned = payload[0] if isinstance(payload, list) and payload else None
    elif kind == "text/rfc822-headers":
        content = part.get_payload(decode=True)
        returned = BytesHeaderParser(policy=compat32).parsebytes(content) if isinstance(content, bytes) else None
    found = _MESSAGE_ID.search(_field(returned, "Message-ID")) if isinstance(returned, Message) else None
    return [found[0]] if found else []


def _field(block: Message, name: str) -> str:
    return " ".join(str(block.get(name, ""))[:_MAX_FIELD_LENGTH].split())

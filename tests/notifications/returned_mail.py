"""Makes delivery status notifications like those of mail servers."""

from __future__ import annotations

REASON = "550 5.1.1 <ana@acme.example>: Recipient address rejected: User unknown in virtual mailbox table"

NOTIFICATION = """\
From MAILER-DAEMON Tue Nov  3 14:05:00 2026
Return-Path: <>
From: MAILER-DAEMON@mx.vendor.example (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: bounces@vendor.example
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="4C1F.1762178700/mx.vendor.example"
Message-Id: <20261103140500.4C1F@mx.vendor.example>

This is a MIME-encapsulated message.

--4C1F.1762178700/mx.vendor.example
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

<ana@acme.example>: host mx.acme.example said: 550 5.1.1

--4C1F.1762178700/mx.vendor.example
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.vendor.example
X-Postfix-Sender: rfc822; bounces@vendor.example
Arrival-Date: Tue,  3 Nov 2026 14:03:00 +0000 (UTC)

Final-Recipient: rfc822; ana@acme.example
Original-Recipient: rfc822;ana@acme.example
Action: {action}
Status: {status}
Remote-MTA: dns; mx.acme.example
Diagnostic-Code: {diagnostic}

--4C1F.1762178700/mx.vendor.example
Content-Description: Undelivered Message
Content-Type: {kind}

From: Vendor Security <security@vendor.example>
To: ana@acme.example
Subject: Your Vendor API token was public on GitHub and is disabled now
Message-ID:
 {message_id}

The words of the mail.

--4C1F.1762178700/mx.vendor.example--
"""


def bounce(
    message_id: str,
    *,
    action: str = "failed",
    status: str = "5.1.1",
    diagnostic: str = f"smtp; {REASON}",
    headers_only: bool = False,
) -> bytes:
    """Return a delivery status notification as Postfix writes it.

    `headers_only` omits the body of the returned mail.
    """
    kind = "text/rfc822-headers" if headers_only else "message/rfc822"
    lines = NOTIFICATION.format(message_id=message_id, action=action, status=status, diagnostic=diagnostic, kind=kind)
    return lines.encode("utf-8", "surrogateescape")

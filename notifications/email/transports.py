"""Chooses the mail transport by the URL in the settings."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import unquote, urlsplit

from notifications.email.maildir import MaildirTransport
from notifications.email.smtp import SmtpTransport
from notifications.email.transport import MailTransport

SCHEMES = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}


def transport_for(url: str, *, tls: ssl.SSLContext | None = None) -> MailTransport:
    """Return the transport for a URL.

    Args:
        url: `smtp://`, `smtp+starttls://` or `smtps://` with `user:password@host:port` (percent-encoded), or
            `maildir:///folder`.
        tls: The TLS context, for tests.

    Raises:
        ValueError: the URL has another form. The message is one line without the password.
    """
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

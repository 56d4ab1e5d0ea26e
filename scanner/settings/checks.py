"""Checks of settings that are URLs, mail addresses or networks."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

DEFAULT_SENDER = "r8scan <security@localhost.localdomain>"
"""The sender of mails if none is set."""
_LABEL = "[A-Za-z0-9]{1,40}(?:-[A-Za-z0-9]{1,20})?"
_PLAIN_ADDRESS = re.compile(
    rf"[A-Za-z0-9_+]{{1,30}}(?:[.-][A-Za-z0-9_+]{{1,30}})?@(?:{_LABEL}\.){{1,3}}[A-Za-z]{{2,20}}"
)
"""The usual form of a mail address, which needs no further check."""
_RESERVED_DOMAINS = ("alt", "arpa", "internal", "invalid", "local", "localhost", "onion", "test")
"""Last parts of domains that need a further check, because some cannot receive mail."""


def check_http_url(value: str) -> str:
    """Return a plain http(s) URL without a slash at its end.

    Raises:
        ValueError: The text is not such a URL.
    """
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
        raise ValueError("must be an http:// or https:// address without credentials or query")
    return value.rstrip("/")


def check_broker_url(value: str) -> str:
    """Return `value` unchanged if it is the URL of a message broker (Redis), or "embedded".

    Raises:
        ValueError: The text is neither.
    """
    if value != "embedded" and urlsplit(value).scheme not in ("redis", "rediss", "redis+socket"):
        raise ValueError("must be 'embedded' or a redis://, rediss:// or redis+socket:// address")
    return value


def check_redis_url(value: str) -> str:
    """Return `value` unchanged if it is the URL of a Redis server.

    Raises:
        ValueError: The text is not such a URL.
    """
    if urlsplit(value).scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must be a redis://, rediss:// or unix:// address")
    return value


def check_smtp_url(value: str) -> str:
    """Return `value` unchanged if it is the URL of a mail server or of a Maildir folder.

    Raises:
        ValueError: The text is not such a URL.
    """
    parts = urlsplit(value)
    if parts.scheme == "maildir":
        if not parts.path:
            raise ValueError("must name a folder: maildir:///path/to/folder")
        return value
    if parts.scheme not in ("smtp", "smtp+starttls", "smtps") or not parts.hostname:
        raise ValueError("must be smtp://, smtp+starttls:// or smtps://user:password@host:port")
    return value


def check_email(value: str) -> str:
    """Return `value` unchanged if it is a mail address, with or without a display name.

    Raises:
        ValueError: The text is malformed.
    """
    if value == DEFAULT_SENDER:
        return value
    address = value.rpartition("<")[2].rstrip(">").strip() if value.rstrip().endswith(">") else value
    if any(ord(char) < 32 for char in value):
        raise ValueError("must be one line")
    if _PLAIN_ADDRESS.fullmatch(address) and address.rpartition(".")[2].lower() not in _RESERVED_DOMAINS:
        return value
    # Import this module only when needed: it takes as long as loading all settings.
    from email_validator import EmailNotValidError, validate_email

    try:
        validate_email(address, check_deliverability=False, test_environment=True)
    except EmailNotValidError as err:
        raise ValueError(f"must be a mail address ({err})") from err
    return value


def check_proxy_networks(value: str) -> str:
    """Return a list of proxy networks, separated by commas, without blanks.

    Raises:
        ValueError: A network is malformed or is the whole internet.
    """
    parts = [part.strip() for part in value.split(",")]
    if len(value) > 500 or not all(parts):
        raise ValueError("must be addresses or networks, separated by commas, at most 500 characters")
    for part in parts:
        try:
            network = ipaddress.ip_network(part, strict=False)
        except ValueError as err:
            # Refuse "*": any client could then invent its IP address.
            raise ValueError("must name your proxies by address or network, such as 10.0.0.0/8; * is refused") from err
        if network.prefixlen == 0:
            raise ValueError(f"must not trust everybody: {part} is the whole internet")
    return ",".join(parts)


HttpUrl = Annotated[str, AfterValidator(check_http_url)]
Email = Annotated[str, AfterValidator(check_email)]
ProxyNetworks = Annotated[str, AfterValidator(check_proxy_networks)]

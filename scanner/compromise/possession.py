"""Accepts reports of found tokens from anyone who sends the token itself.

A reporter must not learn whether the vendor issued the token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

from scanner.compromise import rates
from scanner.compromise.networks import rate_keys
from scanner.compromise.reports import BadReport, NewReport, idempotency_key, record_within, subject_of
from scanner.detection import Digester
from scanner.detection.patterns.token_formats import described_formats, is_token, mask_plain_tokens
from scanner.permalinks import is_permalink
from scanner.records.database import Database

SIGN = "found_token"
REPORTER = "possession"
MAX_PER_CLIENT_PER_MINUTE = 10
MAX_OVERALL_PER_MINUTE = 240
"""The limit of requests a minute from all networks together, counted for all processes."""
MAX_URL_LENGTH = 2048
MAX_TOKENS = 1000
"""The limit of tokens in one request, the same as in GitHub's endpoint for revoking credentials."""
MAX_URL_DECODINGS = 3
"""A URL is percent-decoded this many times to find a token in it."""

_URL = re.compile(r"https://[!-\[\]-~]+")


class TooManyRequests(Exception):
    """Raised if a client's network, or all clients together, exceed the rate limit."""


@dataclass(frozen=True, slots=True)
class FoundToken:
    """A raw token that someone has found, and the https URL where it was found ("" if unknown)."""

    token: str
    url: str = ""


def record(
    database: Database, digester: Digester, found: Sequence[FoundToken], *, client: str, web_url: str
) -> list[int]:
    """Record reports of found tokens in one transaction. Malformed tokens are left out.

    Args:
        found: At least one token.
        client: The client's IP address.
        web_url: The web address of the watched GitHub. Only links to this website stay clickable.

    Returns:
        The ids of new reports. The caller must pass them to `settling.settle`. A second report of the same token and
        URL on the same day (UTC) is not new.

    Raises:
        BadReport: None of the tokens can be reported.
        TooManyRequests: The client's network, or all clients together, exceeded the rate limit.
    """
    today = datetime.now(UTC).date().isoformat()
    reports: list[NewReport] = []
    last_error = BadReport("holds no token")
    for one in found:
        try:
            # The same SQL statements run for every token, so that their duration does not show whether the token
            # exists.
            reports.append(_report(one, digester, today, web_url))
        except BadReport as err:
            last_error = err
    if not reports:
        raise last_error
    with database.write() as session:
        is_admitted = rates.admit(
            session, rate_keys(client)[0], per_client=MAX_PER_CLIENT_PER_MINUTE, overall=MAX_OVERALL_PER_MINUTE
        )
        ids = record_within(session, reports) if is_admitted else []
    if not is_admitted:
        raise TooManyRequests
    return ids


def _report(one: FoundToken, digester: Digester, today: str, web_url: str) -> NewReport:
    given = one.token.strip()
    if not is_token(given):
        raise BadReport(f"is not a token: {described_formats()}")
    place = public_url(one.url.strip(), web_url)
    return NewReport(
        subject=subject_of(given, digester),
        sign=SIGN,
        note="",
        reporter=REPORTER,
        # The key contains the date, so the token can be reported again on a later day.
        key=idempotency_key(f"{today} {idempotency_key(None, place)}", ""),
        url=place,
        is_braked=False,
    )


def public_url(url: str, web_url: str) -> str:
    """Return the URL with tokens redacted. Make it unclickable unless it is a permalink of the watched GitHub.

    Raises:
        BadReport: The text is not a valid https URL.
    """
    if not url:
        return ""
    if len(url) > MAX_URL_LENGTH or not _URL.fullmatch(url):
        raise BadReport(f"has a wrong url: write an https:// address of at most {MAX_URL_LENGTH} characters, or none")
    try:
        parts = urlsplit(url)
        host, has_credentials = parts.hostname, "@" in parts.netloc
    except ValueError:
        host, has_credentials = None, False
    if not host or has_credentials:
        raise BadReport("has a wrong url: it needs a host and no credentials")
    clean = _without_tokens(url)
    if is_permalink(web_url, clean):
        return clean
    return "hxxps[:]//" + clean.removeprefix("https://").replace(".", "[.]")


def _without_tokens(url: str) -> str:
    text = url
    for _ in range(MAX_URL_DECODINGS):
        masked = mask_plain_tokens(text)
        if masked != text:
            return "https://" + re.sub(r"[^!-~…]", "_", masked.removeprefix("https://"))
        decoded = unquote(text, errors="replace")
        if decoded == text:
            return url
        text = decoded
    # The URL is still percent-encoded after all these decodings. It may hide a token, so keep only its host.
    return f"https://{urlsplit(url).netloc}/…"

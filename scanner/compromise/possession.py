"""Anybody may say "I found this token": the token itself is the proof, and nobody learns whether it is one of ours.

This is an edge where raw tokens enter: each token is hashed at once. What is recorded, by the same statements, does not
depend on whether the store knows it; deciding comes after the answer. Only tokens in their plain form are read here:
nothing that was posted is decoded or opened.
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
from scanner.detection.token_formats import described_formats, is_token, mask_plain_tokens
from scanner.permalinks import is_permalink
from scanner.records.database import Database

SIGN = "found_token"
REPORTER = "possession"
PER_CLIENT_A_MINUTE = 10
OVERALL_A_MINUTE = 240
"""Requests of all networks, over all processes. Each process admits fewer by itself: see `workers.web.reports`."""
MAX_URL_LENGTH = 2048
MAX_TOKENS = 1000
"""Of one request: as many as GitHub's own endpoint for revoking credentials takes."""
MAX_UNQUOTED = 3
"""Times that an address is percent-decoded in search of a token. One that holds more layers is not kept."""

_URL = re.compile(r"https://[!-\[\]-~]+")


class TooManyRequests(Exception):
    """This client, or everybody together, has asked too often within this minute."""


@dataclass(frozen=True, slots=True)
class FoundToken:
    """A token that somebody has found, and where: an https address, or empty."""

    token: str
    url: str = ""


def record(
    database: Database, digester: Digester, found: Sequence[FoundToken], *, client: str, web_url: str
) -> list[int]:
    """Write the reports; return the ids to be settled, without those of tokens for which the same was said today.

    Args:
        database: Where the reports are written, in one transaction.
        digester: How tokens become digests here.
        found: At least one token. Those that are malformed are left out, unless all are.
        client: The asker's address.
        web_url: The web address of the GitHub that is watched. Only its permalinks are kept as links: whoever has a
            token must not choose where the owner's mail leads.

    Raises:
        BadReport: none of the tokens can be reported.
        TooManyRequests: the client's network, or everybody, has asked too often.
    """
    today = datetime.now(UTC).date().isoformat()
    reports: list[NewReport] = []
    refused = BadReport("holds no token")
    for one in found:
        try:
            reports.append(_report(one, digester, today, web_url))
        except BadReport as err:
            refused = err
    if not reports:
        raise refused
    with database.write() as session:
        is_admitted = rates.admit(
            session, rate_keys(client)[0], per_client=PER_CLIENT_A_MINUTE, overall=OVERALL_A_MINUTE
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
        # Possession proves as much on another day: a token that was brought back in between is disabled again.
        key=idempotency_key(f"{today} {idempotency_key(None, place)}", ""),
        url=place,
        is_braked=False,
    )


def public_url(url: str, web_url: str) -> str:
    """Return the address as it is kept: free of tokens, and no link unless it is a permalink of this GitHub.

    Raises:
        BadReport: this is no https address.
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
    """Return the address with each token in it replaced by its hint, also one that is percent-encoded."""
    read = url
    for _ in range(MAX_UNQUOTED):
        masked = mask_plain_tokens(read)
        if masked != read:
            return "https://" + re.sub(r"[^!-~…]", "_", masked.removeprefix("https://"))
        decoded = unquote(read, errors="replace")
        if decoded == read:
            return url
        read = decoded
    # What is encoded again and again is no address that anybody would type; only its host is kept.
    return f"https://{urlsplit(url).netloc}/…"

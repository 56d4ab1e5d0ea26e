"""Anybody may say "I found this token": the token itself is the proof, and nobody learns whether it is one of ours.

This is an edge where raw tokens enter: the token is hashed at once. What is recorded, by the same statements, does not
depend on whether the store knows it; deciding comes after the answer.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from urllib.parse import urlsplit

from scanner.detection import Digester, redact
from scanner.records.database import Database
from scanner.signs import rates
from scanner.signs.networks import parse_address, prefix_of
from scanner.signs.reports import BadReport, NewReport, idempotency_key, record_within, subject_of

SIGN = "found_token"
REPORTER = "possession"
PER_CLIENT_A_MINUTE = 10
OVERALL_A_MINUTE = 60
LONGEST_URL = 2048

_TOKEN = re.compile(r"r8_[0-9A-Za-z]{37}")
_URL = re.compile(r"https://[!-\[\]-~]+")


class TooManyRequests(Exception):
    """This client, or everybody together, has asked too often within this minute."""


def record(
    database: Database, digester: Digester, *, token: str, url: str, client: str, trusted_hosts: frozenset[str]
) -> list[int]:
    """Write the report; the ids to be settled, none if the same was said today. BadReport, TooManyRequests.

    `url` is where it was found, https, or empty; `client` the asker's address. A link is kept as one only on
    `trusted_hosts`: the owner's mail shows it, and whoever has a token must not choose where that mail leads.
    """
    given = token.strip()
    if not _TOKEN.fullmatch(given):
        raise BadReport("is not a token: r8_ and 37 letters and digits")
    subject = subject_of(given, digester)
    place = public_url(url.strip(), trusted_hosts)
    today = datetime.now(UTC).date().isoformat()
    # Possession proves as much on another day: a token that was brought back in between is disabled again.
    report = NewReport(
        subject=subject,
        sign=SIGN,
        note="",
        reporter=REPORTER,
        key=idempotency_key(f"{today} {idempotency_key(None, place)}", ""),
        url=place,
        is_braked=False,
    )
    with database.write() as session:
        is_admitted = rates.admit(
            session, _client_key(client), per_client=PER_CLIENT_A_MINUTE, overall=OVERALL_A_MINUTE
        )
        ids = record_within(session, [report]) if is_admitted else []
    if not is_admitted:
        raise TooManyRequests
    return ids


def public_url(url: str, trusted_hosts: frozenset[str]) -> str:
    """The address as it is kept: free of tokens, and written so that no mail makes a link of it unless it is trusted.

    BadReport when it is no https address.
    """
    if not url:
        return ""
    if len(url) > LONGEST_URL or not _URL.fullmatch(url):
        raise BadReport(f"has a wrong url: write an https:// address of at most {LONGEST_URL} characters, or none")
    try:
        parts = urlsplit(url)
        host, has_credentials = parts.hostname, "@" in parts.netloc
    except ValueError:
        host, has_credentials = None, False
    if not host or has_credentials:
        raise BadReport("has a wrong url: it needs a host and no credentials")
    clean = redact(url)
    if host in trusted_hosts:
        return clean
    return "hxxps://" + clean.removeprefix("https://").replace(".", "[.]")


def _client_key(client: str) -> str:
    address = parse_address(client)
    return prefix_of(address) if address is not None else "unknown"

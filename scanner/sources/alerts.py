"""Alerts of GitHub's secret scanning. Each record contains a token that GitHub has found in public.

A record's token is hashed immediately. Each record is processed independently, so that a bad record does not affect the
others.
https://docs.github.com/code-security/secret-scanning/secret-scanning-partnership-program/secret-scanning-partner-program
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from scanner.detection import Candidate, Place, PlaceKind, redact
from scanner.detection.digests import Digester
from scanner.detection.patterns.token_formats import hint_of, is_token
from scanner.github.urls import is_repository_name
from scanner.records import tallies
from scanner.records.database import Database
from scanner.records.states import SightingState
from scanner.response import sightings
from scanner.response.policy import Policy
from scanner.response.respond import Response
from scanner.sources.batches.runner import respond_or_keep

SOURCE = "partner_alerts"
MAX_RECORDS = 10_000
MAX_COMMAS = 40 * MAX_RECORDS
MAX_BRACES = 4 * MAX_RECORDS
"""Braces and commas are counted before the body is parsed, because 10 MB of empty values would take a gigabyte as
objects. A record has one brace and three commas, and a few more may occur in its address.
"""
MAX_TOKEN_LENGTH, MAX_TYPE_LENGTH, MAX_URL_LENGTH = 1024, 200, 4096
UNKNOWN_HINT = "…"
RECORDS_AT_ONCE = 2_000
ANSWER_SECONDS = 20.0
"""GitHub waits 30 seconds for the answer. Alerts that are not looked up by then are stored, and looked up right after
the answer.
"""

_BLOB = re.compile(r"/([^/]+/[^/]+)/blob/([0-9a-f]{40}(?:[0-9a-f]{24})?)/(.+)")
_COMMIT = re.compile(r"/([^/]+/[^/]+)/commit/([0-9a-f]{40}(?:[0-9a-f]{24})?)")

KINDS: dict[str, PlaceKind] = {
    "content": "file",
    "commit": "commit",
    "pull_request_title": "pull_request",
    "pull_request_description": "pull_request",
    "pull_request_comment": "issue_comment",
    "issue_title": "issue",
    "issue_description": "issue",
    "issue_comment": "issue_comment",
    "discussion_title": "discussion",
    "discussion_body": "discussion",
    "discussion_comment": "discussion",
    "commit_comment": "commit_comment",
    "gist_content": "gist",
    "gist_comment": "gist_comment",
    "wiki_content": "wiki_page",
    "wiki_commit": "wiki_page",
    "npm": "package",
    # A person submitted the token to GitHub, so the token may never have been public.
    "manual_submission": "submission",
}


class NotAlerts(Exception):
    """The body is not a list of alerts. The message says why, without repeating any of the body."""


class TooManyAlerts(Exception):
    """The body has more than MAX_RECORDS records. None of them was processed."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. `token_hash` is the token's SHA-256 in hex, by which GitHub identifies the token in the feedback."""

    token_hash: str
    token_type: str
    candidate: Candidate


@dataclass(slots=True)
class Alerts:
    """The alerts in a request's body. `counts` has the number of alerts, and of unusable records by reason."""

    alerts: list[Alert] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Verdict:
    """The feedback for GitHub, the response to the alerts, and the number of alerts that are not processed yet."""

    feedback: list[dict[str, str]] = field(default_factory=list)
    response: Response = field(default_factory=Response)
    unfinished: int = 0


def parse_alerts(body: bytes, digester: Digester, web_url: str) -> Alerts:
    """Return the alerts in a body.

    Raises:
        NotAlerts: The body is not a list of alerts.
        TooManyAlerts: The body has more than MAX_RECORDS records.
    """
    # Refuse all records. If r8scan accepted a part, GitHub would not send the rest again.
    too_many = TooManyAlerts(f"the body holds more than {MAX_RECORDS} records: send them in parts")
    if body.count(b",") > MAX_COMMAS or body.count(b"{") > MAX_BRACES:
        raise too_many
    try:
        # Replace all numbers by None: no field that is read below is a number, and Python refuses to convert very long
        # numbers.
        value = json.loads(body, parse_int=_no_number, parse_float=_no_number, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise NotAlerts("the body is not JSON") from None
    if not isinstance(value, list):
        raise NotAlerts("the body is not a JSON array of alerts")
    if len(value) > MAX_RECORDS:
        raise too_many
    found = Alerts()
    for record in value:
        alert = _alert(record, digester, web_url)
        if alert is None:
            found.counts["unusable_record"] += 1
        else:
            found.counts["of_another_form"] += alert.candidate.hint == UNKNOWN_HINT
            found.alerts.append(alert)
    found.counts["alerts"] += len(found.alerts)
    found.counts = +found.counts
    return found


def answer_alerts(
    database: Database,
    found: Alerts,
    *,
    policy: Policy,
    state_dir: Path,
    clock: Callable[[], float] = time.monotonic,
) -> Verdict:
    """Respond to the alerts, and return the feedback for GitHub.

    A token that the store knows is a `true_positive`. A token that the store does not know is a `false_positive`. An
    alert whose token could not be looked up in time gets no label. If the database is unavailable, raise its error.
    """
    deadline = clock() + ANSWER_SECONDS
    verdict = Verdict()
    ordered = sorted(found.alerts, key=lambda alert: alert.candidate.digest)
    position = 0
    while position < len(ordered) and clock() < deadline:
        batch = ordered[position : position + RECORDS_AT_ONCE]
        candidates = [alert.candidate for alert in batch]
        done = respond_or_keep(database, candidates, source=SOURCE, policy=policy, state_dir=state_dir)
        verdict.response.add(done)
        verdict.feedback += [label for alert in batch if (label := _label(alert, done)) is not None]
        position += len(batch)
    rest = [alert.candidate for alert in ordered[position:]]
    with database.write() as session:
        if rest:
            sightings.record(session, rest, source=SOURCE, state=SightingState.UNCHECKED)
        tallies.add(session, SOURCE, {**found.counts, "unfinished": len(rest)})
    verdict.unfinished = len(rest)
    return verdict


def _alert(record: Any, digester: Digester, web_url: str) -> Alert | None:
    """Return the alert in a record, or None if the record is unusable."""
    token = record.get("token") if isinstance(record, dict) else None
    if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN_LENGTH:
        return None
    # Do not use `type` to judge the token, because GitHub has sent alerts with swapped types.
    raw = token.strip().encode("utf-8", "surrogatepass")
    token_type = _token_type(record.get("type"))
    is_of_form = is_token(raw.decode("utf-8", "replace"))
    return Alert(
        token_hash=hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest(),
        token_type=token_type,
        # Give no hint of a string that is not a token: the hint of a short string would contain all of it.
        candidate=Candidate(digester(raw), hint_of(raw) if is_of_form else UNKNOWN_HINT, _place(record, web_url)),
    )


def _no_number(_: str) -> None:
    return None


@lru_cache(maxsize=256)
def _redacted_type(given: str) -> str:
    """Return the type with tokens redacted, so that the answer to GitHub may repeat it.

    The result is cached, because nearly all records of a body have the same type.
    """
    return _storable(redact(given))


def _token_type(given: Any) -> str:
    """Return the type for the feedback to GitHub, or an empty string if it is malformed.

    Lone surrogates are replaced, because UTF-8 cannot encode them.
    """
    if not isinstance(given, str) or len(given) > MAX_TYPE_LENGTH:
        return ""
    return _redacted_type(given)


def _storable(text: str) -> str:
    """Return text that UTF-8 can encode and PostgreSQL can store: no lone surrogates, no NUL."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _place(record: dict[str, Any], web_url: str) -> Place:
    source = record.get("source")
    kind: PlaceKind = KINDS.get(source.strip().lower(), "other") if isinstance(source, str) else "other"
    given = record.get("url")
    url = redact(given) if isinstance(given, str) and _is_shown(given) else ""
    path = urlsplit(url).path if kind in ("file", "commit") and url.startswith(f"{web_url}/") else ""
    if kind == "file" and (blob := _BLOB.fullmatch(path)) and is_repository_name(blob[1]):
        return Place("file", url, repository=blob[1], path=_storable(redact(unquote(blob[3]))), commit=blob[2])
    if kind in ("file", "commit") and (commit := _COMMIT.fullmatch(path)) and is_repository_name(commit[1]):
        return Place("commit", url, repository=commit[1], commit=commit[2])
    if kind == "submission":
        return Place(kind)
    # The alert has no path of a file, so only the address distinguishes this place from others.
    return Place("other" if kind == "file" else kind, url)


def _is_shown(url: str) -> bool:
    """Return whether a mail may show the address.

    The address must be HTTP or HTTPS, printable, of limited length, and without a user name.
    """
    if len(url) > MAX_URL_LENGTH or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and bool(parts.hostname) and "@" not in parts.netloc


def _label(alert: Alert, done: Response) -> dict[str, str] | None:
    """Return the feedback for an alert: its label follows from the token store's answer. None: no answer."""
    digest = alert.candidate.digest
    # Search the two sets one after the other. Joining them would copy both for each of thousands of alerts.
    if digest in done.known_digests:
        label = "true_positive"
    elif digest in done.unknown_digests:
        label = "false_positive"
    else:
        return None
    return {"token_hash": alert.token_hash, "token_type": alert.token_type, "label": label}

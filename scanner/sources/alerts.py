"""Reads alerts from GitHub's secret scanning. Each alert contains a token that GitHub has found in public.

https://docs.github.com/code-security/secret-scanning/secret-scanning-partnership-program/secret-scanning-partner-program
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from scanner.detection import Candidate, Place, PlaceKind
from scanner.detection.candidate_limits import MAX_PLACES, PLACES_OVER_LIMIT
from scanner.detection.digests import Digester
from scanner.detection.patterns.token_formats import hint_if_token
from scanner.detection.redaction import SharedRedaction
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
"""Limit of the braces and commas in a body, which is checked before the body is parsed."""
MAX_PERCENTS = 20 * MAX_RECORDS
"""If a body has more percent signs, the paths in it are not decoded."""
MAX_TOKEN_LENGTH, MAX_TYPE_LENGTH, MAX_URL_LENGTH = 1024, 200, 4096
UNKNOWN_HINT = "…"
MAX_TYPES = 100
"""The answer repeats at most this many different types of tokens."""
RECORDS_AT_ONCE = 5_000
ANSWER_SECONDS = 20.0
"""Alerts that are not looked up after this time are stored, and looked up after GitHub has received the answer."""

_BLOB = re.compile(r"/([^/]+/[^/]+)/blob/([0-9a-f]{40}(?:[0-9a-f]{24})?)/(.+)")
_USUAL_HOST = re.compile(r"https?://[0-9A-Za-z][0-9A-Za-z.-]*(?:/|\Z)")
"""The beginning of an address that needs no parsing."""
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
    # Somebody gave this token to GitHub directly, so it may never have been public.
    "manual_submission": "submission",
}


class NotAlerts(Exception):
    """Raised if a request's body is not a list of alerts. The message contains nothing of the body."""


class TooManyAlerts(Exception):
    """Raised if a request's body has more than MAX_RECORDS records."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert of GitHub's secret scanning. `token_hash` is the token's SHA-256 in hex."""

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
    """The answer to GitHub's alerts, what was done about the tokens, and how many alerts are not processed yet."""

    feedback: list[dict[str, str]] = field(default_factory=list)
    response: Response = field(default_factory=Response)
    unfinished: int = 0


def parse_alerts(body: bytes, digester: Digester, web_url: str) -> Alerts:
    """Return the alerts in the body of a request by GitHub's secret scanning.

    Raises:
        NotAlerts: The body is not a list of alerts.
        TooManyAlerts: The body has more than MAX_RECORDS records.
    """
    # Refuse the whole request, because GitHub would not send the rest again.
    too_many = TooManyAlerts(f"the body holds more than {MAX_RECORDS} records: send them in parts")
    if body.count(b",") > MAX_COMMAS or body.count(b"{") > MAX_BRACES:
        raise too_many
    try:
        # Replace all numbers by None: they are not used, and Python refuses very long ones.
        value = json.loads(body, parse_int=_no_number, parse_float=_no_number, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise NotAlerts("the body is not JSON") from None
    if not isinstance(value, list):
        raise NotAlerts("the body is not a JSON array of alerts")
    if len(value) > MAX_RECORDS:
        raise too_many
    found = Alerts()
    redaction = SharedRedaction()
    urls = redaction.redact_all([_shown_url(record) for record in value])
    types = [_given_type(record) for record in value]
    different = list(dict.fromkeys(types))[:MAX_TYPES]
    shown_types = dict(zip(different, map(_storable, redaction.redact_all(different)), strict=True))
    reading = _Reading(digester, web_url, redaction, are_paths_decoded=body.count(b"%") <= MAX_PERCENTS)
    for record, url, given_type in zip(value, urls, types, strict=True):
        alert = _alert(record, url, shown_types.get(given_type, UNKNOWN_HINT), reading)
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
    """Respond to the alerts, and return the answer to GitHub.

    A token is labelled `true_positive` if the token store knows it, otherwise `false_positive`. A token that could not
    be looked up in time gets no label. If the database is unavailable, its error is raised.
    """
    deadline = clock() + ANSWER_SECONDS
    verdict = Verdict()
    ordered = sorted(found.alerts, key=lambda alert: alert.candidate.digest)
    limits = _PlaceLimits()
    position = 0
    while position < len(ordered) and clock() < deadline:
        batch = ordered[position : position + RECORDS_AT_ONCE]
        candidates = limits.taken(batch)
        done = respond_or_keep(database, candidates, source=SOURCE, policy=policy, state_dir=state_dir)
        verdict.response.add(done)
        # Use the results of all batches so far, because the alerts of one token may be in several batches.
        verdict.feedback += [label for alert in batch if (label := _label(alert, verdict.response)) is not None]
        position += len(batch)
    rest = limits.taken(ordered[position:])
    with database.write() as session:
        if rest:
            sightings.record(session, rest, source=SOURCE, state=SightingState.UNCHECKED)
        counts = {**found.counts, f"unread_{PLACES_OVER_LIMIT}": limits.left_out, "unfinished": len(rest)}
        tallies.add(session, SOURCE, counts)
    verdict.unfinished = len(rest)
    return verdict


class _PlaceLimits:
    """Selects the first MAX_PLACES alerts of each token. `left_out` is the number of all other alerts."""

    def __init__(self) -> None:
        self.left_out = 0
        self._places = Counter[str]()

    def taken(self, alerts: Sequence[Alert]) -> list[Candidate]:
        """Return the token candidates of the first MAX_PLACES alerts of each token."""
        found: list[Candidate] = []
        for alert in alerts:
            digest = alert.candidate.digest
            self._places[digest] += 1
            if self._places[digest] <= MAX_PLACES:
                found.append(alert.candidate)
            else:
                self.left_out += 1
        return found


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is needed to parse each record of one request from GitHub."""

    digester: Digester
    web_url: str
    redaction: SharedRedaction
    are_paths_decoded: bool


def _alert(record: Any, url: str, token_type: str, reading: _Reading) -> Alert | None:
    """Return the alert in a record, or None if the record is unusable."""
    token = record.get("token") if isinstance(record, dict) else None
    if not isinstance(token, str) or not 0 < len(token) <= MAX_TOKEN_LENGTH:
        return None
    # Ignore the field `type`, because GitHub has sent alerts in which the types of two tokens were swapped.
    raw = token.strip().encode("utf-8", "surrogatepass")
    hint = hint_if_token(raw.decode("utf-8", "replace"))
    return Alert(
        token_hash=hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest(),
        token_type=token_type,
        # Show no hint (first and last characters) of other strings, because it could show a whole short string.
        candidate=Candidate(reading.digester(raw), hint or UNKNOWN_HINT, _place(record, url, reading)),
    )


def _no_number(_: str) -> None:
    return None


def _given_type(record: Any) -> str:
    """Return the record's type, or "" if it is malformed."""
    given = record.get("type") if isinstance(record, dict) else None
    return given if isinstance(given, str) and len(given) <= MAX_TYPE_LENGTH else ""


def _storable(text: str) -> str:
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _shown_url(record: Any) -> str:
    """Return the URL in a record, or "" if a mail must not show it."""
    given = record.get("url") if isinstance(record, dict) else None
    return given if isinstance(given, str) and _is_shown(given) else ""


def _place(record: dict[str, Any], url: str, reading: _Reading) -> Place:
    source = record.get("source")
    kind: PlaceKind = KINDS.get(source.strip().lower(), "other") if isinstance(source, str) else "other"
    path = urlsplit(url).path if kind in ("file", "commit") and url.startswith(f"{reading.web_url}/") else ""
    if kind == "file" and (blob := _BLOB.fullmatch(path)) and is_repository_name(blob[1]):
        path = reading.redaction.redact(unquote(blob[3])) if reading.are_paths_decoded and "%" in blob[3] else blob[3]
        return Place("file", url, repository=blob[1], path=_storable(path), commit=blob[2])
    if kind in ("file", "commit") and (commit := _COMMIT.fullmatch(path)) and is_repository_name(commit[1]):
        return Place("commit", url, repository=commit[1], commit=commit[2])
    if kind == "submission":
        return Place(kind)
    # Here no path of a file is known, so only the URL distinguishes this place from others.
    return Place("other" if kind == "file" else kind, url)


def _is_shown(url: str) -> bool:
    """Return whether a mail may show the URL: it is HTTP(S), printable, short, without a user name."""
    if len(url) > MAX_URL_LENGTH or not url.isprintable() or " " in url:
        return False
    if _USUAL_HOST.match(url):
        return True
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("https", "http") and bool(parts.hostname) and "@" not in parts.netloc


def _label(alert: Alert, done: Response) -> dict[str, str] | None:
    """Return the answer to GitHub about one token, or None if the look-up failed."""
    digest = alert.candidate.digest
    # Check the two sets separately, because merging them would copy both for every alert.
    if digest in done.known_digests:
        label = "true_positive"
    elif digest in done.unknown_digests:
        label = "false_positive"
    else:
        return None
    return {"token_hash": alert.token_hash, "token_type": alert.token_type, "label": label}

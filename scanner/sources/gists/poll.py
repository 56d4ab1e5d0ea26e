"""Public gists: what is new or changed since the last look; each poll has to overlap with the one before.

https://docs.github.com/rest/gists/gists#list-public-gists: at most 3,000 of the newest, by the time of their change.
Apps are not let in: https://docs.github.com/rest/authentication/endpoints-available-for-github-app-installation-access-tokens
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy.orm import Session

from scanner.detection import Candidate, Detector, Document, Place, redact
from scanner.detection.budgets import ScanBudget
from scanner.detection.candidate_limits import CandidateLimits
from scanner.github.client import GitHub, get_bytes, get_json, next_page
from scanner.github.credentials import AppInstallation
from scanner.github.errors import Forbidden, GitHubError
from scanner.github.urls import is_own_page
from scanner.records.database import Database
from scanner.records.states import JobKind, SightingState
from scanner.response import sightings
from scanner.sources.files import scan as remote_files
from scanner.sources.files.scan import RemoteFile
from scanner.sources.polling import leased_poll
from scanner.sources.polling.leased_poll import LeasedPoll, MissedSpan
from scanner.sources.polling.report import PollReport
from scanner.sources.polling.source import PollContext, Source
from scanner.sources.timeline.events import parse_time

SOURCE = "gists"
INTERVAL = 60.0
PAGE_SIZE, MAX_PAGES = 100, 30
FIRST_PAGES = 3
"""Of the first poll, which has nothing to overlap with: what is older than it is nobody's gap."""
RESERVE = 0.5
"""Of the REST budget, left to public events: what they miss is gone, gists stay in their list for longer."""
OVERLAP = timedelta(seconds=120)
KNOWN_KEPT = 4000
MAX_OWED_POLLS = 10
"""That fail to read the rest of a list; then it is a gap. Each goes on where the one before it failed."""
MAX_FILE_BYTES = 10 * 1024 * 1024
"""Bytes that a raw address serves; larger files come with a clone only."""
MAX_FILES = 300
"""Of one gist, which is as many as GitHub lists."""
MAX_FETCHED_AT_ONCE = 20
PRIORITY = 100

_ID = re.compile(r"[0-9a-f]{1,64}")
_RAW = re.compile(r"/raw/([0-9a-f]{40}(?:[0-9a-f]{24})?)/")


@dataclass(frozen=True, slots=True)
class Owed:
    """The rest of a list that was not read to its end: asked for since `since`, read down to `until`.

    `page` is the one that failed, `polls` how many have failed to read the rest.
    """

    since: str
    page: int = 1
    until: datetime | None = None
    polls: int = 1

    def to_json(self) -> dict[str, Any]:
        until = self.until.isoformat() if self.until else None
        return {"since": self.since, "page": self.page, "until": until, "polls": self.polls}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Owed:
        return cls(**{**value, "until": parse_time(value["until"])})


@dataclass(slots=True)
class GistPoll:
    """What one poll brought. `versions`: (id, time of change) of every gist listed, newest first.

    `owed`: what this poll did not come to. `passed_over`: gists that lie between those listed, known from before.
    """

    fresh: list[Mapping[str, Any]] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    times: list[datetime] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    overlaps: bool = False
    owed: Owed | None = None
    passed_over: int = 0
    error: GitHubError | None = None


def poll(
    database: Database, github: GitHub, detector: Detector, *, wait: Callable[[float], None] = time.sleep
) -> PollReport:
    """Poll if it is due; the files of what is new become jobs."""
    return leased_poll.run_if_due(database, SOURCE, wait, lambda turn: _poll(database, github, detector, turn))


def _poll(database: Database, github: GitHub, detector: Detector, turn: LeasedPoll) -> PollReport:
    known = frozenset(turn.cursor.get("known", ()))
    try:
        if isinstance(github.credential, AppInstallation):
            message = "public gists are not open to a GitHub App: set R8SCAN_GITHUB_TOKEN as well, for gists alone"
            raise Forbidden("needs_personal_token", message, retry_after=leased_poll.MAX_INTERVAL_SECONDS)
        brought = list_new(github.reserving(RESERVE), known, turn.newest_seen_at, owed=_owed(turn))
    except GitHubError as err:
        with database.write() as session:
            leased_poll.defer(session, turn, err)
        return PollReport(polled=True, error=err.reason)
    candidates: list[Candidate] = []
    files: list[RemoteFile] = []
    budget = turn.budget()
    for gist in brought.fresh:
        read_gist(gist, github.web_url, detector, candidates, files, brought.counts, budget)
    files = _fetch_what_must_not_be_stored(github, detector, files, candidates, brought.counts, budget)
    limits = CandidateLimits()
    candidates = limits.take(candidates)
    brought.counts.update({f"unread_{reason}": count for reason, count in limits.over.items()})
    # At most its own share of what is left is spent until the budget is full again.
    pace = github.gate.seconds_a_request("core") * brought.counts["requests"] / (1 - RESERVE)
    with database.write() as session:
        jobs = _commit(session, turn, brought, candidates, files, pace)
    return PollReport(True, len(brought.fresh), jobs, len(candidates), brought.error.reason if brought.error else None)


def list_new(
    github: GitHub, known: frozenset[str], newest_seen_at: datetime | None, *, owed: Owed | None = None
) -> GistPoll:
    """Ask for pages until one holds nothing new. An error on the first is raised, on a later one reported.

    `owed`: what an earlier poll was to read and could not; then only the list's end is an overlap, as what that poll
    still brought is known and says nothing of what lies behind it.
    """
    brought = GistPoll()
    has_met_known, is_at_end = False, False
    since = owed.since if owed else f"{newest_seen_at - OVERLAP:%Y-%m-%dT%H:%M:%SZ}" if newest_seen_at else None
    first: dict[str, str | int] = {"per_page": PAGE_SIZE, "page": 1, **({"since": since} if since else {})}
    first_url = f"{github.api_url}/gists/public"
    url, page = first_url, 1
    params: dict[str, str | int] | None = first
    seen: set[str] = set()
    while page <= (MAX_PAGES if since else FIRST_PAGES):
        try:
            response, listed = get_json(github, url, params=params, expected=list)
        except GitHubError as err:
            if page == 1:
                raise
            brought.error = err
            brought.owed = _still_owed(since, page, brought, owed, has_met_known=has_met_known) if since else None
            break
        brought.counts["requests"] += 1
        fresh = [gist for gist in listed if _take(gist, seen, brought) and brought.versions[-1] not in known]
        brought.fresh += fresh
        has_met_known = has_met_known or not known.isdisjoint(brought.versions)
        following = next_page(github, response)
        # The list is asked for from before the newest known one, so its end is an overlap too.
        is_at_end = following is None and len(listed) < PAGE_SIZE
        if is_at_end or not (fresh or owed):
            break
        page += 1
        if owed and not fresh and page < owed.page - 1:
            # Down to the page that failed all is known; one before it, since what is deleted moves the others up.
            brought.passed_over += (owed.page - 1 - page) * PAGE_SIZE
            page, following = owed.page - 1, None
        # The address of the next page holds all its parameters; one that is full has a next page, whatever is said.
        url, params = (following, None) if following else (first_url, {**first, "page": page})
    brought.overlaps = is_at_end or (has_met_known and not owed)
    return brought


def _still_owed(since: str, page: int, brought: GistPoll, before: Owed | None, *, has_met_known: bool) -> Owed:
    """What a poll owes that failed at this page, after one that owed `before`."""
    # What an earlier poll read is one piece with what this one did only where they meet.
    earlier = [before.until] if before and before.until and has_met_known else []
    until = min([*brought.times, *earlier], default=None)
    return Owed(since, page, until, before.polls + 1 if before else 1)


def read_gist(
    gist: Mapping[str, Any],
    web_url: str,
    detector: Detector,
    candidates: list[Candidate],
    files: list[RemoteFile],
    counts: Counter[str],
    budget: ScanBudget | None = None,
) -> None:
    """Scan what the list itself says of a gist, and add its files to those to fetch."""
    counts["gists"] += 1
    at = parse_time(gist.get("updated_at"))
    url = gist.get("html_url")
    place = Place("gist", url=redact(str(url)) if is_own_page(web_url, url) else "", published_at=at)
    listed = gist.get("files")
    entries = [file for file in listed.values() if isinstance(file, dict)] if isinstance(listed, dict) else []
    if len(entries) > MAX_FILES:
        counts["unread_files_over_limit"] += len(entries) - MAX_FILES
    owner = gist.get("owner")
    words = [gist.get("description"), *(file.get("filename") for file in entries[:MAX_FILES])]
    words.append(owner.get("login") if isinstance(owner, dict) else None)
    text = "\n".join(word for word in words if isinstance(word, str))
    if text:
        result = detector.scan(Document(text.encode("utf-8", "surrogatepass"), place), budget)
        candidates += result.candidates
        counts.update({f"unread_{reason}": count for reason, count in result.unread.items()})
    for file in entries[:MAX_FILES]:
        raw_url, name = file.get("raw_url"), file.get("filename")
        if not isinstance(raw_url, str) or not isinstance(name, str) or len(raw_url) > 4096:
            counts["unusable_file"] += 1
            continue
        own = Place("gist", url=place.url, path=redact(name), published_at=at)
        files.append(RemoteFile(raw_url, own, MAX_FILE_BYTES, key=_content_key(raw_url, name)))


def _content_key(raw_url: str, name: str) -> tuple[str, str] | None:
    """What the content is known by: an update of a gist brings all its files again, most of them unchanged.

    The id in a raw address is the blob's; should it be the commit's one day, the name still tells the files apart.
    """
    try:
        found = _RAW.search(urlsplit(raw_url).path)
    except ValueError:  # not an address
        return None
    if found is None:
        return None
    return "gist_file", f"{found[1]}:{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _take(gist: Any, seen: set[str], brought: GistPoll) -> bool:
    """Whether the gist can be used and is new to this poll; notes what the cursor has to know."""
    if not isinstance(gist, dict) or not isinstance(gist.get("id"), str) or not _ID.fullmatch(gist["id"]):
        brought.counts["unusable_gist"] += 1
        return False
    at = parse_time(gist.get("updated_at"))
    version = f"{gist['id']}@{at.isoformat() if at else ''}"
    if at is not None:
        brought.times.append(at)
    if version in seen:
        return False
    seen.add(version)
    brought.versions.append(version)
    return True


def _fetch_what_must_not_be_stored(
    github: GitHub,
    detector: Detector,
    files: Sequence[RemoteFile],
    candidates: list[Candidate],
    counts: Counter[str],
    budget: ScanBudget,
) -> list[RemoteFile]:
    """Files whose very address holds a token are read now, since no row may hold it; the others."""
    others, fetched = [], 0
    for file in files:
        if redact(file.url) == file.url:
            others.append(file)
            continue
        fetched += 1
        if fetched > MAX_FETCHED_AT_ONCE:
            counts["unread_address_with_token"] += 1
            continue
        try:
            content = get_bytes(github, file.url, limit=file.limit)
        except GitHubError as err:
            counts[f"error_{err.reason}"] += 1
            continue
        result = detector.scan(Document(content, file.place), budget)
        candidates += result.candidates
        counts.update({f"unread_{reason}": count for reason, count in result.unread.items()})
    return others


def _commit(
    session: Session,
    turn: LeasedPoll,
    brought: GistPoll,
    candidates: Sequence[Candidate],
    files: Sequence[RemoteFile],
    pace: float,
) -> int:
    known = tuple(turn.cursor.get("known", ()))
    now = datetime.now(UTC)
    newest = max((at for at in [turn.newest_seen_at, *brought.times] if at and at <= now), default=turn.newest_seen_at)
    missed = _missed(turn, brought) if known else None
    # What is a gap is owed no more.
    owed = brought.owed if missed is None else None
    leased_poll.end(
        session,
        turn,
        cursor={
            "known": list(dict.fromkeys([*brought.versions, *known]))[:KNOWN_KEPT],
            "owed": owed.to_json() if owed else None,
        },
        interval=max(INTERVAL, pace),
        counts=+brought.counts,
        newest=newest,
        missed=missed,
        error=brought.error,
    )
    if candidates:
        sightings.record(session, candidates, source=SOURCE, state=SightingState.UNCHECKED)
    return remote_files.enqueue(session, files, source=SOURCE, priority=PRIORITY)


def _missed(turn: LeasedPoll, brought: GistPoll) -> MissedSpan | None:
    """What nobody reads any more: it is out of the list's reach, or could not be read for too long."""
    before = _owed(turn)
    # What an earlier poll owed lies before all that it still brought.
    covered = (parse_time(before.since) if before else None) or turn.newest_seen_at
    oldest = brought.owed.until if brought.owed else min(brought.times, default=None)
    is_left = brought.owed.polls >= MAX_OWED_POLLS if brought.owed else not brought.overlaps
    if not is_left or oldest is None or covered is None or not brought.times:
        return None
    seconds = max((max(brought.times) - min(brought.times)).total_seconds(), 1.0)
    missing = max((oldest - covered).total_seconds(), 0.0)
    estimated = int((len(brought.versions) + brought.passed_over) / seconds * missing)
    reason = "page_fails" if brought.owed else "no_overlap"
    return MissedSpan(min(covered, oldest), oldest, estimated, reason)


def _owed(turn: LeasedPoll) -> Owed | None:
    value = turn.cursor.get("owed")
    # An earlier version kept the time alone.
    return Owed(value) if isinstance(value, str) else Owed.from_json(value) if value else None


def _poll_source(context: PollContext) -> PollReport:
    return poll(context.database, context.github_of_gists, context.detector)


GISTS = Source(SOURCE, _poll_source, job_kinds=(JobKind.FILES,), droppable={JobKind.FILES: (PRIORITY,)})

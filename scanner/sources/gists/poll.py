"""The source that polls public gists.

GitHub lists at most 3,000 gists, the most recently changed first:
https://docs.github.com/rest/gists/gists#list-public-gists

GitHub Apps may not use the list:
https://docs.github.com/rest/authentication/endpoints-available-for-github-app-installation-access-tokens
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
"""The first poll reads this many pages."""
RESERVE = 0.5
"""The share of the REST quota that is left to other sources."""
OVERLAP = timedelta(seconds=120)
"""Each poll lists changes from this long before the newest known change."""
KNOWN_KEPT = 4000
MAX_OWED_POLLS = 10
"""Record a gap after this many polls failed to read the rest of the list."""
MAX_FILE_BYTES = 10 * 1024 * 1024
"""Limit of a file that is fetched by its raw URL."""
MAX_FILES = 300
"""Limit of the files of one gist. GitHub lists no more."""
MAX_FETCHED_AT_ONCE = 20
PRIORITY = 100

_ID = re.compile(r"[0-9a-f]{1,64}")
_RAW = re.compile(r"/raw/([0-9a-f]{40}(?:[0-9a-f]{24})?)/")


@dataclass(frozen=True, slots=True)
class Owed:
    """The part of the list of gists that a later poll must still read, because a page failed.

    Attributes:
        since: GitHub's `since` parameter: the list contains only later changes.
        until: The time of the oldest change that was read before the failure.
        polls: The number of polls that have failed to read this part.
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
    """The result of one poll of the list of public gists.

    Attributes:
        fresh: The gists that are new or changed.
        versions: The id and the time of change of every listed gist, the newest first.
        times: The times of change of the listed gists.
        overlaps: Whether the poll reached gists that earlier polls have read.
        owed: The part of the list that this poll could not read, or None.
        passed_over: The number of gists on pages that the poll skipped because they have nothing new.
    """

    fresh: list[Mapping[str, Any]] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    times: list[datetime] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    overlaps: bool = False
    owed: Owed | None = None
    passed_over: int = 0
    error: GitHubError | None = None
    _listed: set[str] = field(default_factory=set)

    def note(self, gist: Any) -> bool:
        """Record a listed gist. Return whether it is usable and was not listed before in this poll."""
        if not isinstance(gist, dict) or not isinstance(gist.get("id"), str) or not _ID.fullmatch(gist["id"]):
            self.counts["unusable_gist"] += 1
            return False
        at = parse_time(gist.get("updated_at"))
        version = f"{gist['id']}@{at.isoformat() if at else ''}"
        if at is not None:
            self.times.append(at)
        if version in self._listed:
            return False
        self._listed.add(version)
        self.versions.append(version)
        return True


@dataclass(slots=True)
class GistRead:
    """What was found in gists, and what is still to be fetched.

    Attributes:
        candidates: The token candidates in the texts of gists.
        files: The files that are still to be fetched.
    """

    candidates: list[Candidate] = field(default_factory=list)
    files: list[RemoteFile] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def poll(
    database: Database, github: GitHub, detector: Detector, *, wait: Callable[[float], None] = time.sleep
) -> PollReport:
    """If the poll is due, list the new and changed gists and queue their files. Return how many items were stored.

    `wait` is the function that sleeps.
    """
    return leased_poll.run_if_due(database, SOURCE, wait, lambda leased: _poll(database, github, detector, leased))


def _poll(database: Database, github: GitHub, detector: Detector, leased: LeasedPoll) -> PollReport:
    known = frozenset(leased.cursor.get("known", ()))
    try:
        if isinstance(github.credential, AppInstallation):
            message = "public gists are not open to a GitHub App: set R8SCAN_GITHUB_TOKEN as well, for gists alone"
            raise Forbidden("needs_personal_token", message, retry_after=leased_poll.MAX_INTERVAL_SECONDS)
        polled = list_new(github.reserving(RESERVE), known, leased.newest_seen_at, owed=_owed(leased))
    except GitHubError as err:
        with database.write() as session:
            leased_poll.defer(session, leased, err)
        return PollReport(polled=True, error=err.reason)
    budget = leased.budget()
    read = [read_gist(gist, github.web_url, detector, budget) for gist in polled.fresh]
    candidates = [candidate for gist in read for candidate in gist.candidates]
    for gist in read:
        polled.counts.update(gist.counts)
    fetched = _fetch_what_must_not_be_stored(github, detector, [file for gist in read for file in gist.files], budget)
    candidates += fetched.candidates
    polled.counts.update(fetched.counts)
    limits = CandidateLimits()
    candidates = limits.take(candidates)
    polled.counts.update({f"unread_{reason}": count for reason, count in limits.over.items()})
    # Delay the next poll, so that this source uses only its share of the quota.
    pace = github.gate.seconds_a_request("core") * polled.counts["requests"] / (1 - RESERVE)
    with database.write() as session:
        jobs = _commit(session, leased, polled, candidates, fetched.files, pace)
    return PollReport(True, len(polled.fresh), jobs, len(candidates), polled.error.reason if polled.error else None)


def list_new(
    github: GitHub, known: frozenset[str], newest_seen_at: datetime | None, *, owed: Owed | None = None
) -> GistPoll:
    """Read the list of gists up to a page that has nothing new, and return the new gists.

    If a page after the first fails, the result contains the error.

    Args:
        known: The versions (id and time of change) that earlier polls have read.
        newest_seen_at: The time of the newest change that earlier polls have read.
        owed: The part of the list that an earlier poll could not read. If given, read to the end of the list.

    Raises:
        GitHubError: The first page could not be read.
    """
    polled = GistPoll()
    has_met_known, is_at_end = False, False
    since = owed.since if owed else f"{newest_seen_at - OVERLAP:%Y-%m-%dT%H:%M:%SZ}" if newest_seen_at else None
    first: dict[str, str | int] = {"per_page": PAGE_SIZE, "page": 1, **({"since": since} if since else {})}
    first_url = f"{github.api_url}/gists/public"
    url, page = first_url, 1
    params: dict[str, str | int] | None = first
    while page <= (MAX_PAGES if since else FIRST_PAGES):
        try:
            response, listed = get_json(github, url, params=params, expected=list)
        except GitHubError as err:
            if page == 1:
                raise
            polled.error = err
            polled.owed = _still_owed(since, page, polled, owed, has_met_known=has_met_known) if since else None
            break
        polled.counts["requests"] += 1
        fresh = [gist for gist in listed if polled.note(gist) and polled.versions[-1] not in known]
        polled.fresh += fresh
        has_met_known = has_met_known or not known.isdisjoint(polled.versions)
        following = next_page(github, response)
        # `since` is earlier than the newest known change, so a list that ends here is complete.
        is_at_end = following is None and len(listed) < PAGE_SIZE
        if is_at_end or not (fresh or owed):
            break
        page += 1
        if owed and not fresh and page < owed.page - 1:
            # Skip to one page before the failed page, because gists move up when others are deleted.
            polled.passed_over += (owed.page - 1 - page) * PAGE_SIZE
            page, following = owed.page - 1, None
        # A full page has a next page even if GitHub links to none.
        url, params = (following, None) if following else (first_url, {**first, "page": page})
    polled.overlaps = is_at_end or (has_met_known and not owed)
    return polled


def _still_owed(since: str, page: int, polled: GistPoll, before: Owed | None, *, has_met_known: bool) -> Owed:
    """Return the part of the list of gists that is still to be read after `page` failed."""
    # The list is sorted from new to old, so everything down to the oldest change of this poll is read.
    earlier = [before.until] if before and before.until and has_met_known else []
    until = min([*polled.times, *earlier], default=None)
    return Owed(since, page, until, before.polls + 1 if before else 1)


def read_gist(gist: Mapping[str, Any], web_url: str, detector: Detector, budget: ScanBudget | None = None) -> GistRead:
    """Scan the description and the file names of a gist that GitHub lists. Return token candidates and the files to
    fetch.

    Args:
        gist: The gist's entry in the list; untrusted.
    """
    read = GistRead()
    read.counts["gists"] += 1
    at = parse_time(gist.get("updated_at"))
    url = gist.get("html_url")
    place = Place("gist", url=redact(str(url)) if is_own_page(web_url, url) else "", published_at=at)
    listed = gist.get("files")
    entries = [file for file in listed.values() if isinstance(file, dict)] if isinstance(listed, dict) else []
    if len(entries) > MAX_FILES:
        read.counts["unread_files_over_limit"] += len(entries) - MAX_FILES
    owner = gist.get("owner")
    words = [gist.get("description"), *(file.get("filename") for file in entries[:MAX_FILES])]
    words.append(owner.get("login") if isinstance(owner, dict) else None)
    text = "\n".join(word for word in words if isinstance(word, str))
    if text:
        result = detector.scan(Document(text.encode("utf-8", "surrogatepass"), place), budget)
        read.candidates += result.candidates
        read.counts.update({f"unread_{reason}": count for reason, count in result.unread.items()})
    for file in entries[:MAX_FILES]:
        raw_url, name = file.get("raw_url"), file.get("filename")
        if not isinstance(raw_url, str) or not isinstance(name, str) or len(raw_url) > 4096:
            read.counts["unusable_file"] += 1
            continue
        file_place = Place("gist", url=place.url, path=redact(name), published_at=at)
        read.files.append(RemoteFile(raw_url, file_place, MAX_FILE_BYTES, key=_content_key(raw_url, name)))
    return read


def _content_key(raw_url: str, name: str) -> tuple[str, str] | None:
    """Return a key that identifies a file's content, or None if the URL contains no id."""
    try:
        found = _RAW.search(urlsplit(raw_url).path)
    except ValueError:  # the text is not a URL
        return None
    if found is None:
        return None
    # Include the file's name, because the id may be that of a commit, which contains several files.
    return "gist_file", f"{found[1]}:{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"


def _fetch_what_must_not_be_stored(
    github: GitHub, detector: Detector, files: Sequence[RemoteFile], budget: ScanBudget
) -> GistRead:
    """Fetch and scan the files whose URL contains a token. Return the other files as files to fetch."""
    read, fetched = GistRead(), 0
    for file in files:
        if redact(file.url) == file.url:
            read.files.append(file)
            continue
        fetched += 1
        if fetched > MAX_FETCHED_AT_ONCE:
            read.counts["unread_address_with_token"] += 1
            continue
        try:
            content = get_bytes(github, file.url, limit=file.limit)
        except GitHubError as err:
            read.counts[f"error_{err.reason}"] += 1
            continue
        result = detector.scan(Document(content, file.place), budget)
        read.candidates += result.candidates
        read.counts.update({f"unread_{reason}": count for reason, count in result.unread.items()})
    return read


def _commit(
    session: Session,
    leased: LeasedPoll,
    polled: GistPoll,
    candidates: Sequence[Candidate],
    files: Sequence[RemoteFile],
    pace: float,
) -> int:
    known = tuple(leased.cursor.get("known", ()))
    now = datetime.now(UTC)
    before = leased.newest_seen_at
    newest = max((at for at in [before, *polled.times] if at and at <= now), default=before)
    missed = _missed(leased, polled) if known else None
    # If the unread part of the list was recorded as a gap, later polls need not read it.
    owed = polled.owed if missed is None else None
    leased_poll.end(
        session,
        leased,
        cursor={
            "known": list(dict.fromkeys([*polled.versions, *known]))[:KNOWN_KEPT],
            "owed": owed.to_json() if owed else None,
        },
        interval=max(INTERVAL, pace),
        counts=+polled.counts,
        newest=newest,
        missed=missed,
        error=polled.error,
    )
    if candidates:
        sightings.record(session, candidates, source=SOURCE, state=SightingState.UNCHECKED)
    return remote_files.enqueue(session, files, source=SOURCE, priority=PRIORITY)


def _missed(leased: LeasedPoll, polled: GistPoll) -> MissedSpan | None:
    """Return the span of time in which gists were missed, or None."""
    before = _owed(leased)
    # All gists up to the time `covered` were read.
    covered = (parse_time(before.since) if before else None) or leased.newest_seen_at
    oldest = polled.owed.until if polled.owed else min(polled.times, default=None)
    is_left = polled.owed.polls >= MAX_OWED_POLLS if polled.owed else not polled.overlaps
    if not is_left or oldest is None or covered is None or not polled.times:
        return None
    seconds = max((max(polled.times) - min(polled.times)).total_seconds(), 1.0)
    missing = max((oldest - covered).total_seconds(), 0.0)
    estimated = int((len(polled.versions) + polled.passed_over) / seconds * missing)
    reason = "page_fails" if polled.owed else "no_overlap"
    return MissedSpan(min(covered, oldest), oldest, estimated, reason)


def _owed(leased: LeasedPoll) -> Owed | None:
    value = leased.cursor.get("owed")
    # Older versions of r8scan stored only the time, as a string.
    return Owed(value) if isinstance(value, str) else Owed.from_json(value) if value else None


def _poll_source(context: PollContext) -> PollReport:
    return poll(context.database, context.github_of_gists, context.detector)


GISTS = Source(SOURCE, _poll_source, job_kinds=(JobKind.FILES,), droppable={JobKind.FILES: (PRIORITY,)})

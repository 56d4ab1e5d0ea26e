"""The source that polls GitHub's code search."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from scanner.detection import Candidate, Detector, Document, Place, redact
from scanner.detection.budgets import SPENT, ScanBudget
from scanner.detection.candidate_limits import CandidateLimits
from scanner.github.client import GitHub
from scanner.github.errors import Forbidden, GitHubError
from scanner.github.urls import is_own_page, is_repository_name
from scanner.records.database import Database
from scanner.records.states import JobKind, SightingState
from scanner.response import sightings
from scanner.sources.code_search.rounds import MAX_SIZE_BYTES, Round, RoundUpdate, after_answer, after_refusal
from scanner.sources.files import scan as remote_files
from scanner.sources.files.scan import RemoteFile
from scanner.sources.polling import leased_poll
from scanner.sources.polling.leased_poll import LeasedPoll
from scanner.sources.polling.report import PollReport
from scanner.sources.polling.source import PollContext, Source

if TYPE_CHECKING:
    from scanner.github.search import SearchResult

SOURCE = "code_search"
INTERVAL = 6.0
"""Seconds between requests if GitHub's answer contains no quota."""
PRIORITY = 120
MAX_LOOKED_AT = 20
MAX_FRAGMENTS_BYTES = 1024 * 1024
RAW = "application/vnd.github.raw+json"

_SHA = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_BLOB_URL = re.compile(r"/blob/([0-9a-f]{40}(?:[0-9a-f]{24})?)/")

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Results:
    """What was found in one page of search results.

    A fragment is the text that GitHub shows around a match.

    Attributes:
        hits: The files whose fragments contain token candidates, with these candidates.
        read: The files that were fetched and read completely, with their candidates.
    """

    files: list[RemoteFile] = field(default_factory=list)
    hits: list[tuple[RemoteFile, list[Candidate]]] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    read: dict[RemoteFile, Sequence[Candidate]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    budget: ScanBudget = field(default_factory=ScanBudget.for_poll)

    def add_result(self, result: SearchResult, github: GitHub, detector: Detector) -> None:
        """Scan the text fragments of one search result, which is untrusted."""
        self.counts["results"] += 1
        name, path, sha = result.repository, result.path, result.sha
        if name is None or path is None or sha is None or not is_repository_name(name) or not _SHA.fullmatch(sha):
            self.counts["unusable_result"] += 1
            return
        place = _place(result, name, path, sha, github.web_url)
        # If the repository's name contains a token, use the repository's id instead.
        address = f"repos/{name}" if redact(name) == name else f"repositories/{place.repository_id}"
        file = RemoteFile(f"{github.api_url}/{address}/git/blobs/{sha}", place, MAX_SIZE_BYTES * 2, RAW, ("blob", sha))
        text = "\n".join(result.fragments)[:MAX_FRAGMENTS_BYTES]
        scanned = detector.scan(Document(text.encode("utf-8", "surrogatepass"), place), self.budget)
        self.counts.update({f"unread_{reason}": count for reason, count in scanned.unread.items()})
        if scanned.candidates:
            # The line number refers to the fragment and not to the file, so store 0 (unknown).
            self.hits.append((file, [replace(candidate, line=0, column=0) for candidate in scanned.candidates]))
        else:
            self.files.append(file)

    def take_known(self, session: Session) -> None:
        """Skip files whose content was read before, and use the token candidates stored then."""
        listed = [*self.files, *(file for file, _ in self.hits)]
        known = remote_files.known_hits(session, [file.key for file in listed if file.key])
        for file in listed:
            if file.key in known:
                self.candidates += remote_files.placed(known[file.key], file.place)
                self.counts["blobs_known"] += 1
        self.files = [file for file in self.files if file.key not in known]
        self.hits = [(file, candidates) for file, candidates in self.hits if file.key not in known]

    def look_closer(self, github: GitHub, detector: Detector) -> None:
        """Fetch at most MAX_LOOKED_AT files whose fragments contain token candidates, to find the line numbers."""
        for number, (file, candidates) in enumerate(self.hits):
            self.counts["candidates_in_fragments"] += len(candidates)
            placed = candidates
            if number < MAX_LOOKED_AT:
                try:
                    content = remote_files.fetch(github, file)
                except GitHubError as err:
                    self.counts[f"error_{err.reason}"] += 1
                    self.files.append(file)
                else:
                    whole = detector.scan(Document(content, file.place), self.budget)
                    digests = {candidate.digest for candidate in whole.candidates}
                    placed = [*whole.candidates, *(one for one in candidates if one.digest not in digests)]
                    if not remote_files.is_as_named(file, content):
                        self.files.append(file)
                    elif not whole.unread:
                        self.read[file] = whole.candidates
                    elif SPENT in whole.unread:
                        self.files.append(file)  # a job can read it with a separate budget
            else:
                self.files.append(file)
            self.candidates += placed


def poll(
    database: Database,
    github: GitHub,
    detector: Detector,
    *,
    queries: Sequence[str],
    wait: Callable[[float], None] = time.sleep,
) -> PollReport:
    """If the poll is due, send the next search request and store what it found. Return how many items were stored."""
    return leased_poll.run_if_due(
        database, SOURCE, wait, lambda leased: _poll(database, github, detector, queries, leased)
    )


def _poll(
    database: Database, github: GitHub, detector: Detector, queries: Sequence[str], leased: LeasedPoll
) -> PollReport:
    if github.credential_label == "none":
        # GitHub requires a credential for code search: https://docs.github.com/rest/search/search#search-code
        missing = Forbidden("needs_credential", "code search needs a credential: set GITHUB_TOKEN", retry_after=3600)
        with database.write() as session:
            leased_poll.defer(session, leased, missing)
        return PollReport(polled=True, error=missing.reason)
    from scanner.github import search  # import it here: it takes a second, and only this source needs it

    current = _round(leased, queries)
    shard = current.waiting[0]
    found, error = Results(budget=leased.budget()), None
    try:
        page = search.search_code(github, shard.text(queries), shard.page)
    except GitHubError as err:
        if err.reason != "http_422":
            with database.write() as session:
                leased_poll.defer(session, leased, err)
            return PollReport(polled=True, error=err.reason)
        _log.warning(
            "code search refuses a query: it is skipped in this round; change R8SCAN_SEARCH_QUERIES",
            extra={"query": queries[shard.query]},
        )
        update, error = RoundUpdate(after_refusal(current), {"query_refused": 1}), err
    else:
        update = after_answer(current, found=len(page.results), total=page.total, is_incomplete=page.is_incomplete)
        for result in page.results:
            found.add_result(result, github, detector)
        with database.read() as session:
            found.take_known(session)
        found.look_closer(github, detector)
        limits = CandidateLimits()
        found.candidates = limits.take(found.candidates)
        found.counts.update({f"unread_{reason}": count for reason, count in limits.over.items()})
    pace = github.gate.seconds_a_request("code_search")
    with database.write() as session:
        jobs = _commit(session, leased, update, found, queries, pace or INTERVAL, error)
    return PollReport(True, 0, jobs, len(found.candidates), error.reason if error else None)


def _place(result: SearchResult, name: str, path: str, sha: str, web_url: str) -> Place:
    given = result.html_url
    url = given if given is not None and is_own_page(web_url, given) else f"{web_url}/{name}"
    commit = _BLOB_URL.search(url)
    return Place(
        kind="file",
        url=redact(url),
        repository=redact(name),
        repository_id=result.repository_id,
        path=redact(path),
        commit=commit[1] if commit else None,
        git_object=sha,
    )


def _round(leased: LeasedPoll, queries: Sequence[str]) -> Round:
    """Return the current round of code search. Begin a new one if it has ended or the queries have changed."""
    cursor = leased.cursor
    if cursor.get("queries") == list(queries) and cursor.get("round", {}).get("waiting"):
        return Round.from_json(cursor["round"])
    return Round.begin(len(queries), datetime.now(UTC).isoformat())


def _commit(
    session: Session,
    leased: LeasedPoll,
    update: RoundUpdate,
    found: Results,
    queries: Sequence[str],
    interval: float,
    error: GitHubError | None,
) -> int:
    cursor: dict[str, Any] = {
        "queries": list(queries),
        "round": update.round.to_json(),
        "last_round": leased.cursor.get("last_round"),
    }
    counts = Counter({**update.counts}) + found.counts
    counts["requests"] += 1
    if not update.round.waiting:
        counts["rounds"] += 1
        cursor["last_round"] = _ended(update.round)
    leased_poll.end(session, leased, cursor=cursor, interval=interval, counts=+counts, error=error)
    remote_files.remember(session, found.read)
    if found.candidates:
        sightings.record(session, found.candidates, source=SOURCE, state=SightingState.UNCHECKED)
    return remote_files.enqueue(session, found.files, source=SOURCE, priority=PRIORITY)


def _ended(current: Round) -> dict[str, Any]:
    """Return a summary of an ended round for `r8scan status`."""
    began = datetime.fromisoformat(current.started_at)
    return {
        "ended_at": datetime.now(UTC).isoformat(),
        "seconds": round((datetime.now(UTC) - began).total_seconds(), 1),
        "requests": current.requests,
        "results": current.results,
        "expected": current.expected,
        "coverage": round(current.coverage, 4),
        "unreachable": current.unreachable,
        "incomplete": current.incomplete,
    }


def _poll_source(context: PollContext) -> PollReport:
    return poll(context.database, context.github, context.detector, queries=context.settings.search_queries)


CODE_SEARCH = Source(SOURCE, _poll_source, job_kinds=(JobKind.FILES,), droppable={JobKind.FILES: (PRIORITY,)})

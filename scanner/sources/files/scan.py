"""Runs `files` jobs: fetches files by their URLs, scans them, and responds to each found token immediately."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from scanner.detection import Candidate, Detector, Document, Place, redact
from scanner.detection.budgets import SPENT, ScanBudget
from scanner.detection.candidate_limits import CandidateLimits
from scanner.detection.git.pack_codec import object_id
from scanner.github.client import GitHub, get_bytes
from scanner.github.errors import GitHubError
from scanner.records import jobs
from scanner.records.columns import insert_or_nothing
from scanner.records.database import Database
from scanner.records.models import db_now
from scanner.records.reading_models import ReadObject
from scanner.records.states import JobKind
from scanner.response.places import candidate_from_json, candidate_to_json
from scanner.response.policy import Policy
from scanner.response.respond import Response
from scanner.sources.batches import runner as page_work
from scanner.sources.batches.not_read import not_read
from scanner.sources.batches.runner import ItemOutcome, first_visible, respond_or_keep
from scanner.sources.canaries import files as canary_files

FILES_A_JOB = 25
MAX_HITS = 200
RESERVE = 0.3
"""The share of the REST quota that is left to other work."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to fetch.

    Attributes:
        url: The URL to fetch the file from, or the made-up address of a canary (test token). It must not contain a
            token.
        place: The public URL and further data about the file, redacted.
        key: A key that files with the same content share, for example ("blob", id) with a git blob id. None if unknown.
    """

    url: str
    place: Place
    limit: int
    accept: str = "*/*"
    key: tuple[str, str] | None = None
    tries: int = 0

    @property
    def label(self) -> str:
        """Return the name of the file for error messages."""
        return redact(self.place.url or self.url)

    @property
    def published_at(self) -> datetime | None:
        return self.place.published_at

    def to_json(self) -> dict[str, Any]:
        # Store the place in the same JSON format as everywhere else. That format needs a candidate, so use an empty
        # one.
        place = candidate_to_json(Candidate("", "", self.place))["place"]
        return {
            "url": self.url,
            "place": place,
            "limit": self.limit,
            "accept": self.accept,
            "key": list(self.key) if self.key else None,
            "tries": self.tries,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> RemoteFile:
        place = candidate_from_json({"digest": "", "hint": "", "place": value["place"]}).place
        key = value["key"]
        return cls(**{**value, "place": place, "key": (key[0], key[1]) if key else None})


def enqueue(session: Session, files: Sequence[RemoteFile], *, source: str, priority: int) -> int:
    """Queue jobs for the files, in the caller's transaction. Return the number of jobs.

    Args:
        files: The files. Their URLs must not contain tokens.
        priority: Jobs with a lower number are claimed first.
    """
    count = 0
    for start in range(0, len(files), FILES_A_JOB):
        page = files[start : start + FILES_A_JOB]
        jobs.enqueue(
            session,
            JobKind.FILES,
            {"files": [file.to_json() for file in page]},
            source=source,
            priority=priority,
            visible_at=first_visible(page),
        )
        count += 1
    return count


def fetch(github: GitHub, file: RemoteFile) -> bytes:
    """Download the file and return its content.

    Raises:
        GitHubError: The file could not be downloaded.
    """
    return get_bytes(github, file.url, limit=file.limit, accept=file.accept)


def is_as_named(file: RemoteFile, content: bytes) -> bool:
    """Return whether the content matches the git blob id in the file's key. Without a blob id, return True."""
    if file.key is None or file.key[0] != "blob":
        return True
    sha = file.key[1]
    return object_id("blob", content, "sha256" if len(sha) == 64 else "sha1") == sha


def known_hits(session: Session, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[Any]]:
    """Return the token candidates, as JSON, that are stored for contents that were read before.

    Returns:
        The candidates by the key of the content. Contents that were not read before are left out.
    """
    if not keys:
        return {}
    statement = select(ReadObject).where(tuple_(ReadObject.kind, ReadObject.key).in_(sorted(set(keys))))
    return {(row.kind, row.key): row.hits for row in session.execute(statement).scalars() if row.hits is not None}


def placed(hits: Sequence[Any], place: Place) -> list[Candidate]:
    """Return stored token candidates as candidates found at `place`."""
    return [replace(candidate_from_json(hit), place=place) for hit in hits]


def scan_next(
    database: Database,
    github: GitHub,
    detector: Detector,
    policy: Policy,
    *,
    threads: int,
    state_dir: Path,
    kind: JobKind = JobKind.FILES,
) -> Response | None:
    """Run the most urgent job of the kind that is due. Return None if no job is due.

    Args:
        github: The GitHub client. The job leaves the share RESERVE of the request quota to other work.
        state_dir: The folder in which token candidates are kept while the database is unavailable.
    """
    job = jobs.claim_next(database, kind)
    if job is None:
        return None
    files = [RemoteFile.from_json(value) for value in job.target[kind]]
    reader = _Reader(database, github.reserving(RESERVE), detector, policy, files, is_first_look=kind == JobKind.FILES)

    def read(file: RemoteFile) -> ItemOutcome[RemoteFile]:
        outcome, candidates = reader.read(file)
        if candidates:
            outcome.response = respond_or_keep(
                database, candidates, source=job.source, policy=policy, state_dir=state_dir
            )
        return outcome

    return page_work.work(
        database, job, files, read, threads=threads, on_close=lambda session, _: remember(session, reader.found)
    )


class _Reader:
    """Reads the files of one job. If several files have the same content, only one is read."""

    def __init__(
        self,
        database: Database,
        github: GitHub,
        detector: Detector,
        policy: Policy,
        files: Sequence[RemoteFile],
        *,
        is_first_look: bool,
    ) -> None:
        self._is_first_look = is_first_look
        self.found: dict[RemoteFile, list[Candidate]] = {}
        self._database, self._github, self._detector, self._policy = database, github, detector, policy
        self._budget, self._limits = ScanBudget.for_page(), CandidateLimits()
        self._is_shared = len(files) > 1
        # If several files have the same content, one thread reads one of them. The other threads wait for its result.
        self._one_at_a_time = {file.key: threading.Lock() for file in files if file.key}

    def read(self, file: RemoteFile) -> tuple[ItemOutcome[RemoteFile], Sequence[Candidate]]:
        """Read one file. Return its outcome and its token candidates. Several threads may call this."""
        with self._one_at_a_time[file.key] if file.key else nullcontext():
            hits = self._known_by_now(file)
            if hits is not None:
                outcome = ItemOutcome(file, counts=Counter({"skipped_already_read": 1}))
                return outcome, placed(hits, file.place)
            try:
                content = self._fetched(file)
            except GitHubError as err:
                return _not_fetched(file, err), ()
            return (ItemOutcome(file), ()) if content is None else self._scanned(file, content)

    def _known_by_now(self, file: RemoteFile) -> Sequence[Any] | None:
        """Return the stored token candidates of the file's content, or None if it was never read."""
        if file.key is None:
            return None
        same = next((candidates for one, candidates in list(self.found.items()) if one.key == file.key), None)
        if same is not None:
            return [candidate_to_json(candidate) for candidate in same]
        with self._database.read() as session:
            return known_hits(session, [file.key]).get(file.key)

    def _fetched(self, file: RemoteFile) -> bytes | None:
        """Return the file's content, or None if the file is an ended canary (test token)."""
        if canary_files.is_canary(file.url):
            return canary_files.content(self._database, self._policy, self._detector.digester, file.url)
        return fetch(self._github, file)

    def _scanned(self, file: RemoteFile, content: bytes) -> tuple[ItemOutcome[RemoteFile], Sequence[Candidate]]:
        outcome = ItemOutcome(file)
        budget = ScanBudget.for_first_look(self._budget) if self._is_first_look else self._budget
        result = self._detector.scan(Document(content, file.place), budget)
        candidates = self._limits.take(result.candidates)
        over = len(result.candidates) - len(candidates)
        outcome.counts["bytes"] += len(content)
        outcome.counts["candidates"] += len(candidates)
        if self._is_first_look and SPENT in result.unread and not budget.has_time:
            outcome.is_slow = True
            return outcome, candidates  # the slow job reads the rest, or counts it as unread
        outcome.counts["unread_candidates_over_limit"] += over
        outcome.counts.update({f"unread_{reason}": count for reason, count in result.unread.items()})
        missed = not_read(result, file.place, len(content))
        outcome.not_read = (missed,) if missed else ()
        if not is_as_named(file, content):
            # The content does not match its hash, so keep the tokens found and fetch it again.
            outcome.counts["unread_blob_differs"] += 1
            outcome.is_partial = outcome.is_cut_off = True
        elif result.unread or over:
            outcome.is_partial = True
            # Other files may have used up the job's scan budget, so retry this file in its own job.
            outcome.is_cut_off = SPENT in result.unread and self._is_shared
        else:
            self.found[file] = candidates
        return outcome, candidates


def _not_fetched(file: RemoteFile, err: GitHubError) -> ItemOutcome[RemoteFile]:
    if err.reason == "too_large":
        return ItemOutcome(file, counts=Counter({"unread_file_over_limit": 1}), is_partial=True)
    return ItemOutcome(file, error=err)


def remember(session: Session, found: Mapping[RemoteFile, Sequence[Candidate]]) -> None:
    """Store the token candidates of files that were read completely, in the caller's transaction."""
    rows = {}
    for file, candidates in found.items():
        if file.key is not None and len(candidates) <= MAX_HITS:
            hits = [candidate_to_json(candidate) for candidate in candidates]
            rows[file.key] = {"kind": file.key[0], "key": file.key[1], "hits": hits}
    if rows:
        statement = insert_or_nothing(session, ReadObject).values(read_at=db_now())
        session.connection().execute(statement, [rows[key] for key in sorted(rows)])

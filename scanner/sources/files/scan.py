"""Does a `files` job: fetches files by their addresses, each once by its key, and responds at once.

Code search and gists end here: both name files that are fetched over HTTP and scanned as they are.
"""

from __future__ import annotations

import threading
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
from scanner.detection.packs import object_id
from scanner.github.client import GitHub, get_bytes
from scanner.github.errors import GitHubError
from scanner.records import jobs
from scanner.records.columns import insert_or_nothing
from scanner.records.database import Database
from scanner.records.models import db_now
from scanner.records.source_models import ReadObject
from scanner.records.states import JobKind
from scanner.response.places import candidate_from_json, candidate_to_json
from scanner.response.policy import Policy
from scanner.response.respond import Response
from scanner.sources.batches import runner as page_work
from scanner.sources.batches.not_read import not_read
from scanner.sources.batches.runner import ItemOutcome, first_visible, respond_or_keep

FILES_A_JOB = 25
MAX_HITS = 200
RESERVE = 0.3
"""Of the REST budget, left to polling and to what cannot wait."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file to fetch. `key`: (kind, name) of its content; what has the same key has the same content.

    `place` is where it stands, redacted; `url` where it is fetched from, `limit` in bytes.
    """

    url: str
    place: Place
    limit: int
    accept: str = "*/*"
    key: tuple[str, str] | None = None
    tries: int = 0

    @property
    def label(self) -> str:
        """What errors call it."""
        return redact(self.place.url or self.url)

    @property
    def published_at(self) -> datetime | None:
        return self.place.published_at

    def to_json(self) -> dict[str, Any]:
        # A candidate without a token: places have one form in JSON.
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
    """Job rows for the files, whose addresses must hold no token; the number of rows."""
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
    """Its content. Raises GitHubError."""
    return get_bytes(github, file.url, limit=file.limit, accept=file.accept)


def is_as_named(file: RemoteFile, content: bytes) -> bool:
    """Whether the bytes are those that a blob's id says; what has no such id is what it is."""
    if file.key is None or file.key[0] != "blob":
        return True
    sha = file.key[1]
    return object_id("blob", content, "sha256" if len(sha) == 64 else "sha1") == sha


def known_hits(session: Session, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], list[Any]]:
    """What stood in those of the contents that were read before."""
    if not keys:
        return {}
    statement = select(ReadObject).where(tuple_(ReadObject.kind, ReadObject.key).in_(sorted(set(keys))))
    return {(row.kind, row.key): row.hits for row in session.execute(statement).scalars() if row.hits is not None}


def placed(hits: Sequence[Any], place: Place) -> list[Candidate]:
    """Candidates of one content at another place of it."""
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
    """Do the most urgent job that is due; None when there is none.

    A file that takes long becomes a job of the kind `slow_files`, so that no other waits for it.
    """
    job = jobs.claim_next(database, kind)
    if job is None:
        return None
    files = [RemoteFile.from_json(value) for value in job.target[kind]]
    reader = _Reader(database, github.reserving(RESERVE), detector, files, is_first_look=kind == JobKind.FILES)

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
    """Reads the files of one job, each content once; `found`: what stands in those that were read completely."""

    def __init__(
        self,
        database: Database,
        github: GitHub,
        detector: Detector,
        files: Sequence[RemoteFile],
        *,
        is_first_look: bool,
    ) -> None:
        self._is_first_look = is_first_look
        self.found: dict[RemoteFile, list[Candidate]] = {}
        self._database, self._github, self._detector = database, github, detector
        self._budget, self._limits = ScanBudget.for_page(), CandidateLimits()
        # Copies of one content wait for the first of them.
        self._is_shared = len(files) > 1
        self._one_at_a_time = {file.key: threading.Lock() for file in files if file.key}

    def read(self, file: RemoteFile) -> tuple[ItemOutcome[RemoteFile], Sequence[Candidate]]:
        """What became of it, and what it holds. Called by several threads at once."""
        outcome = ItemOutcome(file)
        with self._one_at_a_time[file.key] if file.key else nullcontext():
            hits = self._known_by_now(file)
            if hits is not None:
                outcome.counts["skipped_already_read"] += 1
                return outcome, placed(hits, file.place)
            content = self._fetched(file, outcome)
            return outcome, () if content is None else self._scanned(file, content, outcome)

    def _known_by_now(self, file: RemoteFile) -> Sequence[Any] | None:
        """What the content holds, if it was read before, by a job that was open together with ours as well."""
        if file.key is None:
            return None
        same = next((candidates for one, candidates in list(self.found.items()) if one.key == file.key), None)
        if same is not None:
            return [candidate_to_json(candidate) for candidate in same]
        with self._database.read() as session:
            return known_hits(session, [file.key]).get(file.key)

    def _fetched(self, file: RemoteFile, outcome: ItemOutcome[RemoteFile]) -> bytes | None:
        """The content; None with the reason in `outcome`."""
        try:
            return fetch(self._github, file)
        except GitHubError as err:
            if err.reason == "too_large":
                outcome.counts["unread_file_over_limit"] += 1
                outcome.is_partial = True
            else:
                outcome.error = err
        return None

    def _scanned(self, file: RemoteFile, content: bytes, outcome: ItemOutcome[RemoteFile]) -> Sequence[Candidate]:
        budget = ScanBudget.for_first_look(self._budget) if self._is_first_look else self._budget
        result = self._detector.scan(Document(content, file.place), budget)
        candidates = self._limits.take(result.candidates)
        over = len(result.candidates) - len(candidates)
        outcome.counts["bytes"] += len(content)
        outcome.counts["candidates"] += len(candidates)
        if self._is_first_look and SPENT in result.unread and not budget.has_time:
            outcome.is_slow = True
            return candidates  # what was not read is read, or counted, by the slow job
        outcome.counts["unread_candidates_over_limit"] += over
        outcome.counts.update({f"unread_{reason}": count for reason, count in result.unread.items()})
        missed = not_read(result, file.place, len(content))
        outcome.not_read = (missed,) if missed else ()
        if not is_as_named(file, content):
            # It may be cut off: what came is scanned, and asked for again.
            outcome.counts["unread_blob_differs"] += 1
            outcome.is_partial = outcome.is_cut_off = True
        elif result.unread or over:
            outcome.is_partial = True
            # Other files of the page have spent what was meant for all: read alone, this one has a budget of its own.
            outcome.is_cut_off = SPENT in result.unread and self._is_shared
        else:
            self.found[file] = candidates
        return candidates


def remember(session: Session, found: Mapping[RemoteFile, Sequence[Candidate]]) -> None:
    """Keep what was read completely, in the caller's transaction."""
    rows = {}
    for file, candidates in found.items():
        if file.key is not None and len(candidates) <= MAX_HITS:
            hits = [candidate_to_json(candidate) for candidate in candidates]
            rows[file.key] = {"kind": file.key[0], "key": file.key[1], "hits": hits}
    if rows:
        statement = insert_or_nothing(session, ReadObject).values(read_at=db_now())
        session.connection().execute(statement, [rows[key] for key in sorted(rows)])

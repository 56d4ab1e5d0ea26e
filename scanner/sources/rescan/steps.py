"""The data and functions that all steps of a rescan use."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scanner.detection import Candidate, Detector
from scanner.github.client import GitHub
from scanner.github.errors import GitHubError
from scanner.records import jobs
from scanner.records.database import Database, is_unavailable
from scanner.records.jobs import ClaimedJob
from scanner.records.leases import HeldLeases
from scanner.records.unread_contents import MAX_ROWS_PER_JOB, NotRead
from scanner.response.policy import Policy
from scanner.response.respond import Response
from scanner.settings import Settings
from scanner.sources.batches.runner import respond_or_keep
from scanner.sources.found_tokens import FoundTokens

PROGRESS_SECONDS = 2.0

_log = logging.getLogger(__name__)


class NotNow(GitHubError):
    """Raised if a step has to wait `retry_after` seconds although GitHub reported no error."""


@dataclass
class Work:
    """A step in progress.

    Attributes:
        keeping: The worker's claim of the job. Progress extends its deadline.
        at: The position at which an earlier attempt stopped.
        counts_there: The counters at the position `at`, with which a retry continues.
        found: The tokens that this and earlier steps have found.
    """

    database: Database
    github: GitHub
    detector: Detector
    policy: Policy
    settings: Settings
    job: ClaimedJob
    counts: Counter[str]
    keeping: HeldLeases
    step: int = 0
    at: Mapping[str, Any] = field(default_factory=dict)
    counts_there: Counter[str] = field(init=False)
    not_read: list[NotRead] = field(default_factory=list)
    found: FoundTokens = field(init=False)
    _reported: float = -PROGRESS_SECONDS
    _reached: tuple[str, int] = ("", 0)

    def __post_init__(self) -> None:
        self.counts_there = Counter(self.counts)
        self.found = FoundTokens.from_json(self.job.progress.get("found"))

    @property
    def lost(self) -> threading.Event:
        """Return an event that is set when the step must stop, for example because the job was cancelled."""
        return self.keeping.lost

    def respond(self, candidates: Sequence[Candidate]) -> Response:
        """Look up the token candidates that the step found, and disable the real tokens."""
        if not candidates:
            return Response()
        response = respond_or_keep(
            self.database,
            candidates,
            source=self.job.source,
            policy=self.policy,
            state_dir=self.settings.state_dir,
        )
        self.found.add(response)
        return response

    def leave_unread(self, *documents: NotRead | None) -> None:
        """Add documents that were not read completely to the list for operators. None is ignored."""
        room = MAX_ROWS_PER_JOB - len(self.not_read)
        self.not_read += [document for document in documents if document is not None][:room]

    def reached(self, at: Mapping[str, Any]) -> None:
        """Set the position up to which the step has read, without storing it in the database."""
        if dict(at) != dict(self.at):
            self.keeping.progressed()
        self.at = dict(at)
        self.counts_there = Counter(self.counts)

    def checkpoint(self, at: Mapping[str, Any]) -> None:
        """Store the position up to which the step has read. The next attempt continues at this position.

        Raises:
            LeaseLost: The job was cancelled, or another worker has claimed it.
        """
        self.reached(at)
        jobs.checkpoint(self.database, self.job, self._progress("reading", 0, 0))

    def report(self, phase: str, done: int, total: int) -> None:
        """Record the progress, which `r8scan status` shows, at most once in PROGRESS_SECONDS."""
        if (phase, done) != self._reached:
            # A hung step reports the same number again, which must not extend the job's deadline.
            self._reached = (phase, done)
            self.keeping.progressed()
        now = time.monotonic()
        if now - self._reported < PROGRESS_SECONDS:
            return
        self._reported = now
        try:
            with self.database.write() as session:
                self.job.lease.write(session, progress=self._progress(phase, done, total))
        except Exception as err:
            if not is_unavailable(err):
                raise
            _log.warning("progress not recorded: the database is unavailable", extra={"job": self.job.id})

    def _progress(self, phase: str, done: int, total: int) -> dict[str, Any]:
        return {
            "step": self.step,
            "phase": phase,
            "done": done,
            "total": total or None,
            "counts": dict(self.counts_there),
            "at": dict(self.at),
            "found": self.found.to_json(),
        }

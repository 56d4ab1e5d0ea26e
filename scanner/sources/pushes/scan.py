"""Runs `pushes` jobs: reads each push of a job, and responds to its tokens immediately."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from sqlalchemy.orm import Session

from scanner.detection import Candidate, Detector
from scanner.detection.budgets import ScanBudget
from scanner.detection.git.packs import PackLimits
from scanner.github.client import GitHub
from scanner.github.errors import GitHubError
from scanner.records import jobs
from scanner.records.database import Database, is_unavailable
from scanner.records.jobs import ClaimedJob
from scanner.records.states import JobKind
from scanner.response.policy import Policy
from scanner.response.respond import NOT_RECORDED, Response
from scanner.sources.batches import runner as page_work
from scanner.sources.batches.runner import ItemOutcome, respond_or_keep
from scanner.sources.canaries import pushes as canary_pushes
from scanner.sources.pushes import memory as push_memory
from scanner.sources.pushes.priorities import EARLIER_PRIORITY
from scanner.sources.pushes.push import Push, PushReading
from scanner.sources.pushes.reading import read_push
from scanner.sources.pushes.tips import RememberedTips

FIRST_CANDIDATES = 100
"""r8scan responds to this many candidates of a push before it looks the others up."""


def scan_next(
    database: Database,
    github: GitHub,
    detector: Detector,
    policy: Policy,
    *,
    limits: PackLimits,
    threads: int,
    state_dir: Path,
    kind: JobKind = JobKind.PUSHES,
) -> Response | None:
    """Run the most urgent job of the kind that is due. Return None if no job is due.

    Args:
        state_dir: The folder in which token candidates are kept while the database is unavailable.
    """
    job = jobs.claim_next(database, kind)
    if job is None:
        return None
    pushes = [Push.from_json(value) for value in job.target[kind]]
    reader = _PageReader(database, github, detector, policy, limits, pushes, is_first_look=kind == JobKind.PUSHES)

    def read(push: Push) -> ItemOutcome[Push]:
        outcome = reader.read(push)
        if (reading := reader.readings.get(push)) is not None:
            response = _respond(database, reading.candidates, source=job.source, policy=policy, state_dir=state_dir)
            # Free the memory of the found tokens, because `reading` is kept until the job ends.
            reading.candidates.clear()
            outcome.response = response
            outcome.counts[f"band_read_{push.likelihood}"] += 1
            outcome.counts[f"band_found_{push.likelihood}"] += response.known
        return outcome

    def close(session: Session, outcomes: Sequence[ItemOutcome[Push]]) -> None:
        read_now = [(one.item, reader.readings[one.item]) for one in outcomes if one.item in reader.readings]
        remembered = [(push, tips) for push, reading in read_now if (tips := reading.tips) is not None]
        push_memory.remember(session, remembered, reader.host)
        _queue_earlier(session, job, pushes, read_now)

    return page_work.work(database, job, pushes, read, threads=threads, on_close=close)


class _PageReader:
    """Reads the pushes of one job."""

    def __init__(
        self,
        database: Database,
        github: GitHub,
        detector: Detector,
        policy: Policy,
        limits: PackLimits,
        pushes: Sequence[Push],
        *,
        is_first_look: bool,
    ) -> None:
        self._database, self._github, self._detector, self._policy = database, github, detector, policy
        self._limits, self._is_first_look = limits, is_first_look
        self._budget = ScanBudget.for_page()
        self.host = urlsplit(github.web_url).netloc
        self.readings: dict[Push, PushReading] = {}
        with database.read() as session:
            self._memory = push_memory.recall(session, pushes, self.host)

    def read(self, push: Push) -> ItemOutcome[Push]:
        """Read one push, unless it was read before. Several threads call this."""
        key = push_memory.key_of(push, self.host)
        known = self._memory.get(key) if key else None
        if known is not None and _is_read(push, known):
            return ItemOutcome(push, counts=Counter({"skipped_already_read": 1}))
        try:
            reading = self._read(push, known)
        except GitHubError as err:
            return ItemOutcome(push, error=err)
        self.readings[push] = reading
        return _outcome(push, reading)

    def _read(self, push: Push, known: RememberedTips | None) -> PushReading:
        if push.kind == "canary":
            return canary_pushes.read(self._database, self._policy, push, self._detector, self._limits)
        return read_push(
            self._github,
            push,
            self._detector,
            limits=self._limits,
            known=known,
            page_budget=self._budget,
            is_first_look=self._is_first_look,
            token_store=partial(_known, self._database, self._policy),
        )


def _known(database: Database, policy: Policy, digests: Collection[str]) -> Collection[str] | None:
    """Return the digests that the token store knows, or None if the store or the database is unavailable."""
    try:
        return policy.access.known(database, digests)
    except Exception as err:
        if is_unavailable(err):
            return None
        raise


def _respond(
    database: Database, candidates: Sequence[Candidate], *, source: str, policy: Policy, state_dir: Path
) -> Response:
    """Respond to the first FIRST_CANDIDATES token candidates of a push, then to all others."""
    response = Response()
    for part in filter(None, (candidates[:FIRST_CANDIDATES], candidates[FIRST_CANDIDATES:])):
        response.add(respond_or_keep(database, part, source=source, policy=policy, state_dir=state_dir))
    return response


def _is_read(push: Push, known: RememberedTips) -> bool:
    """Return whether this push was read before."""
    if push.kind == "earlier":
        return known.has_read(push.head)
    if push.kind != "push" or not push.head:
        return False
    if push.before.strip("0"):
        return known.has_read(push.head) and known.holds(push.before)
    return known.has_read_push_at(push.head, push.published_at)


def _queue_earlier(
    session: Session, job: ClaimedJob, page: Sequence[Push], read_now: Sequence[tuple[Push, PushReading]]
) -> None:
    """Queue a job for older commits that the server left out and that no job has read."""
    read_here = {(push.repository_id, push.head) for push in page}
    waiting = [
        replace(
            push,
            before="0" * len(oid),
            head=oid,
            kind="earlier",
            published_at=None,
            tries=0,
        )
        for push, reading in read_now
        if reading.plan is not None and reading.tips is not None
        for oid in reading.plan.earlier
        if (push.repository_id, oid) not in read_here
    ]
    waiting += [
        replace(push, before="0" * len(push.head), head="", ref="", published_at=None, tries=0, is_new=False)
        for push, reading in read_now
        if reading.plan is not None and reading.tips is not None and reading.plan.reads_refs_later
    ]
    if waiting:
        target = {"pushes": [push.to_json() for push in dict.fromkeys(waiting)]}
        jobs.enqueue(session, JobKind.PUSHES, target, source=job.source, priority=EARLIER_PRIORITY, parent_id=job.id)


def _outcome(push: Push, reading: PushReading) -> ItemOutcome[Push]:
    """Return the outcome of reading a push, without the response to its tokens."""
    # If a later request of this push was refused, set the error, so that the push is queued again.
    outcome = ItemOutcome(push, error=reading.refusal, is_slow=reading.is_slow)
    outcome.counts["candidates"] += len(reading.candidates)
    if reading.is_slow:
        return outcome  # the slow job reads the rest, or counts it as unread
    if reading.plan is not None and reading.plan.wants:
        outcome.counts[f"rung_{reading.plan.rung}"] += 1
        outcome.counts.update({f"may_miss_{reason}": 1 for reason in reading.plan.may_miss})
    outcome.counts["objects"] += reading.objects
    outcome.counts[NOT_RECORDED] += reading.unknown
    outcome.counts["bytes"] += reading.bytes
    outcome.counts.update({f"unread_{reason}": count for reason, count in reading.unread.items()})
    outcome.not_read = reading.not_read
    outcome.is_partial = not reading.complete
    outcome.is_cut_off, outcome.is_damaged = reading.is_cut_off, reading.is_damaged
    return outcome

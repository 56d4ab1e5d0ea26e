"""Does a `pushes` job: reads each push of the page and responds at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from sqlalchemy.orm import Session

from scanner.detection import Candidate, Detector
from scanner.detection.budgets import Budget
from scanner.detection.packs import PackLimits
from scanner.github.client import GitHub
from scanner.github.errors import GitHubError
from scanner.records import jobs
from scanner.records.database import Database
from scanner.response.policy import Policy
from scanner.response.respond import Response
from scanner.sources.batches import runner as page_work
from scanner.sources.batches.runner import Outcome, respond_or_keep
from scanner.sources.pushes import memory as push_memory
from scanner.sources.pushes.memory import PushMemory
from scanner.sources.pushes.push import Push, PushReading
from scanner.sources.pushes.reading import read_push

FIRST_CANDIDATES = 100
"""Candidates of one push that are responded to before the others."""


def scan_next(
    database: Database,
    github: GitHub,
    detector: Detector,
    policy: Policy,
    *,
    limits: PackLimits,
    threads: int,
    state_dir: Path,
    kind: Literal["pushes", "slow_pushes"] = "pushes",
) -> Response | None:
    """Do the most urgent job that is due; None when there is none.

    A push that takes long becomes a job of the kind `slow_pushes`, so that no other waits for it.
    """
    job = jobs.claim_next(database, kind)
    if job is None:
        return None
    pushes = [Push.from_json(value) for value in job.target[kind]]
    with database.read() as session:
        memory = push_memory.recall(session, pushes)
    readings: dict[Push, PushReading] = {}
    budget = Budget.for_page()

    def read(push: Push) -> Outcome[Push]:
        outcome = Outcome(push)
        candidates = _recalled(memory, push, github.web_url, outcome)
        if candidates is None:
            try:
                tips = memory.known_tips(push)
                reading = readings[push] = read_push(
                    github,
                    push,
                    detector,
                    limits=limits,
                    known_tips=tips,
                    page_budget=budget,
                    is_first_look=kind == "pushes",
                )
            except GitHubError as err:
                outcome.error = err
                return outcome
            candidates = reading.candidates
            _count(reading, outcome)
        # Objects with few candidates come first, so that a leak does not wait for a flood beside it.
        for part in filter(None, (candidates[:FIRST_CANDIDATES], candidates[FIRST_CANDIDATES:])):
            outcome.response.add(respond_or_keep(database, part, source=job.source, policy=policy, state_dir=state_dir))
        if push in readings:
            # The page is closed when all of its pushes are read: until then, keep no more than is remembered.
            del readings[push].candidates[push_memory.MAX_HITS + 1 :]
        return outcome

    def remember(session: Session, outcomes: Sequence[Outcome[Push]]) -> None:
        known = [(outcome.item, readings[outcome.item]) for outcome in outcomes if outcome.item in readings]
        push_memory.remember(session, known)

    return page_work.work(database, job, pushes, read, threads=threads, on_close=remember)


def _recalled(memory: PushMemory, push: Push, web_url: str, outcome: Outcome[Push]) -> Sequence[Candidate] | None:
    """What the push holds, if it was read before, here or in another repository."""
    if memory.is_read_here(push):
        outcome.counts["skipped_already_read"] += 1
        return ()
    candidates = memory.elsewhere(push, web_url)
    outcome.counts["skipped_read_elsewhere"] += candidates is not None
    return candidates


def _count(reading: PushReading, outcome: Outcome[Push]) -> None:
    outcome.counts["candidates"] += len(reading.candidates)
    outcome.is_slow = reading.is_slow
    # What came is responded to; for the rest the push waits like any that was not asked for.
    outcome.error = reading.refusal
    if reading.is_slow:
        return  # what was not read is read, or counted, by the slow job
    outcome.counts["objects"] += reading.objects
    outcome.counts["bytes"] += reading.bytes
    outcome.counts.update({f"unread_{reason}": count for reason, count in reading.unread.items()})
    outcome.not_read = reading.not_read
    outcome.is_partial = not reading.complete
    outcome.is_cut_off, outcome.is_damaged = reading.is_cut_off, reading.is_damaged

"""Queues pushes from listings of repositories, in the order in which to read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from scanner.detection import redact
from scanner.records import jobs
from scanner.records.states import JobKind
from scanner.sources.batches.runner import first_visible
from scanner.sources.pushes.likelihood import Evidence, likelihood_of
from scanner.sources.pushes.owners import KnownOwners, known_owners
from scanner.sources.pushes.priorities import PRIORITIES
from scanner.sources.pushes.push import Push
from scanner.sources.recall import marks

PUSHES_A_JOB = 25
"""The number of pushes in one job."""


@dataclass(frozen=True, slots=True)
class DiscoveredPush:
    """A push to a public repository, as a listing shows it.

    Attributes:
        repository: The owner and the name from GitHub; untrusted, but checked with `is_repository_name`.
        default_branch: The default branch's name without `refs/heads/`, or None.
        tip: The newest commit of the default branch, or None. The push may have gone to another branch.
        is_new: Whether this is the first push that the source saw of a recently created repository.
        size_kb: Size on GitHub's disk in kilobytes.
    """

    repository_id: int
    repository: str
    pushed_at: datetime | None
    default_branch: str | None = None
    tip: str | None = None
    created_at: datetime | None = None
    is_new: bool = False
    is_fork: bool = False
    size_kb: int | None = None
    language: str | None = None
    mentions_vendor: bool = False

    @property
    def owner(self) -> str:
        return self.repository.partition("/")[0]


def queue_discovered(session: Session, pushes: Sequence[DiscoveredPush], *, source: str) -> int:
    """Queue jobs that read the pushes, in the caller's transaction. Return the number of jobs."""
    marks.record(session, source, ((push.repository_id, push.pushed_at, push.is_new) for push in pushes))
    owners = known_owners(session, {push.owner for push in pushes})
    queued = [_push(push, owners) for push in pushes]
    count = 0
    for likelihood, priority in PRIORITIES.items():
        chosen = [push for push in queued if push.likelihood == likelihood]
        for start in range(0, len(chosen), PUSHES_A_JOB):
            page = chosen[start : start + PUSHES_A_JOB]
            target = {"pushes": [push.to_json() for push in page]}
            jobs.enqueue(
                session, JobKind.PUSHES, target, source=source, priority=priority, visible_at=first_visible(page)
            )
            count += 1
    return count


def _push(found: DiscoveredPush, owners: KnownOwners) -> Push:
    """Return the push in the form that jobs contain."""
    ref = f"refs/heads/{found.default_branch}" if found.default_branch and found.tip else ""
    owner = found.owner.lower()
    likelihood = likelihood_of(
        Evidence(
            repository=found.repository,
            actor=found.owner,
            repository_id=found.repository_id,
            ref=ref,
            is_new=found.is_new,
            is_fork=found.is_fork,
            size_kb=found.size_kb,
            language=found.language,
            mentions_vendor=found.mentions_vendor,
            owner_has_leaked=owner in owners.leaked,
            owner_has_account=owner in owners.with_account,
        )
    )
    return Push(
        repository=redact(found.repository),
        repository_id=found.repository_id,
        # Name no earlier commit: the server would leave out its content, which r8scan may not have read.
        before="0" * (len(found.tip) if found.tip else 40),
        head=found.tip or "",
        ref=redact(ref),
        ref_type="",
        published_at=found.pushed_at,
        kind="push",
        likelihood=likelihood,
        is_new=found.is_new,
        size_kb=found.size_kb,
    )

"""What was read completely: no push is read twice, and a fork that pushes the same commits still gets its place.

A (before, head) names the same objects in whatever repository, since ids are hashes of content and history.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.detection import Candidate
from scanner.records.columns import insert_or_nothing
from scanner.records.models import db_now
from scanner.records.source_models import ReadPush
from scanner.response.places import candidate_from_json, candidate_to_json
from scanner.sources.pushes.objects import placed_elsewhere
from scanner.sources.pushes.push import Push, PushReading

MAX_HITS = 200
"""Candidates of one push that are remembered; a push with more is read again in every repository."""
KNOWN_TIPS = 1000
MAX_KNOWN = 5000


@dataclass(frozen=True, slots=True)
class PushMemory:
    """What is known of the pushes of one page."""

    hits: Mapping[tuple[str, str], Sequence[Any] | None] = field(default_factory=dict)
    repositories: frozenset[tuple[int | None, str, str]] = frozenset()
    tips: Mapping[int, Sequence[str]] = field(default_factory=dict)

    def is_read_here(self, push: Push) -> bool:
        """Whether this very push of this repository was read."""
        return _is_skippable(push) and (push.repository_id, push.before, push.head) in self.repositories

    def elsewhere(self, push: Push, web_url: str) -> list[Candidate] | None:
        """What the same commits held in another repository, at their places in this one; None: not known."""
        hits = self.hits.get((push.before, push.head)) if _is_skippable(push) else None
        if hits is None:
            return None
        return [placed_elsewhere(candidate_from_json(hit), push, web_url) for hit in hits]

    def known_tips(self, push: Push) -> Sequence[str]:
        """Commits of the push's repository up to which everything was read."""
        return self.tips.get(push.repository_id, ()) if push.repository_id is not None else ()


def recall(session: Session, pushes: Sequence[Push]) -> PushMemory:
    """Everything known of these pushes, by two queries for all of them."""
    heads = {push.head for push in pushes if push.head}
    created = {push.repository_id for push in pushes if not _is_skippable(push) and push.repository_id is not None}
    hits: dict[tuple[str, str], Any] = {}
    repositories: set[tuple[int | None, str, str]] = set()
    if heads:
        statement = select(ReadPush).where(ReadPush.head.in_(heads)).limit(MAX_KNOWN)
        for row in session.execute(statement).scalars():
            repositories.add((row.repository_id, row.before, row.head))
            if row.hits is not None:
                hits[row.before, row.head] = row.hits
    tips: dict[int, list[str]] = defaultdict(list)
    for repository_id in sorted(created):
        newest_first = (
            select(ReadPush.head)
            .where(ReadPush.repository_id == repository_id)
            .order_by(ReadPush.read_at.desc())
            .limit(KNOWN_TIPS)
        )
        tips[repository_id] = list(session.execute(newest_first).scalars())
    return PushMemory(hits, frozenset(repositories), dict(tips))


def remember(session: Session, readings: Sequence[tuple[Push, PushReading]]) -> None:
    """Keep what was read completely, in the caller's transaction."""
    rows = {}
    for push, reading in readings:
        head = push.head or reading.tip
        if push.repository_id is None or not head or reading.is_slow or not reading.complete:
            continue
        hits = [candidate_to_json(candidate) for candidate in reading.candidates[: MAX_HITS + 1]]
        rows[push.repository_id, head, push.before] = {
            "repository_id": push.repository_id,
            "head": head,
            "before": push.before,
            "hits": hits if len(hits) <= MAX_HITS else None,
        }
    if rows:
        statement = insert_or_nothing(session, ReadPush).values(read_at=db_now())
        session.connection().execute(statement, [rows[key] for key in sorted(rows)])


def _is_skippable(push: Push) -> bool:
    """What a created ref brought depends on the repository's other refs; a push with two ends depends on nothing."""
    return push.kind == "push" and bool(push.before.strip("0"))

"""A push as it is queued, and what came of reading it: values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from scanner.detection import Candidate
from scanner.detection.budgets import ScanBudget
from scanner.detection.candidate_limits import CandidateLimits
from scanner.github.errors import GitHubError
from scanner.records.unread_contents import NotRead
from scanner.sources.pushes.likelihood import Likelihood
from scanner.sources.pushes.plan import Plan
from scanner.sources.pushes.tips import TipsRead


@dataclass(frozen=True, slots=True)
class Push:
    """A push, or a ref that was created (`kind` "create": no commits are known yet, `head` is empty).

    `kind` "commit": all that `head` reaches and `before` (zeros: nothing) does not, read again by an operator's wish,
    what `head` itself brought first.

    `kind` "earlier": `head` is where another push went on from, and was not read with it.

    `is_new`: the repository was created lately. `size_kb`: its size on GitHub's disk, if it is known.
    `repository` and `ref` are redacted, since names can hold a token; `published_at` is the event's time; `tries`
    counts how often reading it has failed.
    """

    repository: str
    repository_id: int | None
    before: str
    head: str
    ref: str
    ref_type: str
    published_at: datetime | None
    kind: Literal["push", "create", "commit", "earlier"]
    tries: int = 0
    likelihood: Likelihood = "ordinary"
    is_new: bool = False
    size_kb: int | None = None

    @property
    def label(self) -> str:
        """What errors call it."""
        return self.repository

    def to_json(self) -> dict[str, Any]:
        return {
            "repository": self.repository,
            "repository_id": self.repository_id,
            "before": self.before,
            "head": self.head,
            "ref": self.ref,
            "ref_type": self.ref_type,
            "published_at": self.published_at.isoformat() if self.published_at else None,
            "kind": self.kind,
            "tries": self.tries,
            "likelihood": self.likelihood,
            **({"is_new": True} if self.is_new else {}),
            **({"size_kb": self.size_kb} if self.size_kb is not None else {}),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Push:
        at = value["published_at"]
        return cls(**{**value, "published_at": datetime.fromisoformat(at) if at else None})


@dataclass(slots=True)
class PushReading:
    """What was read. `unread` counts what was not, by reason, and `not_read` names
    it, up to a limit; `is_cut_off`: asking again may bring the rest.

    `is_first_look`: a push that takes long is left to a slow job; then `is_slow` says so.
    `is_damaged`: the pack was corrupt, perhaps on its way only. `refusal`: of our own, which kept us from the rest.
    `plan`: what was asked for, None where nothing was to be read. `budget` and `limits` are shared by all documents of
    the push.
    """

    candidates: list[Candidate] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    not_read: list[NotRead] = field(default_factory=list)
    plan: Plan | None = None
    objects: int = 0
    bytes: int = 0
    is_cut_off: bool = False
    is_damaged: bool = False
    is_first_look: bool = False
    is_slow: bool = False
    refusal: GitHubError | None = None
    budget: ScanBudget = field(default_factory=ScanBudget.for_push)
    limits: CandidateLimits = field(default_factory=CandidateLimits)

    @property
    def complete(self) -> bool:
        return not self.unread

    @property
    def tip(self) -> str | None:
        """Return the commit that was read up to, for a created ref the one that was found."""
        return next(iter(self.plan.wants), None) if self.plan else None

    @property
    def tips(self) -> TipsRead | None:
        """Return what to remember, or None if the push will be read again."""
        plan = self.plan
        if plan is None or self.is_slow or self.is_cut_off or self.is_damaged or self.refusal is not None:
            return None
        return TipsRead(
            tuple(plan.wants),
            is_read=self.complete,
            before=plan.before,
            default=plan.default,
            is_whole=plan.is_whole and self.complete,
            lists_refs=plan.lists_refs,
        )

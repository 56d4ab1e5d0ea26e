"""A queued push, and the result of reading it. Values only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from scanner.detection import Candidate
from scanner.detection.budgets import ScanBudget
from scanner.detection.candidate_limits import CandidateLimits
from scanner.detection.pushed_packs import Known
from scanner.github.errors import GitHubError
from scanner.records.unread_contents import NotRead
from scanner.sources.pushes.likelihood import Likelihood
from scanner.sources.pushes.plan import Plan
from scanner.sources.pushes.tips import TipsRead


@dataclass(frozen=True, slots=True)
class Push:
    """A push, or another range of commits to read.

    Attributes:
        repository: Owner and name, redacted, because names can contain a token.
        repository_id: GitHub's id of the repository, if it is known.
        before: The tip before the push. Zeros: unknown or none.
        head: The last commit. Empty: unknown.
        ref: The full name of the ref, redacted.
        ref_type: What an event created: "repository", "branch" or "tag". Empty for a push.
        published_at: The time of the push.
        kind: "push": a push. "create": a created ref or repository whose commits are unknown. "commit": an operator
            named the commit `head`. Its own change is read first, then everything that it reaches and `before` does
            not. "earlier": the history before another push. "canary": a canary token, whose number is `head`.
        tries: Failed attempts to read it.
        likelihood: The likelihood that it contains a leaked token.
        is_new: The repository was created recently.
        size_kb: The repository's size on GitHub's disk, if it is known.
    """

    repository: str
    repository_id: int | None
    before: str
    head: str
    ref: str
    ref_type: str
    published_at: datetime | None
    kind: Literal["push", "create", "commit", "earlier", "canary"]
    tries: int = 0
    likelihood: Likelihood = "ordinary"
    is_new: bool = False
    size_kb: int | None = None

    @property
    def label(self) -> str:
        """Its name in error messages."""
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
    """The result of reading a push.

    Attributes:
        candidates: The candidates found.
        unread: Counts of what was not read, by reason.
        not_read: Records of documents that were not read completely, up to a limit.
        plan: What the server was asked for. None: there was nothing to read.
        objects: Objects that were scanned.
        bytes: Bytes of packs that were received.
        is_cut_off: The answer was cut off, so a retry may read the rest.
        is_damaged: The pack was corrupt, perhaps only in transit.
        is_first_look: The reading stops early if it takes long, and a slow job reads the push.
        is_slow: The push took too long for a first look.
        refusal: The gate's error if it refused a further request locally.
        budget: The scan budget that all documents of the push share.
        limits: The limits of candidates that all documents of the push share.
        known: Asks the token store about tokens beyond these limits.
        unknown: Tokens beyond the limits that the store did not know. They are not recorded.
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
    known: Known | None = None
    unknown: int = 0

    @property
    def complete(self) -> bool:
        return not self.unread

    @property
    def tip(self) -> str | None:
        """The last commit that was read. For a created ref, the commit that it points to."""
        return next(iter(self.plan.wants), None) if self.plan else None

    @property
    def tips(self) -> TipsRead | None:
        """What to remember of the repository, or None if the push will be read again."""
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

"""A queued push, and the result of reading it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from scanner.detection import Candidate, Detector
from scanner.detection.budgets import ScanBudget
from scanner.detection.candidate_limits import CandidateLimits
from scanner.detection.pushed_packs import Known
from scanner.github.errors import GitHubError
from scanner.records.unread_contents import MAX_ROWS_PER_JOB, NotRead
from scanner.sources.pushes.plan import Plan
from scanner.sources.pushes.priorities import Likelihood
from scanner.sources.pushes.tips import TipsRead


@dataclass(frozen=True, slots=True)
class Push:
    """A push, or another range of commits to read.

    Attributes:
        repository: The owner and the name, redacted, because names can contain a token.
        before: The id of the branch's newest commit before the push. Zeros: unknown or none.
        head: The id of the last commit, or of the canary (test token). "": unknown.
        ref: The full name of the branch or tag, redacted.
        ref_type: What was created: "repository", "branch" or "tag". "" for a push.
        kind: "push", "create" (a created branch, tag or repository), "commit" (named by an operator), "earlier" (the
            history before another push) or "canary".
        size_kb: The repository's size on GitHub's disk in kilobytes, if it is known.
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
        """Return the name of the push for error messages."""
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


@dataclass(frozen=True, slots=True)
class ScanContext:
    """The detector, and the limits that all documents of one push share.

    Attributes:
        known: A function that looks up candidates beyond these limits in the token store, or None.
    """

    detector: Detector
    budget: ScanBudget = field(default_factory=ScanBudget.for_push)
    limits: CandidateLimits = field(default_factory=CandidateLimits)
    known: Known | None = None


@dataclass(slots=True)
class ReadPart:
    """What was found in one answer of the server about a push.

    Attributes:
        not_read: Records of documents that were not read completely, up to a limit.
        unknown: Of the candidates beyond the limits, the number that the token store does not know.
        is_cut_off: Whether the answer was cut off. A retry may read the rest.
        is_damaged: Whether the pack was corrupt. This may be a transfer error.
    """

    candidates: list[Candidate] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    not_read: list[NotRead] = field(default_factory=list)
    objects: int = 0
    bytes: int = 0
    unknown: int = 0
    is_over_limit: bool = False
    is_cut_off: bool = False
    is_damaged: bool = False
    has_wants: bool = False


@dataclass(slots=True)
class PushReading:
    """The result of reading a push.

    Attributes:
        not_read: Records of documents that were not read completely, up to a limit.
        plan: What to ask the server for. None: there was nothing to read.
        is_cut_off: Whether the answer was cut off. A retry may read the rest.
        is_damaged: Whether the pack was corrupt. This may be a transfer error.
        is_slow: Whether the push took so long that it needs a slow job.
        refusal: The error if one of the requests was not sent because of a rate limit, otherwise None.
        unknown: Of the candidates beyond the limits, the number that the token store does not know.
    """

    candidates: list[Candidate] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    not_read: list[NotRead] = field(default_factory=list)
    plan: Plan | None = None
    objects: int = 0
    bytes: int = 0
    is_cut_off: bool = False
    is_damaged: bool = False
    is_slow: bool = False
    refusal: GitHubError | None = None
    unknown: int = 0

    def add(self, part: ReadPart) -> None:
        """Add the results from one more answer of the server."""
        self.candidates += part.candidates
        self.unread = +(self.unread + part.unread)
        self.not_read += part.not_read[: MAX_ROWS_PER_JOB - len(self.not_read)]
        self.objects += part.objects
        self.bytes += part.bytes
        self.unknown += part.unknown
        self.is_cut_off = self.is_cut_off or part.is_cut_off
        self.is_damaged = self.is_damaged or part.is_damaged

    @property
    def complete(self) -> bool:
        return not self.unread

    @property
    def tip(self) -> str | None:
        """Return the last commit that was read, or None if there was nothing to read."""
        return next(iter(self.plan.wants), None) if self.plan else None

    @property
    def tips(self) -> TipsRead | None:
        """Return the commits to remember as read, or None if a retry will read the push again."""
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

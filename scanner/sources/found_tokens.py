"""Counts the tokens that a job has found, by what was done about them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.records.models import Incident, ScanJob
from scanner.records.states import Decision
from scanner.response.respond import Response

MAX_KEPT = 1000
"""One job keeps the digests of at most this many tokens. Further tokens are counted as `tokens_uncounted`."""
DIGESTS_A_QUERY = 200
PREFIX = "tokens_"
NOW, BEFORE, UNKNOWN, UNCOUNTED = "disabled_now", "disabled_before", "unknown", "uncounted"


@dataclass(slots=True)
class FoundTokens:
    """The digests of the tokens that a job has found so far. A token that is found several times counts once."""

    known: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    is_full: bool = False

    @classmethod
    def from_json(cls, value: Any) -> FoundTokens:
        """Return the tokens from the progress that an earlier part of the job has stored."""
        if not isinstance(value, Mapping):
            return cls()
        return cls(set(value.get("known", ())), set(value.get("unknown", ())), bool(value.get("is_full")))

    def to_json(self) -> dict[str, Any]:
        """Return the tokens as JSON for the job's progress."""
        return {"known": sorted(self.known), "unknown": sorted(self.unknown), "is_full": self.is_full}

    def add(self, response: Response) -> None:
        """Add the tokens that were looked up in the token store."""
        self._add(self.known, response.known_digests)
        self._add(self.unknown, response.unknown_digests)
        self.unknown -= self.known

    def _add(self, kept: set[str], digests: Collection[str]) -> None:
        room = MAX_KEPT - len(self.known) - len(self.unknown)
        new = sorted(set(digests) - kept)
        kept.update(new[:room])
        self.is_full = self.is_full or len(new) > room

    def counts(self, session: Session, job_id: int) -> Counter[str]:
        """Return the number of unknown tokens, and of known tokens by what was done about them.

        Each key begins with PREFIX.
        """
        begun = session.execute(select(ScanJob.created_at).where(ScanJob.id == job_id)).scalar_one()
        found: Counter[str] = Counter({UNKNOWN: len(self.unknown), UNCOUNTED: int(self.is_full)})
        ordered = sorted(self.known)
        for start in range(0, len(ordered), DIGESTS_A_QUERY):
            statement = (
                select(Incident.digest, Incident.action, Incident.disabled_at)
                .where(Incident.digest.in_(ordered[start : start + DIGESTS_A_QUERY]))
                .order_by(Incident.detected_at)
            )
            newest = {row.digest: row for row in session.execute(statement)}
            for row in newest.values():
                is_new = row.disabled_at is not None and row.disabled_at >= begun
                is_ours = row.action == Decision.DISABLED
                found[(NOW if is_new else BEFORE) if is_ours else row.action.value] += 1
        return Counter({f"{PREFIX}{name}": number for name, number in found.items() if number})

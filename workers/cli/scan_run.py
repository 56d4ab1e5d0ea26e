"""What one run of `r8scan scan` has found, read and not read; filled by the modules that read, printed by another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from scanner.detection import Candidate, redact

MAX_NAMED = 100_000
"""Things not read that are named; further ones are only counted."""


class Progress(Protocol):
    """Shows how far it is; `advance` may be called from any thread."""

    def begin(self, what: str, total: int | None) -> None: ...
    def advance(self, objects: int, size: int, hits: int) -> None: ...


@dataclass(frozen=True, slots=True)
class NotRead:
    """Something that was not read. `path` holds no raw token; `git_object` and `commit` are set for histories."""

    reason: str
    path: str
    count: int = 1
    git_object: str | None = None
    commit: str | None = None


@dataclass(slots=True)
class ScanRun:
    """What was found and what was read. `unread` counts by reason; `notes` are things to know that are no failure."""

    candidates: list[Candidate] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    not_read: list[NotRead] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    objects: int = 0
    bytes: int = 0

    def add_not_read(self, item: NotRead) -> None:
        """Count and name something that was not read."""
        self.unread[item.reason] += item.count
        if len(self.not_read) < MAX_NAMED:
            self.not_read.append(item)

    def add_unread(self, path: str, unread: Mapping[str, int]) -> None:
        """Count and name what was not read of the file or folder at the path."""
        for reason, count in unread.items():
            if count:
                self.add_not_read(NotRead(reason, redact(path), count))

"""The result of one `r8scan scan`: the reading modules fill it, and `scan_output` prints it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from scanner.detection import Candidate, redact

MAX_NAMED = 100_000
"""Unread items that are named. Further ones are only counted."""


class Progress(Protocol):
    """A progress display. Any thread may call `advance`."""

    def begin(self, what: str, total: int | None) -> None: ...
    def advance(self, objects: int, size: int, hits: int) -> None: ...


@dataclass(frozen=True, slots=True)
class NotRead:
    """An item that was not read.

    `path` contains no raw token. `git_object` and `commit` are None unless the item is from a git history.
    """

    reason: str
    path: str
    count: int = 1
    git_object: str | None = None
    commit: str | None = None


@dataclass(slots=True)
class ScanRun:
    """The findings of one scan, and the amounts that it read.

    `unread` counts unread items by reason. `not_read` names the first of them. `notes` are remarks that are not
    failures.
    """

    candidates: list[Candidate] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    not_read: list[NotRead] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    objects: int = 0
    bytes: int = 0

    def add_not_read(self, item: NotRead) -> None:
        """Count an unread item, and name it if fewer than MAX_NAMED items are named."""
        self.unread[item.reason] += item.count
        if len(self.not_read) < MAX_NAMED:
            self.not_read.append(item)

    def add_unread(self, path: str, unread: Mapping[str, int]) -> None:
        """Add the unread parts of a file or folder. `unread` has their number by reason."""
        for reason, count in unread.items():
            if count:
                self.add_not_read(NotRead(reason, redact(path), count))

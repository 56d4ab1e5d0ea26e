"""The result of `r8scan scan`. The modules that read files and histories return parts, and `scan_output` prints it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from scanner.detection import Candidate, redact

MAX_NAMED = 100_000
"""The maximum number of unread items in `ScanRun.not_read`. Further unread items are only counted."""


class Progress(Protocol):
    """A progress display. `begin` starts a new part of the scan. Any thread may call `advance`."""

    def begin(self, what: str, total: int | None) -> None: ...
    def advance(self, objects: int, size: int, hits: int) -> None: ...


@dataclass(frozen=True, slots=True)
class NotRead:
    """A file, folder or git object that was not read, or of which parts were not read.

    `count` is the number of unread parts. `path` contains no raw token. `git_object` and `commit` are None if the item
    is not from a git history.
    """

    reason: str
    path: str
    count: int = 1
    git_object: str | None = None
    commit: str | None = None


@dataclass(slots=True)
class ScanRun:
    """The findings of a scan or of a part of it, and the amounts that were read.

    Attributes:
        candidates: The found tokens.
        unread: The number of unread parts by reason.
        not_read: The first MAX_NAMED unread items.
        notes: Remarks for the user that are not failures.
        files: The number of read files.
        objects: The number of read git objects.
        bytes: The number of read bytes.
    """

    candidates: list[Candidate] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    not_read: list[NotRead] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    objects: int = 0
    bytes: int = 0

    def add(self, part: ScanRun) -> None:
        """Add the findings and amounts of a part of the scan."""
        self.candidates += part.candidates
        self.unread.update(part.unread)
        self.not_read += part.not_read[: MAX_NAMED - len(self.not_read)]
        self.notes += part.notes
        self.files += part.files
        self.objects += part.objects
        self.bytes += part.bytes

    def add_not_read(self, item: NotRead) -> None:
        """Count an unread item, and add it to `not_read` if that has fewer than MAX_NAMED items."""
        self.unread[item.reason] += item.count
        if len(self.not_read) < MAX_NAMED:
            self.not_read.append(item)

    def add_unread(self, path: str, unread: Mapping[str, int]) -> None:
        """Add the unread parts of the file or folder at `path`. `unread` has their number by reason."""
        for reason, count in unread.items():
            if count:
                self.add_not_read(NotRead(reason, redact(path), count))

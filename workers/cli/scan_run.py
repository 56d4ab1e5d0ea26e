"""The result of `r8scan scan`: the tokens found, and what could not be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from scanner.detection import Candidate, redact

MAX_NAMED = 100_000
"""`ScanRun.not_read` contains at most this many items."""


class Progress(Protocol):
    """A progress display. `begin` starts a new part of the scan. Any thread may call `advance`."""

    def begin(self, what: str, total: int | None) -> None: ...
    def advance(self, objects: int, size: int, hits: int) -> None: ...


@dataclass(frozen=True, slots=True)
class NotRead:
    """A file, folder or git object that could not be read completely.

    Attributes:
        path: The item's path, without raw tokens.
        count: The number of parts that could not be read.
        git_object: The id of the git object. None outside a git history.
        commit: The id of a commit that contains the item. None outside a git history.
    """

    reason: str
    path: str
    count: int = 1
    git_object: str | None = None
    commit: str | None = None


@dataclass(slots=True)
class ScanRun:
    """The result of a whole scan or of one part of a scan.

    Attributes:
        unread: The number of parts that could not be read, by reason.
        not_read: The first MAX_NAMED items that could not be read.
        notes: Messages for the user that are not errors.
        bytes: The number of bytes read.
    """

    candidates: list[Candidate] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    not_read: list[NotRead] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: int = 0
    objects: int = 0
    bytes: int = 0

    def add(self, part: ScanRun) -> None:
        """Add the result of a part of the scan."""
        self.candidates += part.candidates
        self.unread.update(part.unread)
        self.not_read += part.not_read[: MAX_NAMED - len(self.not_read)]
        self.notes += part.notes
        self.files += part.files
        self.objects += part.objects
        self.bytes += part.bytes

    def add_not_read(self, item: NotRead) -> None:
        """Count an item that could not be read. Keep at most MAX_NAMED items."""
        self.unread[item.reason] += item.count
        if len(self.not_read) < MAX_NAMED:
            self.not_read.append(item)

    def add_unread(self, path: str, unread: Mapping[str, int]) -> None:
        """Record how many parts of the file or folder could not be read, by reason."""
        for reason, count in unread.items():
            if count:
                self.add_not_read(NotRead(reason, redact(path), count))

"""Turns listed repositories into pushes to read, and scans their names and descriptions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from scanner.detection import Candidate, Detector, Document, Place, redact
from scanner.detection.budgets import ScanBudget
from scanner.github.repositories import ListedRepository
from scanner.sources.pushes.discovered import DiscoveredPush

NEW_FOR = timedelta(days=1)
"""A repository whose latest push came within this time of its creation counts as new."""
READER_PATIENCE_SECONDS = 0.5
"""A text waits at most this long for an idle confined process that can open it."""


def discovered(repository: ListedRepository, vendor: str) -> DiscoveredPush:
    """Return the latest push of a listed repository. `vendor` is the vendor's name."""
    pushed_at, created_at = repository.pushed_at, repository.created_at
    words = f"{repository.name} {repository.description}".lower()
    return DiscoveredPush(
        repository_id=repository.id,
        repository=repository.name,
        pushed_at=pushed_at,
        default_branch=repository.default_branch,
        tip=repository.tip,
        created_at=created_at,
        is_new=bool(pushed_at and created_at and pushed_at - created_at <= NEW_FOR),
        is_fork=repository.is_fork,
        size_kb=repository.size_kb,
        language=repository.language,
        mentions_vendor=vendor.lower() in words,
    )


@dataclass(slots=True)
class TextScan:
    """The result of scanning the names and descriptions of repositories.

    Attributes:
        unread: Counts of what was not read, by reason. Each reason begins with `unread_`.
    """

    candidates: list[Candidate] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)


def scan_texts(
    detector: Detector,
    repositories: Sequence[ListedRepository],
    web_url: str,
    budget: ScanBudget,
) -> TextScan:
    """Scan the names and descriptions of listed repositories."""
    scan = TextScan()
    documents = list(_documents(repositories, web_url))
    joined = b"\n\n".join(document.content for document in documents)
    if not documents:
        return scan
    first = detector.scan(Document(joined, Place("other")), budget, patience=READER_PATIENCE_SECONDS)
    if not first.candidates and not first.unread:
        return scan
    for document in documents:
        result = detector.scan(document, budget, patience=READER_PATIENCE_SECONDS)
        scan.candidates += result.candidates
        scan.unread.update({f"unread_{reason}": count for reason, count in result.unread.items()})
    return scan


def _documents(repositories: Sequence[ListedRepository], web_url: str) -> Iterator[Document]:
    for repository in repositories:
        name = redact(repository.name)
        place = Place(
            "repository_description",
            url=f"{web_url}/{name}",
            repository=name,
            repository_id=repository.id,
            published_at=repository.pushed_at,
        )
        text = f"{repository.name}\n{repository.description}"
        yield Document(text.encode("utf-8", "surrogatepass"), place)

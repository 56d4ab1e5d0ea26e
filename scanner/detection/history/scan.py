"""Scan of all objects in a git repository, including objects that no branch or tag reaches."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from scanner.detection.detector import Detector
from scanner.detection.documents import Candidate, Document, Place, PlaceKind
from scanner.detection.history.git_processes import DEFAULT_SECONDS, Deadline
from scanner.detection.history.git_repositories import Repository, opened
from scanner.detection.history.history_results import ObjectHit, UnreadHistoryObject
from scanner.detection.history.history_stores import read_stores
from scanner.detection.history.object_places import ObjectPlace, ObjectPlaces
from scanner.detection.history.place_process import locate
from scanner.detection.redaction import redact

_KINDS: dict[str, PlaceKind] = {"blob": "file", "tree": "file_name", "commit": "commit", "tag": "tag"}


@dataclass(frozen=True, slots=True)
class UnreadPart:
    """A git object of which `count` parts were not read for the reason `reason`.

    `path` contains no raw tokens. `commit` is the id of a commit that contains the object.
    """

    reason: str
    count: int
    git_object: str
    kind: PlaceKind
    path: str | None
    commit: str | None


@dataclass(slots=True)
class HistoryScan:
    """The result of scanning a git repository.

    Attributes:
        candidates: The possible tokens. Each has a path, commit and object id, but no URL and repository.
        parts: The objects that were not read completely.
    """

    candidates: list[Candidate] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    parts: list[UnreadPart] = field(default_factory=list)
    objects: int = 0
    bytes: int = 0


_NAMES_AT_ONCE = 100
_NOWHERE = ObjectPlace(None, None)


def scan_history(
    git_dir: Path,
    detector: Detector,
    *,
    readers: int = 2,
    on_progress: Callable[[int, int], None] = lambda *_: None,
    stop: threading.Event | None = None,
    seconds: float = DEFAULT_SECONDS,
) -> HistoryScan:
    """Scan every object of a git repository, and the names of its branches and tags.

    When `stop` is set or `seconds` have passed, the remaining objects are counted as unread.

    Args:
        on_progress: Called with the number of objects read so far, and the number of all.

    Raises:
        GitError: `git_dir` is not a readable repository.
    """
    history = HistoryScan()
    deadline = Deadline(seconds, stop)
    with opened(git_dir) as repository:
        history.unread.update(repository.unread)
        read = read_stores(repository, detector, readers=readers, on_progress=on_progress, deadline=deadline)
        history.unread.update(read.unread)
        history.objects, history.bytes = read.objects, read.bytes
        placed = ("blob", "tree")
        wanted = {hit.oid for hit in read.hits if hit.type in placed}
        wanted |= {item.oid for item in read.named if item.type in placed}
        places = ObjectPlaces()
        if wanted:
            places = locate(repository, wanted, deadline)
        history.unread["places_not_found"] += 0 if places.is_complete else len(wanted) - len(places.found)
        for hit in read.hits:
            where = places.found.get(hit.oid, _NOWHERE)
            history.candidates.extend(_placed(candidate, hit, where) for candidate in hit.result.candidates)
        history.parts.extend(_named(item, places.found.get(item.oid, _NOWHERE)) for item in read.named)
        history.candidates.extend(_ref_names(repository, detector))
    history.unread = +history.unread
    return history


def _placed(candidate: Candidate, hit: ObjectHit, where: ObjectPlace) -> Candidate:
    place = Place(
        kind=_KINDS[hit.type],
        path=redact(where.path) if where.path is not None else None,
        commit=hit.oid if hit.type == "commit" else where.commit,
        git_object=hit.oid,
    )
    # Drop the line number of a tree, because a tree object has no lines.
    return replace(candidate, place=place, line=0 if hit.type == "tree" else candidate.line)


def _named(item: UnreadHistoryObject, where: ObjectPlace) -> UnreadPart:
    path = redact(where.path) if where.path is not None else None
    commit = item.oid if item.type == "commit" else where.commit
    return UnreadPart(item.reason, item.count, item.oid, _KINDS[item.type], path, commit)


def _ref_names(repository: Repository, detector: Detector) -> Iterator[Candidate]:
    for start in range(0, len(repository.ref_names), _NAMES_AT_ONCE):
        names = repository.ref_names[start : start + _NAMES_AT_ONCE]
        if detector.scan_bytes(b"\n".join(names)) is None:
            continue  # no token is in these names
        for name in names:
            place = Place("ref_name", ref=name.decode("utf-8", "surrogateescape"))
            yield from detector.scan(Document(name, place)).candidates

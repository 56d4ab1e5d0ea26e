"""Scans everything in a git repository's object database, reachable or not, and finds places for what it finds.

Commits and paths are looked up for hits only, in one pass over the history's changes.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from scanner.detection.detector import Detector
from scanner.detection.documents import Candidate, Document, Place, PlaceKind
from scanner.detection.git_processes import GitError, lines
from scanner.detection.history_reader import ObjectHit, list_objects, read_objects
from scanner.detection.redact import redact

_KINDS: dict[str, PlaceKind] = {"blob": "file", "tree": "file_name", "commit": "commit", "tag": "tag"}


@dataclass(slots=True)
class History:
    """What a history held. Places have path, commit and object id; URLs and repository are the caller's to add.

    `unread` counts what was not read, by reason; `bytes` counts objects as inflated.
    """

    candidates: list[Candidate] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    objects: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Where:
    path: str | None
    commit: str | None


def scan_history(
    git_dir: Path,
    detector: Detector,
    *,
    readers: int = 2,
    on_progress: Callable[[int, int], None] = lambda *_: None,
    stop: threading.Event | None = None,
) -> History:
    """Scan blobs, trees (names of files), commits (messages, authors), tags, notes, and names of refs.

    Raises GitError when `git_dir` cannot be read as a repository at all.
    """
    history = History()
    _note_what_lacks(git_dir, history)
    listed = list_objects(git_dir)
    read = read_objects(
        git_dir, listed, detector, readers=readers, on_progress=on_progress, stop=stop or threading.Event()
    )
    history.unread.update(read.unread)
    history.unread["object_damaged"] += listed.unreadable
    history.objects, history.bytes = read.objects, read.bytes
    places = _locate(git_dir, read.hits, history)
    for hit in read.hits:
        where = places.get(hit.oid, _Where(None, None))
        history.candidates.extend(_placed(candidate, hit, where) for candidate in hit.result.candidates)
    history.candidates.extend(_ref_names(git_dir, detector))
    history.unread = +history.unread
    return history


def _placed(candidate: Candidate, hit: ObjectHit, where: _Where) -> Candidate:
    place = Place(
        kind=_KINDS[hit.type],
        path=redact(where.path) if where.path is not None else None,
        commit=hit.oid if hit.type == "commit" else where.commit,
        git_object=hit.oid,
    )
    # The line in a tree object means nothing to anybody.
    return replace(candidate, place=place, line=0 if hit.type == "tree" else candidate.line)


def _ref_names(git_dir: Path, detector: Detector) -> Iterator[Candidate]:
    for name in lines(git_dir, ["for-each-ref", "--format=%(refname)"]):
        place = Place("ref_name", ref=name.decode("utf-8", "surrogateescape"))
        yield from detector.scan(Document(name, place)).candidates


def _note_what_lacks(git_dir: Path, history: History) -> None:
    """What a partial or shallow clone does not have cannot be found in it: say so."""
    common = git_dir
    if (git_dir / "commondir").is_file():
        common = git_dir / (git_dir / "commondir").read_text(errors="replace").strip()
    history.unread["shallow_clone"] += (common / "shallow").is_file()
    packs = common / "objects" / "pack"
    history.unread["partial_clone"] += packs.is_dir() and any(packs.glob("*.promisor"))


def _locate(git_dir: Path, hits: list[ObjectHit], history: History) -> dict[str, _Where]:
    """For blobs and trees with hits: the oldest commit that brought them, and their path in it."""
    wanted = {hit.oid for hit in hits if hit.type in ("blob", "tree")}
    if not wanted:
        return {}
    arguments = ["log", "--all", "-m", "--raw", "-t", "-z", "--root", "--no-abbrev", "--no-renames", "--no-color"]
    arguments += ["--no-ext-diff", "--no-textconv", "--no-show-signature", "--format=%x01%H %T"]
    if len(wanted) == 1:
        arguments.append(f"--find-object={next(iter(wanted))}")
    try:
        return _places_in(lines(git_dir, arguments, separator=b"\0"), wanted)
    except GitError:
        history.unread["places_not_found"] += 1
        return {}


def _places_in(fields: Iterable[bytes], wanted: set[str]) -> dict[str, _Where]:
    """Read `git log --raw -z`. It shows the newest commit first, so the last mention of an object is its first."""
    raw = {oid.encode() for oid in wanted}
    places: dict[str, _Where] = {}
    commit = ""
    object_id: str | None = None
    for item in fields:
        text = item.lstrip(b"\n")
        if text.startswith(b"\x01"):
            commit, _, tree = text[1:].strip().decode("ascii", "replace").partition(" ")
            if tree[: len(commit)].encode() in raw:
                places[tree] = _Where("", commit)
            text = text.partition(b"\n")[2].lstrip(b"\n") if b"\n" in text else b""
        if object_id is not None:
            places[object_id] = _Where(os.fsdecode(item), commit)
            object_id = None
        elif text.startswith(b":"):
            parts = text.split(b" ")
            if len(parts) >= 5 and parts[3] in raw:
                object_id = parts[3].decode()
    return places

"""The objects of one pack: each scanned as it is made, and what it holds placed in the repository."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from scanner.detection import Candidate, Detector, Document, Place, PlaceKind, redact
from scanner.github.pack_locations import Location, locate, parse_commit, tree_entries
from scanner.github.packs import PackObject, PackReading
from scanner.github.urls import blob_url, commit_url, is_repository_name, tag_url
from scanner.records.unread_contents import MAX_ROWS_A_JOB
from scanner.sources.batches.not_read import not_read
from scanner.sources.pushes.push import Push, PushReading

FIRST_LOOK_THREAD_SECONDS = 1.0
"""Processor time of this thread for one pack in a page of many. The readers' time is counted by the push's budget."""
KEPT_BYTES = 128 * 1024 * 1024
"""Of the trees and commits of one pack, kept to find paths in."""


def scan_pack(pack: PackReading, push: Push, web_url: str, detector: Detector, reading: PushReading) -> set[str]:
    """Scan every object as it is made; look up paths and commits only for those that hold something.

    The ids of its commits and tags.
    """
    base = Place("file", web_url and f"{web_url}/{push.repository}", push.repository, push.repository_id)
    hits: deque[tuple[PackObject, Sequence[Candidate]]] = deque()
    kept: list[PackObject] = []
    kept_bytes, is_all_kept = 0, True
    named: set[str] = set()
    begun = time.thread_time()
    for item in pack:
        if reading.is_first_look and time.thread_time() - begun > FIRST_LOOK_THREAD_SECONDS:
            reading.is_slow = True
            break
        content = _names(item) if item.type == "tree" else item.content
        place = replace(base, kind=_KINDS[item.type], git_object=item.oid)
        result = detector.scan(Document(content, place), reading.budget)
        reading.objects += 1
        reading.unread.update(result.unread)
        if (missed := not_read(result, place, len(content))) and len(reading.not_read) < MAX_ROWS_A_JOB:
            reading.not_read.append(missed)
        taken = reading.limits.take(result.candidates)
        if taken:
            hits.append((item if item.type == "commit" else replace(item, content=b""), taken))
        if item.type in ("commit", "tag"):
            named.add(item.oid)
        if item.type in ("commit", "tree"):
            kept_bytes += len(item.content)
            is_all_kept = kept_bytes <= KEPT_BYTES
            if is_all_kept:
                kept.append(item)
    reading.unread.update(pack.unread)
    reading.is_cut_off = reading.is_cut_off or bool(pack.unread["pack_truncated"])
    reading.is_damaged = reading.is_damaged or pack.is_damaged
    reading.bytes += pack.pack_bytes
    locations = locate(kept, {item.oid for item, _ in hits if item.type in ("blob", "tree")})
    while hits:
        item, candidates = hits.popleft()  # not kept beside their copies with places
        location = locations.get(item.oid)
        if item.type == "commit" and (commit := parse_commit(item)):
            location = Location("", item.oid, commit.committed_at)
        reading.unread["not_located"] += location is None and not is_all_kept
        reading.candidates.extend(_placed(candidate, item, location, push, web_url) for candidate in candidates)
    reading.unread = +reading.unread
    return named


_KINDS: dict[str, PlaceKind] = {"blob": "file", "tree": "file_name", "commit": "commit", "tag": "tag"}


def _names(tree: PackObject) -> bytes:
    names = (name for _, name, _ in tree_entries(tree.content, len(tree.oid) // 2))
    return "\n".join(names).encode("utf-8", "surrogateescape")


def _placed(candidate: Candidate, item: PackObject, location: Location | None, push: Push, web_url: str) -> Candidate:
    """The candidate with its place in the repository; every name in it is redacted."""
    commit = item.oid if item.type == "commit" else (location.commit if location else None)
    path = redact(location.path) if location and item.type in ("blob", "tree") else None
    line = candidate.line if item.type != "tree" else 0
    if item.type == "blob" and location is not None:
        url = redact(blob_url(web_url, push.repository, location.commit, location.path, line))
    elif item.type == "tag" and push.ref.startswith("refs/tags/"):
        url = redact(tag_url(web_url, push.repository, push.ref.removeprefix("refs/tags/")))
    elif commit is not None:
        url = redact(commit_url(web_url, push.repository, commit))
    else:
        url = redact(f"{web_url}/{push.repository}")
    place = Place(
        kind=_KINDS[item.type],
        url=url,
        repository=redact(push.repository),
        repository_id=push.repository_id,
        path=path,
        commit=commit,
        ref=push.ref or None,
        git_object=item.oid,
        published_at=_published(push, location),
    )
    return replace(candidate, place=place, line=line)


def placed_elsewhere(candidate: Candidate, push: Push, web_url: str) -> Candidate:
    """What stood in a push of another repository, at its place in this push, which has the same commits."""
    place, repository = candidate.place, push.repository
    if not is_repository_name(repository):
        url = web_url
    elif place.kind == "file" and place.commit and place.path:
        url = blob_url(web_url, repository, place.commit, place.path, candidate.line)
    elif place.commit:
        url = commit_url(web_url, repository, place.commit)
    else:
        url = f"{web_url}/{repository}"
    own = replace(
        place,
        url=redact(url),
        repository=redact(repository),
        repository_id=push.repository_id,
        ref=push.ref or None,
        published_at=push.published_at,
    )
    return replace(candidate, place=own)


def _published(push: Push, location: Location | None) -> datetime | None:
    """When it became public. What a created ref holds when it is read may be newer than its creation."""
    committed = location.committed_at if location else None
    if push.kind == "create" and push.published_at and committed and committed <= datetime.now(UTC):
        return max(push.published_at, committed)
    return push.published_at

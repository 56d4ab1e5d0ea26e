"""Scans the objects of a git pack, and records where each token candidate was found."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime

from scanner.detection import Candidate, Place, PlaceKind, redact
from scanner.detection.git.pack_locations import Location
from scanner.detection.git.pack_scanning import PackHit
from scanner.detection.git.packs import PackLimits
from scanner.detection.pushed_packs import scan_pack
from scanner.github.git_protocol import ReceivedPack
from scanner.github.urls import at_line, blob_url, commit_url, tag_url
from scanner.records.unread_contents import MAX_ROWS_PER_JOB
from scanner.sources.batches.not_read import not_read_object
from scanner.sources.pushes.push import Push, ReadPart, ScanContext


def read_pack(
    pack: ReceivedPack,
    push: Push,
    web_url: str,
    context: ScanContext,
    limits: PackLimits,
    wants: Collection[str] = (),
) -> ReadPart:
    """Scan every object of the git pack. Return the token candidates with their places in the repository.

    Args:
        push: The push that the pack was fetched for.
        wants: The ids of the requested objects. `ReadPart.has_wants` says whether the pack contains any of them.
    """
    scan = scan_pack(
        context.detector,
        pack.content,
        limits,
        context.budget,
        hash_name=pack.hash_name,
        wants=wants,
        known=context.known,
    )
    part = ReadPart(
        unread=scan.unread,
        objects=scan.objects,
        bytes=len(pack.content),
        unknown=scan.unknown,
        is_over_limit=scan.is_over_limit,
        is_cut_off=scan.is_cut_off,
        is_damaged=scan.is_damaged,
        has_wants=bool(scan.reached),
    )
    base = Place("file", web_url and f"{web_url}/{push.repository}", push.repository, push.repository_id)
    for missed in scan.not_read[:MAX_ROWS_PER_JOB]:
        place = replace(base, kind=_KINDS[missed.type], git_object=missed.oid or None)
        part.not_read.append(not_read_object(missed.reasons, missed.digest, missed.size, place))
    for hit in scan.hits:
        taken = hit.found if hit.is_confirmed else context.limits.take(hit.found)
        location = scan.locations.get(hit.oid)
        part.unread["not_located"] += location is None and not scan.is_all_located
        if taken:
            place_of = _Placer(hit, location, push, web_url)
            part.candidates.extend(place_of(candidate) for candidate in taken)
    return part


_KINDS: dict[str, PlaceKind] = {"blob": "file", "tree": "file_name", "commit": "commit", "tag": "tag"}


class _Placer:
    """Sets the place in the repository of each token candidate in one object."""

    def __init__(self, hit: PackHit[Candidate], location: Location | None, push: Push, web_url: str) -> None:
        commit = hit.oid if hit.type == "commit" else (location.commit if location else None)
        self._is_tree = hit.type == "tree"
        self._has_lines = hit.type == "blob" and location is not None and not push.repository.endswith(".wiki")
        name = push.repository.removesuffix(".wiki")
        is_wiki = name != push.repository
        if is_wiki:
            url = redact(f"{web_url}/{name}/wiki")
        elif hit.type == "blob" and location is not None:
            url = redact(blob_url(web_url, push.repository, location.commit, location.path))
        elif hit.type == "tag" and push.ref.startswith("refs/tags/"):
            url = redact(tag_url(web_url, push.repository, push.ref.removeprefix("refs/tags/")))
        elif commit is not None:
            url = redact(commit_url(web_url, push.repository, commit))
        else:
            url = redact(f"{web_url}/{push.repository}")
        self._place = Place(
            kind="wiki_page" if is_wiki and hit.type == "blob" else _KINDS[hit.type],
            url=url,
            repository=redact(name),
            repository_id=push.repository_id,
            path=redact(location.path) if location and hit.type in ("blob", "tree") else None,
            commit=commit,
            ref=push.ref or None,
            git_object=hit.oid,
            published_at=_published(push, location),
        )

    def __call__(self, candidate: Candidate) -> Candidate:
        line = 0 if self._is_tree else candidate.line
        place = self._place
        if self._has_lines and line:
            place = replace(place, url=at_line(place.url, line))
        return replace(candidate, place=place, line=line)


def _published(push: Push, location: Location | None) -> datetime | None:
    """Return the time at which the object became public, or None if it is unknown."""
    committed = location.committed_at if location else None
    if push.kind == "create" and push.published_at and committed and committed <= datetime.now(UTC):
        return max(push.published_at, committed)
    return push.published_at

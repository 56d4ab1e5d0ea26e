"""Reads the git history of a repository, wiki or gist for a rescan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from scanner.detection import Candidate, Place, PlaceKind
from scanner.detection.history.git_processes import GitError
from scanner.detection.history.scan import UnreadPart, scan_history
from scanner.detection.redaction import redact
from scanner.github import mirrors
from scanner.github.addresses import is_gist_id, is_object_id
from scanner.github.client import GitHub, get_json, next_page
from scanner.github.errors import GitHubError, Malformed, NotFound
from scanner.github.mirrors import MirrorStopped
from scanner.github.urls import blob_url, commit_url, git_url, is_own_page, is_repository_name
from scanner.records.unread_contents import NotRead
from scanner.response.respond import Response
from scanner.sources.batches.not_read import not_read_object
from scanner.sources.pushes import memory as push_memory
from scanner.sources.pushes.push import Push
from scanner.sources.pushes.tips import TipsRead
from scanner.sources.rescan.mirror_folders import mirror_folder
from scanner.sources.rescan.steps import Work

MAX_ACTIVITY_PAGES = 100
MAX_UNREACHED = 5000
"""At most this many commits from GitHub's list of the repository's activity are fetched."""


def read_repository(work: Work) -> Response:
    """Clone the repository and scan all its objects, including commits that force pushes have removed."""
    name, repository_id, described = _described(work.github, work.job.target)
    url = git_url(work.github.web_url, name)
    base = Place("file", repository=redact(name), repository_id=repository_id, published_at=_published(work.job.target))
    if described.get("has_discussions") is True:
        # GitHub's REST API cannot list discussions, so count them as unread.
        work.counts["unread_discussions"] = 1
    tips = _activity_tips(work, name)
    found = _scan(work, url, tips, base)
    response = work.respond(
        [_placed(candidate, base, work.github.web_url, name, "repository") for candidate in found.candidates]
    )
    _remember(work, name, repository_id, found)
    return response


def read_wiki(work: Work) -> Response:
    """Scan the git history of the repository's wiki.

    Raises:
        NotFound: The repository has no wiki.
        GitHubError: The wiki could not be read.
    """
    name, repository_id = repository_of(work.github, work.job.target)
    base = Place("file", repository=redact(name), repository_id=repository_id, published_at=_published(work.job.target))
    found = _scan(work, git_url(work.github.web_url, f"{name}.wiki"), (), base)
    response = work.respond(
        [_placed(candidate, base, work.github.web_url, name, "wiki") for candidate in found.candidates]
    )
    _remember(work, f"{name}.wiki", repository_id, found)
    return response


def read_gist(work: Work) -> Response:
    """Clone a gist and scan its history.

    Raises:
        GitHubError: The gist could not be read.
    """
    gist_id = str(work.job.target["gist"])
    if not is_gist_id(gist_id):
        raise NotFound("unusable_gist", "this is not a valid id of a gist")
    try:
        _, value = get_json(work.github, f"{work.github.api_url}/gists/{gist_id}", expected=dict)
    except NotFound as err:
        raise NotFound("not_found", f"there is no public gist {gist_id}") from err
    url, page = value.get("git_pull_url"), value.get("html_url")
    if not is_own_page(work.github.web_url, url) or not is_own_page(work.github.web_url, page):
        raise Malformed("unexpected_json", "the gist's description cannot be used")
    base = Place("gist", url=redact(str(page)), published_at=_published(work.job.target))
    found = _scan(work, str(url), (), base)
    return work.respond([replace(candidate, place=_in_gist(candidate.place, base)) for candidate in found.candidates])


def repository_of(github: GitHub, target: Any) -> tuple[str, int]:
    """Return the repository's current name, which may have changed, and its id."""
    name, repository_id, _ = _described(github, target)
    return name, repository_id


def _described(github: GitHub, target: Any) -> tuple[str, int, dict[str, Any]]:
    """Return the repository's current name, its id, and GitHub's JSON description of it."""
    name, repository_id = str(target["repository"]), target.get("repository_id")
    if repository_id is None and not is_repository_name(name):
        raise NotFound("unusable_repository_name", "the repository has no usable name")
    path = f"repositories/{int(repository_id)}" if repository_id is not None else f"repos/{name}"
    try:
        _, value = get_json(github, f"{github.api_url}/{path}", expected=dict)
    except NotFound as err:
        if err.reason == "blocked":
            raise NotFound("blocked", f"access to {redact(name)} is blocked") from err
        raise NotFound("not_found", f"there is no public repository {redact(name)}") from err
    full_name, found_id = value.get("full_name"), value.get("id")
    is_usable = isinstance(full_name, str) and is_repository_name(full_name)
    if not is_usable or not isinstance(found_id, int) or not 0 < found_id < 2**62:
        raise Malformed("unexpected_json", "the repository's description cannot be used")
    return full_name, found_id, value


@dataclass(frozen=True, slots=True)
class _History:
    """The token candidates in a git history, and the ids to which branches and tags point."""

    candidates: list[Candidate]
    tips: list[str]


def _remember(work: Work, name: str, repository_id: int, found: _History) -> None:
    """Record that the whole repository was read."""
    if not found.tips:
        return
    head = found.tips[0]
    read = TipsRead(tuple(found.tips), is_read=True, default=head, is_whole=True, lists_refs=True)
    push = Push(name, repository_id, "0" * len(head), head, "", "", _published(work.job.target), "create")
    with work.database.write() as session:
        push_memory.remember(session, [(push, read)], urlsplit(work.github.web_url).netloc)


def _scan(work: Work, url: str, tips: tuple[str, ...], base: Place) -> _History:
    """Clone the repository, fetch commits that no branch or tag contains, and scan every object."""
    with mirror_folder(work.settings.state_dir, work.job.id) as mirror:
        work.report("cloning", 0, 0)
        mirrors.clone(
            work.github,
            url,
            mirror,
            limit_bytes=work.settings.rescan_max_bytes,
            stop=work.lost,
            on_progress=lambda done, total: work.report("cloning", done, total),
        )
        _fetch_unreached(work, mirror, url, tips)
        try:
            history = scan_history(
                mirror,
                work.detector,
                on_progress=lambda done, total: work.report("scanning", done, total),
                stop=work.lost,
            )
            ends = [] if history.unread else mirrors.branches_and_tags(mirror)
        except GitError as err:
            raise GitHubError("mirror_unreadable", f"the mirror cannot be read: {err}") from err
    if work.lost.is_set():
        raise MirrorStopped
    work.counts.update({f"unread_{reason}": count for reason, count in history.unread.items()})
    work.leave_unread(*(_not_read(part, base) for part in history.parts))
    work.counts["objects"] += history.objects
    work.counts["bytes"] += history.bytes
    work.counts["candidates"] += len(history.candidates)
    return _History(history.candidates, ends)


def _not_read(part: UnreadPart, base: Place) -> NotRead:
    place = replace(base, kind=part.kind, path=part.path, commit=part.commit, git_object=part.git_object)
    return not_read_object((part.reason,), "", 0, place)


def _activity_tips(work: Work, name: str) -> tuple[str, ...]:
    """Return commits to which branches once pointed, according to the repository's activity list."""
    found: dict[str, None] = {}
    url: str | None = f"{work.github.api_url}/repos/{name}/activity?per_page=100"
    pages = 0
    try:
        while url is not None and pages < MAX_ACTIVITY_PAGES and len(found) < MAX_UNREACHED:
            response, listed = get_json(work.github, url, expected=list)
            found.update((end, None) for entry in listed for end in _ends(entry))
            url, pages = next_page(work.github, response), pages + 1
            work.report("listing activity", len(found), 0)
    except GitHubError as err:
        if err.retry_after:
            raise
        work.counts[f"error_activity_{err.reason}"] += 1
        work.counts["unread_activity"] += 1
        url = None
    work.counts["unread_activity_over_limit"] += url is not None
    return tuple(found)[:MAX_UNREACHED]


def _ends(entry: Any) -> list[str]:
    ends = (entry.get("before"), entry.get("after")) if isinstance(entry, dict) else ()
    return [end for end in ends if isinstance(end, str) and is_object_id(end) and end.strip("0")]


def _fetch_unreached(work: Work, mirror: Path, url: str, tips: tuple[str, ...]) -> None:
    missing = mirrors.missing_commits(mirror, tips)
    if not missing:
        return
    fetched = mirrors.fetch_commits(
        work.github,
        url,
        mirror,
        missing,
        limit_bytes=work.settings.rescan_max_bytes,
        stop=work.lost,
        on_progress=lambda done, total: work.report("fetching what no ref reaches", done, total),
    )
    work.counts["unreached_commits"] += fetched.got
    # GitHub removes unreachable commits after some time. They are then no longer public.
    work.counts["unreached_commits_gone"] += fetched.gone
    work.counts["unread_unreached_commits"] += fetched.unread


def _published(target: Any) -> datetime | None:
    at = target.get("published_at")
    return datetime.fromisoformat(at) if at else None


def _in_gist(found: Place, base: Place) -> Place:
    return replace(base, path=found.path, commit=found.commit, ref=found.ref, git_object=found.git_object)


def _placed(candidate: Candidate, base: Place, web_url: str, name: str, step: str) -> Candidate:
    """Return the token candidate with the public URL of its place."""
    found = candidate.place
    kind: PlaceKind = found.kind
    if step == "wiki":
        url, kind = f"{web_url}/{name}/wiki", "wiki_page" if found.kind == "file" else found.kind
    elif found.kind == "file" and found.commit and found.path:
        url = blob_url(web_url, name, found.commit, found.path, candidate.line)
    elif found.commit:
        url = commit_url(web_url, name, found.commit)
    else:
        url = f"{web_url}/{name}"
    place = replace(
        base,
        kind=kind,
        url=redact(url),
        path=found.path,
        commit=found.commit,
        ref=found.ref,
        git_object=found.git_object,
    )
    return replace(candidate, place=place)

"""Reads issues, pull requests, comments, reviews and releases for a rescan: https://docs.github.com/rest/issues

The REST API cannot list discussions, so they are not read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from scanner.detection import Candidate, Document, Place, PlaceKind, redact
from scanner.detection.budgets import ScanBudget
from scanner.detection.candidate_limits import CandidateLimits
from scanner.github.client import get_json, next_page
from scanner.github.urls import is_own_page
from scanner.response.respond import Response
from scanner.sources.batches.not_read import not_read
from scanner.sources.rescan.history import repository_of
from scanner.sources.rescan.steps import Work
from scanner.sources.timeline.events import parse_time
from scanner.sources.timeline.texts import strings_of

PAGE_SIZE = 100
MAX_PAGES = 1000
MAX_REVIEWED = 2000
"""At most this many pull requests are searched for reviews, the newest first."""
MAX_REVIEW_PAGES = 10


@dataclass(frozen=True, slots=True)
class ConversationList:
    """A list of the REST API: its path below the repository or gist, and the kind of its entries."""

    path: str
    kind: PlaceKind
    params: Mapping[str, str] = field(default_factory=dict)


CONVERSATION_LISTS: dict[str, ConversationList] = {
    "issues": ConversationList("issues", "issue", {"state": "all"}),
    "issue_comments": ConversationList("issues/comments", "issue_comment"),
    "review_comments": ConversationList("pulls/comments", "review_comment"),
    "commit_comments": ConversationList("comments", "commit_comment"),
    "releases": ConversationList("releases", "release"),
    "gist_comments": ConversationList("comments", "gist_comment"),
}
OF_REPOSITORIES = (*(name for name in CONVERSATION_LISTS if name != "gist_comments"), "reviews")
"""Names of the lists of conversations that a repository has, for example "issues"."""


def reader(name: str) -> Callable[[Work], Response]:
    """Return the function that reads the list with this name, for example "issues"."""
    return _read_reviews if name == "reviews" else lambda work: _read(work, name, CONVERSATION_LISTS[name])


def _read(work: Work, name: str, listing: ConversationList) -> Response:
    """Read and respond to every page of the list, from the position of an earlier attempt."""
    base, address = _base(work, name)
    page, total = int(work.at.get("page", 1)), Response()
    while page <= MAX_PAGES:
        params = {**listing.params, "per_page": str(PAGE_SIZE), "page": str(page)}
        response, entries = get_json(work.github, f"{address}/{listing.path}", params=params, expected=list)
        candidates = _scan_all(work, entries, listing.kind, base)
        total.add(work.respond(candidates))
        work.counts[name] += len(entries)
        work.counts["candidates"] += len(candidates)
        if not entries or next_page(work.github, response) is None:
            return total
        page += 1
        work.checkpoint({"page": page})
        work.report(f"reading {name.replace('_', ' ')}", (page - 1) * PAGE_SIZE, 0)
    work.counts[f"unread_{name}_over_limit"] += 1
    return total


def _read_reviews(work: Work) -> Response:
    """Read the reviews of each pull request, because GitHub has no list of all reviews."""
    base, address = _base(work, "reviews")
    page, total = int(work.at.get("page", 1)), Response()
    done = int(work.at.get("index", 0))
    while page <= MAX_PAGES:
        params = {"state": "all", "per_page": str(PAGE_SIZE), "page": str(page)}
        response, entries = get_json(work.github, f"{address}/pulls", params=params, expected=list)
        if (page - 1) * PAGE_SIZE >= MAX_REVIEWED:
            work.counts["unread_reviews"] += len(entries)
        else:
            for index, entry in enumerate(entries[done:], done + 1):
                total.add(_read_reviews_of(work, entry, base, address))
                work.checkpoint({"page": page, "index": index})
                work.report("reading reviews", (page - 1) * PAGE_SIZE + index, 0)
        if not entries or next_page(work.github, response) is None:
            return total
        page, done = page + 1, 0
        work.checkpoint({"page": page})
    work.counts["unread_reviews_over_limit"] += 1
    return total


def _read_reviews_of(work: Work, pull: Any, base: Place, address: str) -> Response:
    number = pull.get("number") if isinstance(pull, dict) else None
    if not isinstance(number, int):
        work.counts["unusable_entry"] += 1
        return Response()
    url: str | None = f"{address}/pulls/{number}/reviews?per_page={PAGE_SIZE}"
    pages, candidates = 0, list[Candidate]()
    while url is not None and pages < MAX_REVIEW_PAGES:
        response, entries = get_json(work.github, url, expected=list)
        candidates += _scan_all(work, entries, "review", base)
        work.counts["reviews"] += len(entries)
        url, pages = next_page(work.github, response), pages + 1
    work.counts["unread_reviews"] += url is not None
    work.counts["candidates"] += len(candidates)
    return work.respond(candidates)


def _base(work: Work, name: str) -> tuple[Place, str]:
    api = work.github.api_url
    if name == "gist_comments":
        return Place("gist_comment"), f"{api}/gists/{work.job.target['gist']}"
    repository, repository_id = repository_of(work.github, work.job.target)
    url = f"{work.github.web_url}/{repository}"
    return Place("other", url=redact(url), repository=redact(repository), repository_id=repository_id), (
        f"{api}/repos/{repository}"
    )


def _scan_all(work: Work, entries: Sequence[Any], kind: PlaceKind, base: Place) -> list[Candidate]:
    """Scan the entries of one page and return their token candidates."""
    budget, limits = ScanBudget.for_page(), CandidateLimits()
    candidates: list[Candidate] = []
    for entry in entries:
        candidates += limits.take(_scan(work, entry, kind, base, budget))
    work.counts.update({f"unread_{reason}": count for reason, count in limits.over.items()})
    return candidates


def _scan(work: Work, entry: Any, kind: PlaceKind, base: Place, budget: ScanBudget) -> tuple[Candidate, ...]:
    if not isinstance(entry, dict):
        work.counts["unusable_entry"] += 1
        return ()
    page = entry.get("html_url")
    place = Place(
        kind="pull_request" if kind == "issue" and entry.get("pull_request") else kind,
        url=redact(str(page)) if is_own_page(work.github.web_url, page) else base.url,
        repository=base.repository,
        repository_id=base.repository_id,
        published_at=parse_time(entry.get("created_at") or entry.get("submitted_at")),
    )
    texts = strings_of(entry)
    work.counts.update(texts.over)
    text = "\n".join(texts.strings).encode("utf-8", "surrogatepass")
    result = work.detector.scan(Document(text, place), budget)
    work.counts.update({f"unread_{reason}": count for reason, count in result.unread.items()})
    if result.unread:
        work.leave_unread(not_read(result, place, len(text)))
    if kind == "release" and isinstance(entry.get("assets"), list):
        work.counts["unread_release_assets"] += len(entry["assets"])
    return result.candidates

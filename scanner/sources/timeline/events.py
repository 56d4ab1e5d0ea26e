"""Parsing of events of the public timeline: pushes to read, repositories to read whole, and texts to scan. Pure.

GitHub removes, adds and nulls fields without notice. So every field is checked, and unusable events are counted by
reason. Event types: https://docs.github.com/rest/using-the-rest-api/github-event-types
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from scanner.detection import Document, Place, PlaceKind, redact
from scanner.github.urls import is_repository_name
from scanner.records.unread_contents import NotRead
from scanner.sources.files.scan import RemoteFile
from scanner.sources.pushes.likelihood import Evidence, likelihood_of
from scanner.sources.pushes.owners import KnownOwners
from scanner.sources.pushes.push import Push
from scanner.sources.timeline.texts import strings_of

_OBJECT_ID_LENGTHS = (40, 64)
MAX_URL_LENGTH = 500
MAX_DESCRIPTION_LENGTH = 4096

KNOWN_TYPES = frozenset(
    [
        "CommitCommentEvent",
        "CreateEvent",
        "DeleteEvent",
        "DiscussionEvent",
        "ForkEvent",
        "GollumEvent",
        "IssueCommentEvent",
        "IssuesEvent",
        "MemberEvent",
        "PublicEvent",
        "PullRequestEvent",
        "PullRequestReviewCommentEvent",
        "PullRequestReviewEvent",
        "PushEvent",
        "ReleaseEvent",
        "WatchEvent",
    ]
)

# For each event type, the payload's objects that contain text: the object's key and its kind of place.
_TEXT_OBJECTS: dict[str, dict[str, PlaceKind]] = {
    "CommitCommentEvent": {"comment": "commit_comment"},
    "DiscussionEvent": {"discussion": "discussion"},
    "ForkEvent": {"forkee": "repository_description"},
    "IssueCommentEvent": {"issue": "issue", "comment": "issue_comment"},
    "IssuesEvent": {"issue": "issue"},
    "PullRequestEvent": {"pull_request": "pull_request"},
    "PullRequestReviewCommentEvent": {"comment": "review_comment", "pull_request": "pull_request"},
    "PullRequestReviewEvent": {"review": "review", "pull_request": "pull_request"},
    "ReleaseEvent": {"release": "release"},
}


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `id` does not show the order of events. `created_at` is None if it is missing or malformed."""

    id: str
    type: str
    repository: str
    repository_id: int | None
    created_at: datetime | None
    payload: Mapping[str, Any]
    actor: str = ""


@dataclass(slots=True)
class Found:
    """What was found in some events.

    Attributes:
        pushes: Pushes and created refs.
        repositories: Repositories that became public: name, id, time.
        documents: Texts to scan.
        counts: Counters of events, and of unusable ones by reason.
        newest_repository_id: The highest repository id among the events. Repositories with similar ids are new.
        owners: The known owners of the events' repositories.
        vendor: The vendor's name. Empty: it is not looked for in names and descriptions.
        event_ids: The ids of the events that a push or repository comes from.
        texts_to_fetch: Texts that took too long to scan during the poll; jobs fetch them again.
        not_read: Texts that were not read completely and cannot be fetched again.
    """

    pushes: list[Push] = field(default_factory=list)
    repositories: list[tuple[str, int | None, datetime | None]] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    newest_repository_id: int = 0
    owners: KnownOwners = field(default_factory=KnownOwners)
    vendor: str = ""
    event_ids: defaultdict[object, list[str]] = field(default_factory=lambda: defaultdict(list))
    texts_to_fetch: list[RemoteFile] = field(default_factory=list)
    not_read: list[NotRead] = field(default_factory=list)


def newest_repository_id(events: Iterable[Event]) -> int:
    """Return the second highest repository id of a page, so that a single forged id has no effect. 0: unknown."""
    ids = sorted(event.repository_id for event in events if event.repository_id is not None)
    return ids[-2] if len(ids) > 1 else 0


def parse_event(value: Any) -> Event | None:
    """Return the event in decoded JSON, or None if it has no usable id or type."""
    if not isinstance(value, dict):
        return None
    event_id, event_type = value.get("id"), value.get("type")
    if not isinstance(event_id, str | int) or not isinstance(event_type, str) or not event_id:
        return None
    repo, payload, actor = _mapping(value.get("repo")), _mapping(value.get("payload")), _mapping(value.get("actor"))
    return Event(
        id=_plain_id(str(event_id)),
        type=event_type[:64],
        repository=_string(repo.get("name")),
        repository_id=repo["id"] if _is_id(repo.get("id")) else None,
        created_at=parse_time(value.get("created_at")),
        payload=payload,
        actor=_string(actor.get("login")),
    )


def read_event(event: Event, web_url: str, found: Found, api_url: str = "") -> None:
    """Add the event's pushes, repositories and texts to `found`.

    Args:
        event: The event.
        web_url: The address of the website, for the texts' places.
        found: The result to add to.
        api_url: The address of the API, from which its texts can be fetched again. Empty: they cannot.
    """
    found.counts["events"] += 1
    if event.type not in KNOWN_TYPES:
        found.counts["unknown_type"] += 1
    found.documents.extend(_documents(event, web_url, api_url, found.counts))
    if event.type not in ("PushEvent", "CreateEvent", "PublicEvent", "GollumEvent"):
        return
    if not is_repository_name(event.repository):
        found.counts["unusable_repository_name"] += 1
    elif event.type == "PublicEvent":
        repository = (redact(event.repository), event.repository_id, event.created_at)
        found.repositories.append(repository)
        found.event_ids[repository].append(event.id)
    elif event.type == "GollumEvent":
        _read_wiki(event, found)
    else:
        _read_push(event, found)


def parse_time(value: Any) -> datetime | None:
    """Return the time in GitHub's ISO format as an aware datetime in UTC, or None if it is malformed."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        parsed = datetime.fromisoformat(value)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _read_push(event: Event, found: Found) -> None:
    payload = event.payload
    ref = _string(payload.get("ref"))
    if not ref.isprintable():
        # git does not allow such a name. A push can be read without its ref, but a created ref cannot.
        found.counts["unusable_ref"] += 1
        ref = ""
    if event.type == "CreateEvent":
        ref_type = _string(payload.get("ref_type"))
        if ref_type not in ("repository", "branch", "tag") or (ref_type != "repository" and not ref):
            found.counts["unusable_create"] += 1
            return
        before, head = "", ""
        if ref and not ref.startswith("refs/"):
            ref = f"refs/{'tags' if ref_type == 'tag' else 'heads'}/{ref}"
    else:
        ref_type, before, head = "", _string(payload.get("before")), _string(payload.get("head"))
        if not _is_object_id(head) or (before and not _is_object_id(before)):
            found.counts["unusable_push"] += 1
            return
        if not head.strip("0"):
            found.counts["deletions"] += 1
            return
    push = Push(
        repository=redact(event.repository),
        repository_id=event.repository_id,
        before=before or "0" * (len(head) or 40),
        head=head,
        ref=redact(ref),
        ref_type=ref_type,
        published_at=event.created_at,
        kind="create" if event.type == "CreateEvent" else "push",
        likelihood=likelihood_of(_evidence(event, found, ref)),
    )
    found.pushes.append(push)
    found.event_ids[push].append(event.id)


def _read_wiki(event: Event, found: Found) -> None:
    """Add a push of the repository's wiki, which is a git repository of its own. The event has no text of its pages."""
    if not is_repository_name(f"{event.repository}.wiki"):
        found.counts["unusable_wiki"] += 1
        return
    push = Push(
        repository=f"{redact(event.repository)}.wiki",
        repository_id=event.repository_id,
        before="0" * 40,
        head="",
        ref="",
        ref_type="repository",
        published_at=event.created_at,
        kind="create",
        likelihood=likelihood_of(_evidence(event, found)),
    )
    found.pushes.append(push)
    found.event_ids[push].append(event.id)


def _evidence(event: Event, found: Found, ref: str = "") -> Evidence:
    """Return what the event says about the push. Of events, only a CreateEvent has the repository's description."""
    owner = event.repository.partition("/")[0].lower()
    words = f"{event.repository} {_string(event.payload.get('description'))[:MAX_DESCRIPTION_LENGTH]}".lower()
    return Evidence(
        repository=event.repository,
        actor=event.actor,
        repository_id=event.repository_id,
        ref=ref,
        is_created=event.type == "CreateEvent",
        newest_repository_id=found.newest_repository_id,
        mentions_vendor=bool(found.vendor) and found.vendor.lower() in words,
        owner_has_leaked=owner in found.owners.leaked,
        owner_has_account=owner in found.owners.with_account,
    )


def _documents(event: Event, web_url: str, api_url: str, counts: Counter[str]) -> Iterator[Document]:
    """Yield all texts of the event: first the texts of objects that have a page of their own, then all other texts.

    The place of the other texts is the repository.
    """
    own_objects = _TEXT_OBJECTS.get(event.type, {})
    for key, kind in own_objects.items():
        part = _mapping(event.payload.get(key))
        if kind == "issue" and part.get("pull_request"):
            kind = "pull_request"
        for document in _document(event, kind, part, _address(part, event, web_url), counts):
            yield replace(document, refetch_url=_refetch_url(part, api_url))
    rest = {key: value for key, value in event.payload.items() if key not in own_objects}
    if event.type in ("CreateEvent", "PushEvent", "DeleteEvent"):
        ref = _string(rest.pop("ref", None))
        if "full_ref" in rest and _string(rest["full_ref"]).endswith(ref):
            del rest["full_ref"]
        place = _place(event, "ref_name", f"{web_url}/{event.repository}", ref=ref)
        yield from _text_document(ref, place)
    rest_kind: PlaceKind = "repository_description" if event.type in ("CreateEvent", "PublicEvent") else "other"
    rest["repository"], rest["actor"] = event.repository, event.actor
    yield from _document(event, rest_kind, rest, f"{web_url}/{event.repository}", counts)


def _document(
    event: Event, kind: PlaceKind, value: Mapping[str, Any], url: str, counts: Counter[str]
) -> Iterator[Document]:
    published = parse_time(value.get("created_at")) or event.created_at
    place = _place(event, kind, url, path=_string(value.get("path")) or None, published_at=published)
    yield from _text_document("\n".join(strings_of(value, counts)), place)


def _text_document(text: str, place: Place) -> Iterator[Document]:
    if text:
        yield Document(text.encode("utf-8", "surrogatepass"), place)


def _place(
    event: Event,
    kind: PlaceKind,
    url: str,
    *,
    ref: str | None = None,
    path: str | None = None,
    published_at: datetime | None = None,
) -> Place:
    return Place(
        kind=kind,
        url=url,
        repository=event.repository or None,
        repository_id=event.repository_id,
        path=path,
        ref=ref,
        published_at=published_at or event.created_at,
    )


def _address(part: Mapping[str, Any], event: Event, web_url: str) -> str:
    """Return the object's own page if it is on this GitHub, else the repository's page."""
    url = _string(part.get("html_url"))
    return url if url.startswith(f"{web_url}/") else f"{web_url}/{event.repository}"


def _refetch_url(part: Mapping[str, Any], api_url: str) -> str:
    """Return the object's address in this GitHub's API, or an empty string if it has none."""
    url = _string(part.get("url"))
    is_ours = bool(api_url) and url.startswith(f"{api_url}/repos/") and len(url) <= MAX_URL_LENGTH
    return url if is_ours and url.isascii() and url.isprintable() and "?" not in url and redact(url) == url else ""


def _plain_id(value: str) -> str:
    """Return the id as it is stored. Return the hash of an id that a database may refuse: too long, or not ASCII."""
    if len(value) <= 64 and value.isascii() and value.isprintable():
        return value
    return hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**62


def _is_object_id(value: str) -> bool:
    return len(value) in _OBJECT_ID_LENGTHS and all(char in "0123456789abcdef" for char in value)

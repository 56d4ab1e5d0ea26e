"""Parses GitHub's public events into pushes and repositories to read, and texts to scan.

https://docs.github.com/rest/using-the-rest-api/github-event-types
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from scanner.detection import Document, Place, PlaceKind, redact
from scanner.github.urls import is_repository_name
from scanner.sources.pushes.likelihood import Evidence, likelihood_of
from scanner.sources.pushes.owners import KnownOwners
from scanner.sources.pushes.priorities import Likelihood
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

# For each type of event, the parts that contain text and the kind of place to record.
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
    """A public event of GitHub. `created_at` is None if it is missing or malformed."""

    id: str
    type: str
    repository: str
    repository_id: int | None
    created_at: datetime | None
    payload: Mapping[str, Any]
    actor: str = ""


@dataclass(slots=True)
class Found:
    """The pushes, repositories and texts in a list of events.

    Attributes:
        pushes: Pushes and created branches or tags.
        repositories: Repositories that became public: the name, the id and the time of the event.
        event_ids: For each push or repository, the ids of the events that it comes from.
    """

    pushes: list[Push] = field(default_factory=list)
    repositories: list[tuple[str, int | None, datetime | None]] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    event_ids: defaultdict[object, list[str]] = field(default_factory=lambda: defaultdict(list))


def parse_event(value: Any) -> Event | None:
    """Return the event in a JSON value, or None if it has no usable id or type."""
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


def read_events(
    events: Sequence[Event],
    web_url: str,
    *,
    api_url: str = "",
    owners: KnownOwners | None = None,
    vendor: str = "",
) -> Found:
    """Return the pushes, repositories and texts in the events.

    Args:
        web_url: The URL of GitHub's website, for links to the texts.
        api_url: The URL of the API, from which jobs can fetch the texts again. "": not possible.
        owners: Repository owners who have an account at the vendor or have leaked a token before.
        vendor: The vendor's name, which makes a token more likely. "": unknown.
    """
    reader = _EventReader(web_url, api_url, owners or KnownOwners(), vendor.lower(), _newest_repository_id(events))
    for event in events:
        reader.read(event)
    return reader.found


def parse_time(value: Any) -> datetime | None:
    """Return the time in GitHub's ISO format as a datetime in UTC, or None if it is malformed."""
    if not isinstance(value, str) or len(value) > 40:
        return None
    try:
        parsed = datetime.fromisoformat(value)
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _newest_repository_id(events: Sequence[Event]) -> int:
    """Return the second highest repository id in the events, or 0 if there is none."""
    ids = sorted(event.repository_id for event in events if event.repository_id is not None)
    # Skip the highest id, because a single id may be forged.
    return ids[-2] if len(ids) > 1 else 0


class _EventReader:
    """Reads events one by one, and collects their pushes, repositories and texts."""

    def __init__(self, web_url: str, api_url: str, owners: KnownOwners, vendor: str, newest_repository_id: int) -> None:
        self._web_url, self._api_url = web_url, api_url
        self._owners, self._vendor, self._newest_repository_id = owners, vendor, newest_repository_id
        self.found = Found()

    def read(self, event: Event) -> None:
        counts = self.found.counts
        counts["events"] += 1
        if event.type not in KNOWN_TYPES:
            counts["unknown_type"] += 1
        self.found.documents.extend(self._documents(event))
        if event.type not in ("PushEvent", "CreateEvent", "PublicEvent", "GollumEvent"):
            return
        if not is_repository_name(event.repository):
            counts["unusable_repository_name"] += 1
        elif event.type == "PublicEvent":
            repository = (redact(event.repository), event.repository_id, event.created_at)
            self.found.repositories.append(repository)
            self.found.event_ids[repository].append(event.id)
        elif event.type == "GollumEvent":
            self._read_wiki(event)
        else:
            self._read_push(event)

    def _read_push(self, event: Event) -> None:
        counts, payload = self.found.counts, event.payload
        ref = _string(payload.get("ref"))
        if not ref.isprintable():
            # The name is invalid in git. A push can be read without it, a created branch or tag cannot.
            counts["unusable_ref"] += 1
            ref = ""
        if event.type == "CreateEvent":
            ref_type = _string(payload.get("ref_type"))
            if ref_type not in ("repository", "branch", "tag") or (ref_type != "repository" and not ref):
                counts["unusable_create"] += 1
                return
            before, head = "", ""
            if ref and not ref.startswith("refs/"):
                ref = f"refs/{'tags' if ref_type == 'tag' else 'heads'}/{ref}"
        else:
            ref_type, before, head = "", _string(payload.get("before")), _string(payload.get("head"))
            if not _is_object_id(head) or (before and not _is_object_id(before)):
                counts["unusable_push"] += 1
                return
            if not head.strip("0"):
                counts["deletions"] += 1
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
            likelihood=self._likelihood(event, ref),
        )
        self._add_push(event, push)

    def _read_wiki(self, event: Event) -> None:
        """Add a push to the repository's wiki, which is a separate git repository."""
        if not is_repository_name(f"{event.repository}.wiki"):
            self.found.counts["unusable_wiki"] += 1
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
            likelihood=self._likelihood(event),
        )
        self._add_push(event, push)

    def _add_push(self, event: Event, push: Push) -> None:
        self.found.pushes.append(push)
        self.found.event_ids[push].append(event.id)

    def _likelihood(self, event: Event, ref: str = "") -> Likelihood:
        """Return how likely it is that a push contains a token."""
        owner = event.repository.partition("/")[0].lower()
        words = f"{event.repository} {_string(event.payload.get('description'))[:MAX_DESCRIPTION_LENGTH]}".lower()
        evidence = Evidence(
            repository=event.repository,
            actor=event.actor,
            repository_id=event.repository_id,
            ref=ref,
            is_created=event.type == "CreateEvent",
            newest_repository_id=self._newest_repository_id,
            mentions_vendor=bool(self._vendor) and self._vendor in words,
            owner_has_leaked=owner in self._owners.leaked,
            owner_has_account=owner in self._owners.with_account,
        )
        return likelihood_of(evidence)

    def _documents(self, event: Event) -> Iterator[Document]:
        """Yield all texts of the event, first those with their own web page."""
        own_objects = _TEXT_OBJECTS.get(event.type, {})
        for key, kind in own_objects.items():
            part = _mapping(event.payload.get(key))
            if kind == "issue" and part.get("pull_request"):
                kind = "pull_request"
            for document in self._document(event, kind, part, _address(part, event, self._web_url)):
                yield replace(document, refetch_url=_refetch_url(part, self._api_url))
        rest = {key: value for key, value in event.payload.items() if key not in own_objects}
        url = f"{self._web_url}/{event.repository}"
        if event.type in ("CreateEvent", "PushEvent", "DeleteEvent"):
            ref = _string(rest.pop("ref", None))
            if "full_ref" in rest and _string(rest["full_ref"]).endswith(ref):
                del rest["full_ref"]
            yield from _text_document(ref, _place(event, "ref_name", url, ref=ref))
        rest_kind: PlaceKind = "repository_description" if event.type in ("CreateEvent", "PublicEvent") else "other"
        rest["repository"], rest["actor"] = event.repository, event.actor
        yield from self._document(event, rest_kind, rest, url)

    def _document(self, event: Event, kind: PlaceKind, value: Mapping[str, Any], url: str) -> Iterator[Document]:
        published = parse_time(value.get("created_at")) or event.created_at
        place = _place(event, kind, url, path=_string(value.get("path")) or None, published_at=published)
        texts = strings_of(value)
        self.found.counts.update(texts.over)
        yield from _text_document("\n".join(texts.strings), place)


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
    """Return the URL of the web page that shows a part of an event, or else the URL of the repository."""
    url = _string(part.get("html_url"))
    return url if url.startswith(f"{web_url}/") else f"{web_url}/{event.repository}"


def _refetch_url(part: Mapping[str, Any], api_url: str) -> str:
    """Return the API's URL for a part of an event, for example an issue, or ""."""
    url = _string(part.get("url"))
    is_ours = bool(api_url) and url.startswith(f"{api_url}/repos/") and len(url) <= MAX_URL_LENGTH
    return url if is_ours and url.isascii() and url.isprintable() and "?" not in url and redact(url) == url else ""


def _plain_id(value: str) -> str:
    """Return the event's id. Return a hash of the id if it is too long or not ASCII."""
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

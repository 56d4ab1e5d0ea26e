"""Reads what one push, or one created ref, added to a repository, and runs the detector over all of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from scanner.detection import Candidate, Detector, Document, Place, PlaceKind, redact
from scanner.github import git_protocol
from scanner.github.addresses import is_object_id
from scanner.github.client import GitHub, get_json
from scanner.github.compare import Comparison, compare, read_singly
from scanner.github.errors import Forbidden, GitHubError, Malformed, NotFound, RateLimited
from scanner.github.git_protocol import Refs
from scanner.github.pack_locations import Location, locate, parse_commit, tree_entries
from scanner.github.packs import PackLimits, PackObject, PackReading
from scanner.github.urls import blob_url, commit_url, is_repository_name, tag_url
from scanner.sources.likelihood import Likelihood

MOST_HAVES = 1000
BLOB_LIMIT = 1024 * 1024
"""Blobs above it are left out of the second request for a push whose first answer was over the limit."""
NOT_COMPARED = ("http_406", "http_500")
"""https://docs.github.com/rest/commits/commits#compare-two-commits: the difference is too large, or takes too long."""
KEPT_BYTES = 128 * 1024 * 1024
"""Of the trees and commits of one pack, kept to find paths in."""


@dataclass(frozen=True, slots=True)
class Push:
    """A push, or a ref that was created (`kind` "create": no commits are known yet, `head` is empty).

    `kind` "commit": all that `head` reaches and `before` (zeros: nothing) does not, read again by an operator's wish,
    what `head` itself brought first.

    `repository` and `ref` are redacted, since names can hold a token; `published_at` is the event's time; `tries`
    counts how often reading it has failed.
    """

    repository: str
    repository_id: int | None
    before: str
    head: str
    ref: str
    ref_type: str
    published_at: datetime | None
    kind: Literal["push", "create", "commit"]
    tries: int = 0
    likelihood: Likelihood = "ordinary"

    @property
    def label(self) -> str:
        """What errors call it."""
        return self.repository

    def to_json(self) -> dict[str, Any]:
        return {
            "repository": self.repository,
            "repository_id": self.repository_id,
            "before": self.before,
            "head": self.head,
            "ref": self.ref,
            "ref_type": self.ref_type,
            "published_at": self.published_at.isoformat() if self.published_at else None,
            "kind": self.kind,
            "tries": self.tries,
            "likelihood": self.likelihood,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Push:
        at = value["published_at"]
        return cls(**{**value, "published_at": datetime.fromisoformat(at) if at else None})


@dataclass(slots=True)
class PushReading:
    """What was read. `unread` counts what was not, by reason; `is_cut_off`: asking again may bring the rest.

    `is_damaged`: the pack was corrupt, perhaps on its way only. `refusal`: of our own, which kept us from the rest.
    `tip` is the commit that was read up to, for a created ref the one that was found.
    """

    candidates: list[Candidate] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    tip: str | None = None
    objects: int = 0
    bytes: int = 0
    is_cut_off: bool = False
    is_damaged: bool = False
    refusal: GitHubError | None = None

    @property
    def complete(self) -> bool:
        return not self.unread


def read_push(
    github: GitHub,
    push: Push,
    detector: Detector,
    *,
    limits: PackLimits,
    known_tips: Collection[str] = (),
) -> PushReading:
    """Read the push by git's own protocol, or by the REST API where git answers with an error. Raises GitHubError.

    `known_tips`: commits of this repository up to which everything was read before.
    """
    reading = PushReading()
    push = _named(github, push)
    is_created = push.kind == "create" or (push.kind == "push" and not push.before.strip("0"))
    if push.kind == "push" and not push.head.strip("0"):
        return reading  # a deletion adds nothing
    refs: Refs | None = None
    if is_created:
        refs = git_protocol.list_refs(github, push.repository, hash_name="sha256" if len(push.head) == 64 else "sha1")
        wants, haves = _created(push, refs, known_tips, reading)
        if not wants:
            return reading
    else:
        wants, haves = [push.head], [push.before] if push.before.strip("0") else _parents(github, push)
    reading.tip = reading.tip or wants[0]
    try:
        _read_objects(github, push, wants, haves, refs, limits, detector, reading)
        if not is_created and not push.before.strip("0") and haves:
            # The commit that was named came by itself, whatever becomes of all that it builds on.
            _read_objects(github, push, haves, [], refs, limits, detector, reading)
    except GitHubError as err:
        if not reading.objects:
            raise
        # What came before is not given up for what did not come.
        reading.unread[f"second_request_{err.reason}"] += 1
        reading.is_cut_off = reading.is_cut_off or not isinstance(err, NotFound | Malformed)
        reading.refusal = None if err.asked else err
    return reading


def _read_objects(
    github: GitHub,
    push: Push,
    wants: Sequence[str],
    haves: Sequence[str],
    refs: Refs | None,
    limits: PackLimits,
    detector: Detector,
    reading: PushReading,
) -> None:
    try:
        pack = git_protocol.fetch(github, push.repository, wants, haves, limits=limits)
        _take(pack, push, github.web_url, detector, reading)
        if pack.is_over_limit:
            _ask_for_less(github, push, wants, haves, refs, limits, detector, reading)
    except (Malformed, Forbidden):
        before = push.before if push.before.strip("0") else next(iter(haves), "")
        _read_comparison(github, push, before, wants[0], detector, reading)
        reading.unread["refs_not_compared"] += len(wants) - 1
        reading.unread = +reading.unread


def _named(github: GitHub, push: Push) -> Push:
    """The push with its repository's name and id, asked of GitHub where one is missing.

    A name that holds a token is stored redacted; an operator gives no id.
    """
    if is_repository_name(push.repository) and (push.repository_id is not None or push.kind != "commit"):
        return push
    if push.repository_id is None and not is_repository_name(push.repository):
        raise NotFound("unusable_repository_name", "the repository has no usable name")
    path = f"repos/{push.repository}" if push.repository_id is None else f"repositories/{push.repository_id}"
    _, value = get_json(github, f"{github.api_url}/{path}", expected=dict)
    name, repository_id = value.get("full_name"), value.get("id")
    if not isinstance(name, str) or not is_repository_name(name) or not isinstance(repository_id, int):
        raise Malformed("unusable_repository_name", "the repository has no usable name")
    return replace(push, repository=name, repository_id=repository_id)


def _parents(github: GitHub, push: Push) -> list[str]:
    """What the commit builds on; nothing where the REST API does not say: then all is asked for at once, of git."""
    url = f"{github.api_url}/repos/{push.repository}/commits/{push.head}"
    try:
        _, value = get_json(github, url, params={"per_page": 1}, expected=dict)
    except GitHubError as err:
        if isinstance(err, RateLimited) or not err.asked:
            raise
        return []
    listed = value.get("parents")
    found = [one.get("sha") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return [sha for sha in found if isinstance(sha, str) and is_object_id(sha)][:MOST_HAVES]


def _created(push: Push, refs: Refs, known_tips: Collection[str], reading: PushReading) -> tuple[list[str], list[str]]:
    """What to want and what to claim for a ref that is new.

    Claimed are the default branch and what was read before, never every other ref: branches that are created by one
    push would each hide what the other brought.
    """
    if not refs.oids:
        return [], []  # an empty repository, or one whose only ref is gone again
    if push.kind == "push":
        wants = [push.head]
    elif push.ref_type == "repository" or not push.ref:
        wants = list(dict.fromkeys(_tips(refs)))[:MOST_HAVES]
        reading.unread["refs_over_limit"] += len(set(refs.oids.values())) > len(wants)
    else:
        # The stored name is redacted, so the listed ones are compared in the same form.
        wants = [oid for name, oid in refs.oids.items() if redact(name) == push.ref][:1]
        reading.unread["ref_gone"] += not wants
        reading.unread["refs_over_limit"] += refs.is_truncated and not wants
    reading.unread = +reading.unread
    reading.tip = wants[0] if wants else None
    wants = [oid for oid in wants if oid not in known_tips]
    haves = [oid for oid in known_tips if oid not in wants]
    default = refs.oids.get(refs.head or "")
    if default and push.ref_type != "repository" and push.ref != redact(refs.head or ""):
        # A branch or tag at the default branch's tip brings nothing of its own.
        wants = [oid for oid in wants if oid != default]
        haves.insert(0, default)
    return wants, list(dict.fromkeys(haves))[:MOST_HAVES]


def _tips(refs: Refs) -> Iterator[str]:
    """The default branch's tip first, then those of branches and tags; what pull requests brought comes with theirs."""
    if refs.head in refs.oids:
        yield refs.oids[refs.head]
    yield from (oid for name, oid in refs.oids.items() if name.startswith(("refs/heads/", "refs/tags/")))


def _ask_for_less(
    github: GitHub,
    push: Push,
    wants: Sequence[str],
    haves: Collection[str],
    refs: Refs | None,
    limits: PackLimits,
    detector: Detector,
    reading: PushReading,
) -> None:
    """The answer was over the limit: ask again without large blobs and with every ref claimed; it stays partial.

    Of what an operator names no ref is claimed: the branches hold it by now. So may the branch of a push that has moved
    on since, or one that it was merged into: where the answer lacks what was wanted, only what was known is claimed.
    """
    if refs is None and push.kind != "commit":
        hash_name = "sha256" if len(wants[0]) == 64 else "sha1"
        refs = git_protocol.list_refs(github, push.repository, hash_name=hash_name)
    listed = refs.oids if refs is not None and push.kind != "commit" else {}
    others = (oid for name, oid in listed.items() if name.startswith("refs/heads/") and redact(name) != push.ref)
    more = [oid for oid in dict.fromkeys([*haves, *others]) if oid not in wants][:MOST_HAVES]
    blob_limit = BLOB_LIMIT if git_protocol.can_filter(github, push.repository) else None
    if blob_limit is not None:
        reading.unread[f"blobs_over_{blob_limit}_bytes"] += 1
    for claims in (more, list(haves)):
        if blob_limit is None and set(claims) == set(haves):
            return  # that was the first request
        pack = git_protocol.fetch(github, push.repository, wants, claims, limits=limits, blob_limit=blob_limit)
        seen = _take(pack, push, github.web_url, detector, reading)
        if not seen.isdisjoint(wants) or set(claims) == set(haves):
            return


def _take(pack: PackReading, push: Push, web_url: str, detector: Detector, reading: PushReading) -> set[str]:
    """Scan every object as it is made; look up paths and commits only for those that hold something.

    The ids of its commits and tags.
    """
    hits: list[tuple[PackObject, Sequence[Candidate]]] = []
    kept: list[PackObject] = []
    kept_bytes, is_all_kept = 0, True
    named: set[str] = set()
    for item in pack:
        content = _names(item) if item.type == "tree" else item.content
        result = detector.scan(Document(content, Place(_KINDS[item.type], git_object=item.oid)))
        reading.objects += 1
        reading.unread.update(result.unread)
        if result.candidates:
            hits.append((item if item.type == "commit" else replace(item, content=b""), result.candidates))
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
    for item, candidates in hits:
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


def _compared(github: GitHub, repository: str, before: str, head: str) -> Comparison:
    """What the REST API shows of it, in whatever way it still can."""
    try:
        return compare(github, repository, before, head)
    except NotFound as err:
        if not before or err.reason != "not_found":
            raise
        # The old end is not there any more (a force push): the new one alone is.
        comparison = compare(github, repository, "", head)
        comparison.unread["between_commits"] += 1
        return comparison
    except GitHubError as err:
        if not before or err.reason not in NOT_COMPARED:
            raise
        return read_singly(github, repository, before, head)


def _read_comparison(
    github: GitHub, push: Push, before: str, head: str, detector: Detector, reading: PushReading
) -> None:
    comparison = _compared(github, push.repository, before, head)
    reading.unread.update(comparison.unread)
    reading.unread["read_by_rest"] += 1
    place = Place(
        "file",
        repository=redact(push.repository),
        repository_id=push.repository_id,
        ref=push.ref or None,
        published_at=push.published_at,
    )
    for changed in comparison.files:
        file_place = replace(place, path=changed.path, commit=changed.commit)
        name_url = commit_url(github.web_url, push.repository, changed.commit)
        name_place = replace(file_place, kind="file_name", url=name_url)
        named = detector.scan(Document(changed.path.encode("utf-8", "surrogatepass"), name_place))
        reading.candidates.extend(replace(candidate, line=0) for candidate in named.candidates)
        result = detector.scan(Document(changed.text.encode("utf-8", "surrogatepass"), file_place))
        for candidate in result.candidates:
            line = changed.lines[candidate.line - 1] if 0 < candidate.line <= len(changed.lines) else 0
            url = redact(blob_url(github.web_url, push.repository, changed.commit, changed.path, line))
            reading.candidates.append(replace(candidate, line=line, place=replace(candidate.place, url=url)))
    for sha, message in comparison.messages:
        url = commit_url(github.web_url, push.repository, sha)
        commit_place = replace(place, kind="commit", commit=sha, url=url)
        result = detector.scan(Document(message.encode("utf-8", "surrogatepass"), commit_place))
        reading.candidates.extend(result.candidates)

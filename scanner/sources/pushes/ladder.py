"""Decides what to fetch for a push. It tries four kinds of plan, the most exact and cheapest first.

To claim a commit means to tell the server that we have it (git's "have"). The server then leaves out all objects that
are reachable from this commit.

1. remembered: claim the newest commits of each branch that r8scan remembers. The server sends only the new content.
2. before: if the repository is seen for the first time, claim the commit before the push. Another job (of the kind
   "earlier") reads that commit later.
3. whole: read a new or small repository completely.
4. boundary: read the newest FIRST_PARENTS commits of the branch, and claim the next older commit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from scanner.detection import redact
from scanner.detection.git.pack_locations import Commit, parse_commit
from scanner.detection.git.packs import PackLimits, read_pack
from scanner.github import git_protocol
from scanner.github.client import GitHub
from scanner.github.errors import Malformed
from scanner.github.git_protocol import Refs
from scanner.sources.pushes.plan import Plan
from scanner.sources.pushes.push import Push
from scanner.sources.pushes.tips import RememberedTips

FIRST_PARENTS = 10
"""The number of commits to read of a branch about which nothing is known."""
SKELETON = PackLimits(
    pack_bytes=2 << 20, inflated_bytes=32 << 20, object_bytes=1 << 20, held_bytes=4 << 20, objects=4000
)
"""Limits of an answer that contains only commits."""
SMALL_KB = 1024
"""A smaller repository (by its size on GitHub's disk) is read whole."""
MAX_WANTS = 1000

_FILTERING_HOSTS: dict[str, bool] = {}


def plan(github: GitHub, push: Push, known: RememberedTips | None) -> Plan:
    """Return the plan of what to fetch for the push.

    Args:
        known: The commits of the repository that are remembered as read, or None.

    Raises:
        GitHubError: The server could not answer.
    """
    if push.kind == "create":
        return _created(github, push, known)
    if push.kind == "earlier":
        return _from_boundary(github, push, push.head, may_miss=())
    if push.before.strip("0"):
        return _continued(push, known)
    return _discovered(github, push, known)


def _continued(push: Push, known: RememberedTips | None) -> Plan:
    """Return the plan for a push whose old and new commit are known."""
    if known is None or (known.holds(push.head) and not known.has_read(push.head)):
        # Tell the server only that we have `before`: other known commits may contain the unread `head`, and the server
        # would then send nothing.
        earlier = [] if known is not None and known.holds(push.before) else [push.before]
        return Plan([push.head], [push.before], "before", earlier=earlier, before=push.before)
    # If `before` was never read, r8scan has missed an earlier push, so read `before` as well.
    wants = [oid for oid in (push.head, push.before) if not known.holds(oid)]
    return Plan(wants, known.oids, before=push.before)


def _discovered(github: GitHub, push: Push, known: RememberedTips | None) -> Plan:
    """Return the plan for a push that was found in a listing of repositories."""
    if known is not None:
        if push.head and not known.holds(push.head):
            return Plan([push.head], known.oids, default=push.head, may_miss=["other_refs"])
        # The default branch has not changed, so the push went to another branch or tag.
        return _changed(_refs(github, push), known)
    if push.is_new and push.head:
        # Most new repositories have one branch, so fetch only its newest commit. This saves the request that lists
        # branches.
        return Plan([push.head], rung="whole", default=push.head, is_whole=True, reads_refs_later=True)
    if not push.head:
        refs = _refs(github, push)
        if push.is_new or _is_small(push):
            return _whole(refs)
        tip = refs.oids.get(refs.head or "") or next(_tips(refs), "")
        return _from_boundary(github, push, tip, ["other_refs"], refs) if tip else Plan([])
    if _is_small(push):
        return Plan([push.head], rung="whole", default=push.head, may_miss=["other_refs"], is_whole=True)
    return _from_boundary(github, push, push.head, ["other_refs"])


def _created(github: GitHub, push: Push, known: RememberedTips | None) -> Plan:
    """Return the plan for a created branch, tag or repository. Its event names no commit."""
    refs = _refs(github, push)
    if not refs.oids:
        return Plan([])  # the repository is empty, or its only ref was deleted
    default = refs.oids.get(refs.head or "", "")
    if push.ref_type == "repository" or not push.ref:
        return _whole(refs) if known is None else _changed(refs, known)
    # The stored name is redacted, so redact the listed names before comparing them.
    wants = [oid for name, oid in refs.oids.items() if redact(name) == push.ref][:1]
    if not wants and refs.is_truncated:
        # The list was cut off, so ask for this name alone. This fails if the name was redacted.
        named = _refs(github, push, prefix=push.ref)
        wants = [oid for name, oid in named.oids.items() if name == push.ref]
    if not wants:
        return Plan([], refs=refs, unread={"refs_over_limit" if refs.is_truncated else "ref_gone": 1})
    if known is not None:
        return Plan([oid for oid in wants if not known.holds(oid)], known.oids, refs=refs)
    if not default or push.ref == redact(refs.head or ""):
        return Plan(wants, rung="whole", default=default, is_whole=True, refs=refs)
    # A new branch or tag at the newest commit of the default branch adds no content.
    wants = [oid for oid in wants if oid != default]
    # Tell the server only that we have the default branch. If the same push created several branches, naming them too
    # would make the server leave out their common commits.
    return Plan(wants, [default], "before", earlier=[default], before=default, default=default, refs=refs)


def _whole(refs: Refs) -> Plan:
    default = refs.oids.get(refs.head or "", "")
    wants, unread = _listed(refs)
    is_whole = len(wants) < MAX_WANTS and not refs.is_truncated
    return Plan(wants, rung="whole", default=default, is_whole=is_whole, lists_refs=True, refs=refs, unread=unread)


def _changed(refs: Refs, known: RememberedTips) -> Plan:
    """Return the plan for a repository that was read before: fetch only new commits."""
    listed, unread = _listed(refs)
    wants = [oid for oid in listed if not known.holds(oid)]
    default = refs.oids.get(refs.head or "", "")
    return Plan(wants, known.oids, default=default, lists_refs=True, refs=refs, unread=unread)


def _listed(refs: Refs) -> tuple[list[str], dict[str, int]]:
    """Return at most MAX_WANTS commits of branches and tags, and how many are left out, by reason."""
    distinct = list(dict.fromkeys(_tips(refs)))
    is_over_limit = refs.is_truncated or len(distinct) > MAX_WANTS
    return distinct[:MAX_WANTS], {"refs_over_limit": 1} if is_over_limit else {}


def _tips(refs: Refs) -> Iterator[str]:
    """Yield the newest commits of all branches and tags, that of the default branch first."""
    if refs.head in refs.oids:
        yield refs.oids[refs.head]
    yield from (oid for name, oid in refs.oids.items() if name.startswith(("refs/heads/", "refs/tags/")))


def _from_boundary(github: GitHub, push: Push, tip: str, may_miss: Sequence[str], refs: Refs | None = None) -> Plan:
    default = "" if push.kind == "earlier" else tip
    if not _can_filter(github, push.repository):
        # This server cannot send commits without contents, so read the whole repository.
        return Plan([tip], rung="whole", default=default, may_miss=may_miss, is_whole=True, refs=refs)
    boundary = _boundary(github, push, tip)
    if boundary is None:
        return Plan([tip], rung="whole", default=default, may_miss=may_miss, is_whole=True, refs=refs)
    return Plan([tip], [boundary], "boundary", may_miss=[*may_miss, "older_commits"], default=default, refs=refs)


def _boundary(github: GitHub, push: Push, tip: str) -> str | None:
    """Return the commit at which to stop reading, or None to read the whole branch."""
    received = git_protocol.fetch(
        github, push.repository, [tip], [], max_bytes=SKELETON.pack_bytes, commits_within=FIRST_PARENTS
    )
    pack = read_pack(received.content, SKELETON, hash_name=received.hash_name)
    commits: dict[str, Commit] = {}
    oid = tip
    for item in pack:
        if item.type == "commit" and (commit := parse_commit(item)):
            commits[item.oid] = commit
        elif item.type == "tag" and item.oid == tip:
            oid = item.content[7 : 7 + len(tip)].decode("ascii", "replace")  # a tag's content begins with "object <id>"
    if oid not in commits:
        raise Malformed("git_no_commits", "the git server sent other commits than were asked for")
    for _ in range(FIRST_PARENTS):
        found = commits.get(oid)
        if found is None:
            return oid
        if not found.parents:
            return None
        # Claiming a second parent would hide history that was merged or imported, so follow only the first.
        oid = found.parents[0]
    return oid


def _can_filter(github: GitHub, repository: str) -> bool:
    """Return whether the git server can send commits without trees."""
    if github.web_url not in _FILTERING_HOSTS:
        _FILTERING_HOSTS[github.web_url] = git_protocol.can_filter(github, repository)
    return _FILTERING_HOSTS[github.web_url]


def _is_small(push: Push) -> bool:
    return push.size_kb is not None and push.size_kb < SMALL_KB


def _refs(github: GitHub, push: Push, prefix: str = "") -> Refs:
    hash_name = "sha256" if len(push.head) == 64 else "sha1"
    return git_protocol.list_refs(github, push.repository, hash_name=hash_name, prefix=prefix)

"""Reading of one push or created ref: it fetches what was added to the repository, and scans all of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from scanner.detection import Detector, redact
from scanner.detection.budgets import SPENT, ScanBudget
from scanner.detection.packs import PackLimits
from scanner.detection.pushed_packs import Known
from scanner.github import git_protocol
from scanner.github.addresses import is_object_id
from scanner.github.client import GitHub, get_json
from scanner.github.errors import Forbidden, GitHubError, Malformed, NotFound, RateLimited
from scanner.github.git_protocol import Refs
from scanner.github.urls import is_repository_name
from scanner.sources.pushes import ladder
from scanner.sources.pushes.comparison import read_comparison
from scanner.sources.pushes.objects import read_pack
from scanner.sources.pushes.plan import Plan
from scanner.sources.pushes.push import Push, PushReading
from scanner.sources.pushes.tips import RememberedTips

MAX_HAVES = 1000
BLOB_LIMIT = 1024 * 1024
"""If the first answer exceeds the limit, the second request leaves out blobs above this size."""


def read_push(
    github: GitHub,
    push: Push,
    detector: Detector,
    *,
    limits: PackLimits,
    known: RememberedTips | None = None,
    page_budget: ScanBudget | None = None,
    is_first_look: bool = False,
    token_store: Known | None = None,
) -> PushReading:
    """Read the push by the git protocol, or by the REST API if the git server answers with an error.

    Args:
        github: The client.
        push: The push.
        detector: Scans.
        limits: Limits of the pack's size and memory.
        known: What is remembered of the repository.
        page_budget: The budget that all pushes of the page share.
        is_first_look: Stop early if the push takes long, and mark it as slow.

    Raises:
        GitHubError: Nothing could be read.
    """
    budget = ScanBudget.for_first_look(page_budget) if is_first_look else ScanBudget.for_push(page_budget)
    reading = PushReading(budget=budget, is_first_look=is_first_look, known=token_store)
    _read(github, push, detector, limits, known, reading)
    reading.unread.update(reading.limits.over)
    if is_first_look and reading.unread[SPENT] and not reading.budget.has_time:
        reading.is_slow = True
    if reading.unread[SPENT] and reading.budget.is_spent_by_others:
        # Other pushes of the page have used up the shared budget. A retry reads this push with a budget of its own.
        reading.is_cut_off = True
    reading.unread = +reading.unread
    return reading


def _read(
    github: GitHub,
    push: Push,
    detector: Detector,
    limits: PackLimits,
    known: RememberedTips | None,
    reading: PushReading,
) -> None:
    push = _named(github, push)
    if push.kind == "push" and push.head and not push.head.strip("0"):
        return  # a deletion adds nothing
    parents: list[str] = []
    if push.kind == "commit":
        parents = [] if push.before.strip("0") else _parents(github, push)
        plan = Plan([push.head], parents or ([push.before] if push.before.strip("0") else []), "named")
    else:
        try:
            plan = ladder.plan(github, push, known, reading)
        except Malformed as err:
            if err.reason != "git_refused" or push.kind != "earlier":
                raise
            reading.unread["before_gone"] += 1
            return
    reading.plan = plan
    if not plan.wants:
        return
    try:
        _read_objects(github, push, plan.wants, plan.haves, plan.refs, limits, detector, reading)
        if parents:
            # The named commit was read above. Its history is fetched separately, so that a failure here does not lose
            # the commit.
            _read_objects(github, push, parents, [], plan.refs, limits, detector, reading)
    except GitHubError as err:
        if not reading.objects:
            raise
        # Keep the content of the first request, although a later request failed.
        reading.unread[f"second_request_{err.reason}"] += 1
        reading.is_cut_off = reading.is_cut_off or not isinstance(err, NotFound | Malformed)
        reading.refusal = None if err.asked else err


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
        pack = git_protocol.fetch(github, push.repository, wants, haves, max_bytes=limits.pack_bytes)
        scan = read_pack(pack, push, github.web_url, detector, limits, reading)
        if scan.is_over_limit and not (reading.is_first_look and reading.unread[SPENT]):
            _ask_for_less(github, push, wants, haves, refs, limits, detector, reading)
    except (Malformed, Forbidden) as err:
        if err.reason == "git_refused" and push.kind == "push" and push.before in wants:
            # The server no longer has the commit that a force push replaced. Read the new commits without it.
            reading.unread["before_gone"] += 1
            if others := [oid for oid in wants if oid != push.before]:
                _read_objects(github, push, others, haves, refs, limits, detector, reading)
            return
        before = push.before if push.before.strip("0") else next(iter(haves), "")
        read_comparison(github, push, before, wants[0], detector, reading)
        reading.unread["refs_not_compared"] += len(wants) - 1
        reading.unread = +reading.unread


def _named(github: GitHub, push: Push) -> Push:
    """Return the push with its repository's name and id. Ask GitHub if one of them is missing.

    A name that contains a token is stored in redacted form. A push named by an operator has no id.
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
    suffix = ".wiki" if push.repository.endswith(".wiki") else ""
    return replace(push, repository=name + suffix, repository_id=repository_id)


def _parents(github: GitHub, push: Push) -> list[str]:
    """Return the commit's parents.

    Return an empty list if the REST API fails. The caller then asks git for everything at once.
    """
    url = f"{github.api_url}/repos/{push.repository}/commits/{push.head}"
    try:
        _, value = get_json(github, url, params={"per_page": 1}, expected=dict)
    except GitHubError as err:
        if isinstance(err, RateLimited) or not err.asked:
            raise
        return []
    listed = value.get("parents")
    found = [one.get("sha") for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return [sha for sha in found if isinstance(sha, str) and is_object_id(sha)][:MAX_HAVES]


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
    """Fetch again after an answer that exceeded the limit: without large blobs, and with every other branch claimed.

    Claim no refs for a commit named by an operator or for an "earlier" push: a branch already contains its commits, so
    the server would send nothing. For a push, another branch may contain the commit as well. If the answer lacks the
    wanted commits, ask again and claim only what is known. The reading stays partial.
    """
    claims_refs = push.kind not in ("commit", "earlier")
    if refs is None and claims_refs:
        hash_name = "sha256" if len(wants[0]) == 64 else "sha1"
        refs = git_protocol.list_refs(github, push.repository, hash_name=hash_name)
    listed = refs.oids if refs is not None and claims_refs else {}
    others = (oid for name, oid in listed.items() if name.startswith("refs/heads/") and redact(name) != push.ref)
    more = [oid for oid in dict.fromkeys([*haves, *others]) if oid not in wants][:MAX_HAVES]
    blob_limit = BLOB_LIMIT if git_protocol.can_filter(github, push.repository) else None
    if blob_limit is not None:
        reading.unread[f"blobs_over_{blob_limit}_bytes"] += 1
    for claims in (more, list(haves)):
        if blob_limit is None and set(claims) == set(haves):
            return  # this would repeat the first request
        pack = git_protocol.fetch(
            github, push.repository, wants, claims, max_bytes=limits.pack_bytes, blob_limit=blob_limit
        )
        scan = read_pack(pack, push, github.web_url, detector, limits, reading, wants)
        if scan.reached or set(claims) == set(haves):
            return

"""Reads one push: fetches the content that it added to the repository, and scans it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from scanner.detection import Detector, redact
from scanner.detection.budgets import SPENT, ScanBudget
from scanner.detection.git.packs import PackLimits
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
from scanner.sources.pushes.push import Push, PushReading, ScanContext
from scanner.sources.pushes.tips import RememberedTips

MAX_HAVES = 1000
BLOB_LIMIT = 1024 * 1024
"""If the first answer is too large, the second request leaves out files above this size."""


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
        known: The commits of the repository that are remembered as read, or None.
        is_first_look: Whether to stop early if the push takes a long time, and to mark it as slow.
        token_store: A function that looks up the digests of candidates beyond the limits in the token store, or None.

    Raises:
        GitHubError: No content of the push could be read.
    """
    budget = ScanBudget.for_first_look(page_budget) if is_first_look else ScanBudget.for_push(page_budget)
    context = ScanContext(detector, budget, known=token_store)
    reader = _PushReader(github, _named(github, push), context, limits, is_first_look=is_first_look)
    reader.read(known)
    reading = reader.reading
    reading.unread.update(context.limits.over)
    if is_first_look and reading.unread[SPENT] and not budget.has_time:
        reading.is_slow = True
    if reading.unread[SPENT] and budget.is_spent_by_others:
        # Other pushes have used up the job's scan budget, so retry this push with its own budget.
        reading.is_cut_off = True
    reading.unread = +reading.unread
    return reading


class _PushReader:
    """Reads one push. `reading` collects what is found in all answers.

    Args:
        is_first_look: Whether to stop early if the push takes a long time.
    """

    def __init__(
        self, github: GitHub, push: Push, context: ScanContext, limits: PackLimits, *, is_first_look: bool
    ) -> None:
        self._github, self._push, self._context, self._limits = github, push, context, limits
        self._is_first_look = is_first_look
        self.reading = PushReading()

    def read(self, known: RememberedTips | None) -> None:
        """Plan the requests, and read the answers."""
        push, reading = self._push, self.reading
        if push.kind == "push" and push.head and not push.head.strip("0"):
            return  # deleting a branch or tag adds no content
        parents: list[str] = []
        if push.kind == "commit":
            parents = [] if push.before.strip("0") else _parents(self._github, push)
            plan = Plan([push.head], parents or ([push.before] if push.before.strip("0") else []), "named")
        else:
            try:
                plan = ladder.plan(self._github, push, known)
            except Malformed as err:
                if err.reason != "git_refused" or push.kind != "earlier":
                    raise
                reading.unread["before_gone"] += 1
                return
        reading.plan = plan
        reading.unread.update(plan.unread)
        if not plan.wants:
            return
        try:
            self._read_objects(plan.wants, plan.haves, plan.refs)
            if parents:
                # Fetch the history separately, so that a failure does not affect the commit read above.
                self._read_objects(parents, [], plan.refs)
        except GitHubError as err:
            if not reading.objects:
                raise
            # The first request succeeded and a later one failed. Keep what was read.
            reading.unread[f"second_request_{err.reason}"] += 1
            reading.is_cut_off = reading.is_cut_off or not isinstance(err, NotFound | Malformed)
            reading.refusal = None if err.asked else err

    def _read_objects(self, wants: Sequence[str], haves: Sequence[str], refs: Refs | None) -> None:
        push, reading = self._push, self.reading
        try:
            pack = git_protocol.fetch(self._github, push.repository, wants, haves, max_bytes=self._limits.pack_bytes)
            part = read_pack(pack, push, self._github.web_url, self._context, self._limits)
            reading.add(part)
            if part.is_over_limit and not (self._is_first_look and reading.unread[SPENT]):
                self._ask_for_less(wants, haves, refs)
        except (Malformed, Forbidden) as err:
            if err.reason == "git_refused" and push.kind == "push" and push.before in wants:
                # The commit that a force push replaced is gone, so read the other commits.
                reading.unread["before_gone"] += 1
                if others := [oid for oid in wants if oid != push.before]:
                    self._read_objects(others, haves, refs)
                return
            before = push.before if push.before.strip("0") else next(iter(haves), "")
            reading.add(read_comparison(self._github, push, before, wants[0], self._context))
            reading.unread["refs_not_compared"] += len(wants) - 1
            reading.unread = +reading.unread

    def _ask_for_less(self, wants: Sequence[str], haves: Collection[str], refs: Refs | None) -> None:
        """Fetch again with less content, after an answer that exceeded the size limit."""
        github, push = self._github, self._push
        # For these kinds, do not tell the server that we have other branches. Other branches usually contain the
        # requested commits, so the server would leave the commits out.
        claims_refs = push.kind not in ("commit", "earlier")
        if refs is None and claims_refs:
            hash_name = "sha256" if len(wants[0]) == 64 else "sha1"
            refs = git_protocol.list_refs(github, push.repository, hash_name=hash_name)
        listed = refs.oids if refs is not None and claims_refs else {}
        others = (oid for name, oid in listed.items() if name.startswith("refs/heads/") and redact(name) != push.ref)
        more = [oid for oid in dict.fromkeys([*haves, *others]) if oid not in wants][:MAX_HAVES]
        blob_limit = BLOB_LIMIT if git_protocol.can_filter(github, push.repository) else None
        if blob_limit is not None:
            self.reading.unread[f"blobs_over_{blob_limit}_bytes"] += 1
        for claims in (more, list(haves)):
            if blob_limit is None and set(claims) == set(haves):
                return  # this would repeat the first request
            pack = git_protocol.fetch(
                github, push.repository, wants, claims, max_bytes=self._limits.pack_bytes, blob_limit=blob_limit
            )
            part = read_pack(pack, push, github.web_url, self._context, self._limits, wants)
            self.reading.add(part)
            if part.has_wants or set(claims) == set(haves):
                return


def _named(github: GitHub, push: Push) -> Push:
    """Return the push with its repository's name and id. Ask GitHub if one is missing."""
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
    """Return the parents of the push's last commit, or [] if the REST API fails."""
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

"""Estimates how likely it is that a push contains a leaked token, before the push is read.

The score is the sum of the points of all evidence. Pushes with a high score are read first and dropped last.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from scanner.sources.pushes.priorities import Likelihood

NEW_REPOSITORY_SHARE = 0.99
"""A repository with an id above this share of the highest id is at most some weeks old."""

_MACHINES = frozenset(
    ["dependabot", "renovate", "github-actions", "greenkeeper", "pre-commit-ci", "web-flow", "mergify", "snyk-bot"]
)
_MACHINE_NAME = re.compile(r"\[bot\]$|(?:^|[-_])(?:bot|ci|mirror|sync|automation)(?:$|[-_])", re.IGNORECASE)
_MACHINE_REF = re.compile(r"refs/heads/(?:gh-pages$|dependabot/|renovate/|greenkeeper/|snyk-|mergify/|all-contrib)")
_MIRROR = re.compile(r"(?:^|[-_./])(?:mirror|mirrors|backup|upstream-sync)(?:$|[-_./])", re.IGNORECASE)


SDK_LANGUAGES = frozenset(["Python", "Jupyter Notebook", "JavaScript", "TypeScript", "Go", "Swift"])
"""Languages in which the vendor's API is mostly used, by GitHub's names."""
SMALL_KB, HUGE_KB = 1024, 500 * 1024
BANDS: tuple[tuple[int, Likelihood], ...] = ((40, "very_likely"), (15, "likely"), (-19, "ordinary"), (-79, "unlikely"))
"""The lowest score of each level of likelihood. Lower scores are `very_unlikely`."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about a push before it is read.

    Attributes:
        actor: The account that pushed, or the repository's owner if the account is unknown.
        is_new: Whether the repository was created within the last day.
        newest_repository_id: The highest repository id that was seen recently, or 0 if unknown.
        owner_has_leaked: Whether a token of the vendor was found in a repository of this owner.
        owner_has_account: Whether an account in the token store has the same name as the owner.
    """

    repository: str
    actor: str = ""
    repository_id: int | None = None
    ref: str = ""
    is_created: bool = False
    is_new: bool = False
    newest_repository_id: int = 0
    is_fork: bool = False
    size_kb: int | None = None
    language: str | None = None
    mentions_vendor: bool = False
    owner_has_leaked: bool = False
    owner_has_account: bool = False


@dataclass(frozen=True, slots=True)
class Weight:
    """The points that one piece of evidence adds to the score, and the reason for them."""

    name: str
    points: int
    reason: str
    applies: Callable[[Evidence], bool]


def _is_new(evidence: Evidence) -> bool:
    newest = evidence.newest_repository_id * NEW_REPOSITORY_SHARE
    return evidence.is_new or (evidence.repository_id is not None and 0 < newest < evidence.repository_id)


def _is_machine(evidence: Evidence) -> bool:
    return evidence.actor.lower() in _MACHINES or _MACHINE_NAME.search(evidence.actor) is not None


# The points are estimates. Check them with the tokens found per level of likelihood in `r8scan status --json`.
WEIGHTS: tuple[Weight, ...] = (
    Weight("machine", -60, "machines copy and update; people type tokens", _is_machine),
    Weight(
        "machine_ref", -40, "such branches are generated", lambda evidence: _MACHINE_REF.match(evidence.ref) is not None
    ),
    Weight(
        "mirror",
        -40,
        "a mirror holds what is public elsewhere",
        lambda evidence: bool(_MIRROR.search(evidence.repository)),
    ),
    Weight("fork", -10, "most pushes to forks bring the original's commits", lambda evidence: evidence.is_fork),
    Weight("new_repository", 25, "first pushes hold what was never meant for others", _is_new),
    Weight(
        "created", 15, "a new branch or tag brings work that was private so far", lambda evidence: evidence.is_created
    ),
    Weight(
        "small",
        5,
        "small projects have no review",
        lambda evidence: evidence.size_kb is not None and evidence.size_kb < SMALL_KB,
    ),
    Weight(
        "huge",
        -10,
        "data and archives, slow to read",
        lambda evidence: evidence.size_kb is not None and evidence.size_kb > HUGE_KB,
    ),
    Weight("language", 5, "the vendor's API is used in it", lambda evidence: evidence.language in SDK_LANGUAGES),
    Weight("vendor", 40, "it says that it uses the vendor's API", lambda evidence: evidence.mentions_vendor),
    Weight("leaked_before", 30, "who leaked once leaks again", lambda evidence: evidence.owner_has_leaked),
    Weight("account", 35, "only who has an account has a token to leak", lambda evidence: evidence.owner_has_account),
)


def score(evidence: Evidence) -> int:
    """Return the sum of the weights of the evidence that applies."""
    return sum(weight.points for weight in WEIGHTS if weight.applies(evidence))


def likelihood_of(evidence: Evidence) -> Likelihood:
    """Return the level of likelihood for the score of the evidence."""
    points = score(evidence)
    return next((band for lowest, band in BANDS if points >= lowest), "very_unlikely")

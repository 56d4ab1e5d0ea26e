"""Which pushes are likelier to hold a token that somebody typed: read first, dropped last. Pure, from the event alone.

Reading has a budget (GitHub throttles git, machines are finite). People leak, mostly in what is new; machines copy.
"""

from __future__ import annotations

import re
from typing import Literal

Likelihood = Literal["likely", "ordinary", "unlikely"]

PRIORITIES: dict[Likelihood, int] = {"likely": 95, "ordinary": 100, "unlikely": 110}
"""Priorities of the jobs that read them; lower goes first."""

EARLIER_PRIORITY = 120
"""Priority of what a push went on from: older than any push that is queued, newer than what the archive brings."""
PUSH_PRIORITIES = (*PRIORITIES.values(), EARLIER_PRIORITY)
ARCHIVE_PRIORITY = 200
"""What the archive brings is old: everything else goes first."""

NEW_REPOSITORY_SHARE = 0.99
"""Ids are given in order: what is above this share of the highest one is some weeks old at most."""

_MACHINES = frozenset(
    ["dependabot", "renovate", "github-actions", "greenkeeper", "pre-commit-ci", "web-flow", "mergify", "snyk-bot"]
)
_MACHINE_NAME = re.compile(r"\[bot\]$|(?:^|[-_])(?:bot|ci|mirror|sync|automation)(?:$|[-_])", re.IGNORECASE)
_MACHINE_REF = re.compile(r"refs/heads/(?:gh-pages$|dependabot/|renovate/|greenkeeper/|snyk-|mergify/|all-contrib)")
_MIRROR = re.compile(r"(?:^|[-_./])(?:mirror|mirrors|backup|upstream-sync)(?:$|[-_./])", re.IGNORECASE)


def likelihood_of(
    *, actor: str, repository: str, repository_id: int | None, ref: str, is_created: bool, newest_repository_id: int
) -> Likelihood:
    """How likely the push is to bring a token. `newest_repository_id`: the highest id seen lately, 0 if unknown."""
    if actor.lower() in _MACHINES or _MACHINE_NAME.search(actor) or _MACHINE_REF.match(ref):
        return "unlikely"
    if _MIRROR.search(repository):
        return "unlikely"
    is_new = repository_id is not None and 0 < newest_repository_id * NEW_REPOSITORY_SHARE < repository_id
    return "likely" if is_created or is_new else "ordinary"

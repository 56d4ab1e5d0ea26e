"""The plan for reading a push: what to ask the git server for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scanner.github.git_protocol import Refs


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask the git server for, and what the answer will lack.

    Attributes:
        haves: The ids of commits whose content the server must not send (git's "have").
        rung: The name of the kind of plan, for counters; see `ladder`.
        earlier: Commits in `haves` that a separate job must read.
        may_miss: The content that this plan may miss: "other_refs", "older_commits".
        before: The newest commit of the branch before the push.
        is_whole: Whether the whole history of the wanted commits is read.
        reads_refs_later: Whether a separate job must read other branches and tags.
        lists_refs: Whether the plan covers all branches and tags.
        unread: Counts of branches and tags that this plan leaves out, by reason.
    """

    wants: Sequence[str]
    haves: Sequence[str] = ()
    rung: str = "remembered"
    earlier: Sequence[str] = ()
    may_miss: Sequence[str] = ()
    before: str = ""
    default: str = ""
    is_whole: bool = False
    reads_refs_later: bool = False
    lists_refs: bool = False
    refs: Refs | None = field(default=None, repr=False)
    unread: Mapping[str, int] = field(default_factory=dict)

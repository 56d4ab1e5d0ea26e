"""The plan for reading a push: what to ask the git server for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from scanner.github.git_protocol import Refs


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask the git server for, and which content this leaves out.

    Attributes:
        wants: The ids of commits or tags to read.
        haves: The ids of commits to claim (git's "have"). The server does not send objects that are reachable from
            them.
        rung: The name of the kind of plan, for counters; see `ladder`.
        earlier: Claimed commits that were not read. A separate job must read them.
        may_miss: The content that this plan may miss: "other_refs", "older_commits".
        before: The newest commit of the branch before the push.
        default: The newest commit of the default branch.
        is_whole: Whether the whole history of the wanted commits is read.
        reads_refs_later: Whether the repository may have other refs (branches and tags) that are new as well. If so, a
            separate job lists and reads them.
        lists_refs: Whether the plan covers all refs: they were listed, and each of them is remembered or in `wants`.
        refs: The refs, if they were listed.
        unread: Counts of refs that this plan leaves out, by reason.
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

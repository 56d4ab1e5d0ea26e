"""The plan of a push: what to ask the git server for. Values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scanner.github.git_protocol import Refs


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask the git server for.

    Attributes:
        wants: Commits or tags to read.
        haves: Commits to claim. The server does not send objects that are reachable from them.
        rung: The rung's name, for counters.
        earlier: Claimed commits that were not read. They need a job of their own.
        may_miss: What this rung may miss: "other_refs", "older_commits".
        before: The tip before the push.
        default: The default branch's tip.
        is_whole: The whole history of the wanted commits is read.
        reads_refs_later: Other refs than the wanted one may be new as well. A job of their own lists and reads them.
        lists_refs: All refs were listed, and all that are not remembered are wanted.
        refs: The refs, if they were listed.
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

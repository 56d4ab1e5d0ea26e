"""What a git server is asked for to read one push: values only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from scanner.github.git_protocol import Refs


@dataclass(frozen=True, slots=True)
class Plan:
    """What to ask the server for.

    Attributes:
        wants: Commits or tags to read.
        haves: Commits to claim.
        rung: Its name for the counts.
        earlier: Commits that are claimed, but that nobody has read: they need a job of their own.
        may_miss: What this rung is known to miss: "other_refs", "older_commits".
        before: The commit that the push went on from.
        default: The default branch's tip.
        is_whole: All history that the wants reach is read.
        lists_refs: All refs were listed, and what was not remembered of them is wanted.
        refs: The listed refs, if they were listed.
    """

    wants: Sequence[str]
    haves: Sequence[str] = ()
    rung: str = "remembered"
    earlier: Sequence[str] = ()
    may_miss: Sequence[str] = ()
    before: str = ""
    default: str = ""
    is_whole: bool = False
    lists_refs: bool = False
    refs: Refs | None = field(default=None, repr=False)

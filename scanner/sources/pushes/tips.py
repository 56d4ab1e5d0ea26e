"""Remembers which commits of a repository were read, as tips (the newest commits of branches and tags).

A remembered tip and its history need not be fetched again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

MAX_OTHER_TIPS = 20
"""At most this many tips (newest commits of branches and tags) are remembered besides the default branch's."""
SAME_PUSH_WITHIN = timedelta(seconds=2)
"""Two times this close belong to the same push."""

_READ, _SUPERSEDED, _DEFAULT, _SHA256 = 1, 2, 4, 8


@dataclass(frozen=True, slots=True)
class Tip:
    """A commit or tag to which a branch or tag pointed.

    Attributes:
        is_read: Whether all content that the push added was read.
        is_superseded: Whether the branch or tag has moved since then.
    """

    oid: str
    is_read: bool = True
    is_superseded: bool = False
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class RememberedTips:
    """The remembered tips (newest commits of branches and tags) of one repository, the newest first.

    Attributes:
        pushed_at: The time of the newest push that r8scan has read.
        refs_listed_at: When r8scan last compared all branches and tags with the tips.
    """

    tips: tuple[Tip, ...] = ()
    is_whole: bool = False
    pushed_at: datetime | None = None
    refs_listed_at: datetime | None = None

    @property
    def oids(self) -> list[str]:
        return [tip.oid for tip in self.tips]

    def holds(self, oid: str) -> bool:
        """Return whether the commit is remembered as the newest commit of a branch or tag."""
        return any(tip.oid == oid for tip in self.tips)

    def has_read(self, oid: str) -> bool:
        """Return whether the commit is remembered, and all content that its push added was read."""
        return any(tip.oid == oid and tip.is_read for tip in self.tips)

    def has_read_push_at(self, oid: str, pushed_at: datetime | None) -> bool:
        """Return whether the push at the time `pushed_at` was read.

        `oid` is the newest commit of the default branch after this push.
        """
        if pushed_at is None or not self.has_read(oid):
            return False
        # The default branch has not changed since it was read. So a later push went to another branch and is unread.
        listed = self.refs_listed_at is not None and pushed_at < self.refs_listed_at - SAME_PUSH_WITHIN
        return listed or (self.pushed_at is not None and pushed_at <= self.pushed_at + SAME_PUSH_WITHIN)


@dataclass(frozen=True, slots=True)
class TipsRead:
    """The commits to remember as read after one push.

    Attributes:
        is_read: Whether these commits were read completely. If not, the rest is counted as unread.
        before: The newest commit of the branch before the push, if it is known.
        default: The newest commit of the default branch, if it is known.
        is_whole: Whether the whole history of the repository has now been read.
        lists_refs: Whether all branches and tags were compared with the remembered commits.
    """

    tips: tuple[str, ...]
    is_read: bool
    before: str = ""
    default: str = ""
    is_whole: bool = False
    lists_refs: bool = False


def advanced(known: RememberedTips, read: TipsRead, pushed_at: datetime | None, now: datetime) -> RememberedTips:
    """Return the remembered tips (newest commits of branches and tags) after one more push was read.

    The default branch's tip and at most MAX_OTHER_TIPS other tips are kept.
    """
    new = [Tip(oid, read.is_read, is_default=oid == read.default) for oid in dict.fromkeys(read.tips)]
    names = {tip.oid for tip in new}
    # A commit that was read completely stays so, even if a later attempt reads only a part.
    new = [replace(tip, is_read=tip.is_read or known.has_read(tip.oid)) for tip in new]
    old = [
        replace(
            tip,
            is_superseded=tip.is_superseded or tip.oid == read.before,
            is_default=tip.is_default and not (read.default or tip.oid == read.before),
        )
        for tip in known.tips
        if tip.oid not in names
    ]
    if read.before.strip("0") and read.before not in names and not known.holds(read.before):
        old.insert(0, Tip(read.before, is_read=False, is_superseded=True))
    times = [at for at in (known.pushed_at, pushed_at) if at is not None]
    return RememberedTips(
        tips=_bounded([*new, *old]),
        is_whole=known.is_whole or read.is_whole,
        pushed_at=max(times, default=None),
        refs_listed_at=now if read.lists_refs else known.refs_listed_at,
    )


def _bounded(tips: Sequence[Tip]) -> tuple[Tip, ...]:
    """Return as many tips as the limit allows. The default branch's tip is always kept."""
    excess = len(tips) - 1 - MAX_OTHER_TIPS
    if excess <= 0:
        return tuple(tips)
    oldest_first = [tip for tip in reversed(tips) if not tip.is_default]
    dropped = {tip.oid for tip in sorted(oldest_first, key=lambda tip: not tip.is_superseded)[:excess]}
    return tuple(tip for tip in tips if tip.oid not in dropped)


def encoded(tips: Iterable[Tip]) -> bytes:
    """Return tips (newest commits of branches and tags) as bytes for the database."""
    parts = []
    for tip in tips:
        oid = bytes.fromhex(tip.oid)
        flags = _READ * tip.is_read | _SUPERSEDED * tip.is_superseded | _DEFAULT * tip.is_default
        parts.append(bytes([flags | _SHA256 * (len(oid) == 32)]) + oid)
    return b"".join(parts)


def decoded(content: bytes) -> tuple[Tip, ...]:
    """Return the tips in the bytes that `encoded` returned."""
    tips, position = [], 0
    while position < len(content):
        flags = content[position]
        end = position + 1 + (32 if flags & _SHA256 else 20)
        oid = content[position + 1 : end].hex()
        tips.append(Tip(oid, bool(flags & _READ), bool(flags & _SUPERSEDED), bool(flags & _DEFAULT)))
        position = end
    return tuple(tips)

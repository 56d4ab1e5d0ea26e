"""Reader of git packs and bundles that were found as files. It needs no repository, network or cache.

The module `packs` reads the pack. This module charges the work to the document's meter and yields the objects as
members.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from scanner.detection.containers.members import Container, Member, UnreadableError, whole
from scanner.detection.git.pack_codec import DamagedPack
from scanner.detection.git.packs import PackLimits, WorkBudget, read_pack
from scanner.detection.limits import LimitReachedError, Meter

_KEPT_BYTES = 16 << 20
_HELD_BYTES = 64 << 20
_REASONS = {
    "object_over_limit": "member_size",
    "objects_over_limit": "entries",
    "delta_base_missing": "missing_base",
    "delta_damaged": "damaged",
    "memory": "memory",
}
"""Reasons for unread objects of a pack, and the names of these reasons for a document."""
_DAMAGE = ("pack_damaged", "pack_truncated")


class _DocumentBudget(WorkBudget):
    """The budget for the work on a pack that was found in a document. It also charges the work to the document's meter.

    The first pass over the pack finds its entries and may use half of the document's remaining budget. The other half
    is for the second pass, which builds the content of each object and may have to inflate it again.
    """

    def __init__(self, meter: Meter) -> None:
        super().__init__(meter.room // 2)
        self._meter = meter
        self.stop: LimitReachedError | None = None

    def spend(self, size: int) -> None:
        super().spend(size)
        try:
            self._meter.take(size)
        except LimitReachedError as stop:
            self.stop = stop
            raise DamagedPack("inflated_over_limit") from None


def bundle_members(container: Container) -> Iterator[Member]:
    """Yield the pack in a git bundle.

    The list of refs before the pack is not a member, because it is searched as part of the bundle's own bytes.
    """
    content = whole(container)
    begin = content.find(b"\n\nPACK")
    if begin < 0:
        raise UnreadableError("damaged")
    yield Member("pack", content[begin + 2 :])


def pack_members(container: Container) -> Iterator[Member]:
    """Yield every object of a pack except trees, named by type and id, with its deltas applied.

    Raises:
        UnreadableError: the rest of the pack is damaged. Objects before the damage were yielded.
        LimitReachedError: the document has used up a limit.
    """
    content, meter = whole(container), container.meter
    most = meter.limits.member_bytes
    limits = PackLimits(len(content), meter.room, most, _HELD_BYTES, meter.limits.entries, _KEPT_BYTES)
    budget = _DocumentBudget(meter)
    pack = read_pack(content, limits, hash_name=_hash_of(content), budget=budget)
    budget.room = meter.room
    for item in pack:
        meter.enter()
        if item.type != "tree":
            yield Member(f"{item.type} {item.oid}", item.content)
    for reason, count in pack.unread.items():
        if name := _REASONS.get(reason):
            meter.note(name, count)
    if pack.unread["inflated_over_limit"]:
        raise budget.stop or LimitReachedError("expanded_bytes")
    if any(pack.unread[reason] for reason in _DAMAGE):
        raise UnreadableError("damaged")


def _hash_of(content: bytes) -> str:
    """Return the hash algorithm of a pack's object ids: the algorithm of the checksum at the end of the pack."""
    is_sha256 = hashlib.sha256(memoryview(content)[:-32]).digest() == content[-32:]
    return "sha256" if is_sha256 else "sha1"

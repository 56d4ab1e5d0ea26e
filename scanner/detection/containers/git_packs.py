"""Reader of git packs and git bundles that are files in a repository or archive."""

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
"""The reasons for unread objects of a pack, and the names under which the result of the document counts them."""
_DAMAGE = ("pack_damaged", "pack_truncated")


class _DocumentBudget(WorkBudget):
    """A limit on the work of reading a git pack inside a document."""

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
    """Yield the git pack that a git bundle contains."""
    content = whole(container)
    begin = content.find(b"\n\nPACK")
    if begin < 0:
        raise UnreadableError("damaged")
    yield Member("pack", content[begin + 2 :])


def pack_members(container: Container) -> Iterator[Member]:
    """Yield every object of a git pack except trees. The member's name is the type and id of the object."""
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
    """Return the name of the hash algorithm of the checksum at the end of the git pack."""
    is_sha256 = hashlib.sha256(memoryview(content)[:-32]).digest() == content[-32:]
    return "sha256" if is_sha256 else "sha1"

"""Builds the objects of one group (some objects of one pack) from the pack's whole objects and deltas."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from scanner.detection.git.pack_codec import DamagedPack, apply_delta, inflate_entry
from scanner.detection.history.pack_history.families import MAX_OBJECT_BYTES, Unit

BASES_BYTES = 64 << 20
"""The maximum size of all objects that are kept in memory because deltas need them."""

_EXPANSION_SHIFT, _EXPANSION_BYTES = 6, 1 << 16
"""The compressed data of an entry may be larger than the decompressed data by 1/64 plus 64 kB."""


class MadeObject(NamedTuple):
    """An object that was read from a pack. `number` is the number of its pack entry."""

    number: int
    kind: int
    content: bytes


class _Base:
    """An object that is built or can be rebuilt. `waiting` is the number of deltas that need it."""

    __slots__ = ("content", "number", "parent", "waiting")

    def __init__(self, number: int, parent: _Base | None, content: bytes, waiting: int) -> None:
        self.number, self.parent, self.waiting = number, parent, waiting
        self.content: bytes | None = content


class GivenUp:
    """Pack entries that were not read. Each item is an entry number and an object type."""

    def __init__(self) -> None:
        self._numbers, self._kinds = array("I"), array("B")

    def add(self, numbers: Iterable[int], kind: int) -> None:
        for number in numbers:
            self._numbers.append(number)
            self._kinds.append(kind)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._numbers, self._kinds, strict=True)

    def __len__(self) -> int:
        return len(self._numbers)


class FamilyReader:
    """The reader of one group of objects of a pack.

    Args:
        budget: Bytes of work on deltas.

    Attributes:
        for_git: The entries that git has to read.
        over_budget: The entries that were not read because the limit on the work was reached.
        gaps: The number of places in the pack with extra bytes between the objects.
        left: The bytes of work that are left. The value may fall below zero.
    """

    def __init__(self, unit: Unit, budget: int) -> None:
        self._plan = unit.plan
        self._roots = unit.roots.tolist()
        entries = unit.plan.entries
        # Use memoryviews, because reading their items is three times as fast as with numpy arrays.
        self._offsets, self._heads = entries.offsets.data, entries.heads.data
        self._sizes, self._kinds = entries.sizes.data, entries.kinds.data
        self._starts, self._children = unit.plan.starts.data, unit.plan.children
        self._pack = unit.plan.file.pack
        self._held: OrderedDict[int, _Base] = OrderedDict()
        self._held_bytes = 0
        self.left = budget
        self.for_git, self.over_budget = GivenUp(), GivenUp()
        self.gaps = 0

    def objects(self) -> Iterator[MadeObject]:
        """Yield every object of the group that can be read."""
        starts = self._starts
        for root in self._roots:
            kind = self._kinds[root]
            try:
                content = self._data(root)
            except (DamagedPack, MemoryError):
                self.for_git.add(self._with_deltas(root), kind)
                continue
            yield MadeObject(root, kind, content)
            if starts[root] != starts[root + 1]:
                yield from self._descendants(root, kind, content)

    def _descendants(self, root: int, kind: int, content: bytes) -> Iterator[MadeObject]:
        stack = self._deltas_of(root, None, content)
        starts = self._starts
        while stack:
            number, base = stack.pop()
            if self.left <= 0:
                self._release(base)
                self.over_budget.add(self._with_deltas(number), kind)
                continue
            try:
                made = self._applied(self._content_of(base), number)
            except (DamagedPack, MemoryError):
                self._release(base)
                self.for_git.add(self._with_deltas(number), kind)
                continue
            self._release(base)
            yield MadeObject(number, kind, made)
            if starts[number] != starts[number + 1]:
                stack += self._deltas_of(number, base, made)

    def _applied(self, base: bytes, number: int) -> bytes:
        return apply_delta(base, self._data(number), MAX_OBJECT_BYTES, self._spend)

    def _spend(self, cost: int) -> None:
        self.left -= cost

    def _deltas_of(self, number: int, parent: _Base | None, content: bytes) -> list[tuple[int, _Base]]:
        """Return the entry number and the base of each delta of this object."""
        deltas = self._children[self._starts[number] : self._starts[number + 1]].tolist()
        base = _Base(number, parent, content, len(deltas))
        self._hold(base)
        return [(delta, base) for delta in deltas]

    def _hold(self, base: _Base) -> None:
        self._held[base.number] = base
        self._held_bytes += len(base.content or b"")
        while self._held_bytes > BASES_BYTES and len(self._held) > 1:
            _, oldest = self._held.popitem(last=False)
            self._held_bytes -= len(oldest.content or b"")
            oldest.content = None

    def _release(self, base: _Base) -> None:
        base.waiting -= 1
        if not base.waiting and self._held.pop(base.number, None) is not None:
            self._held_bytes -= len(base.content or b"")
            base.content = None

    def _content_of(self, base: _Base) -> bytes:
        """Return the content of an object that deltas need."""
        if base.content is not None:
            return base.content
        chain = [base]
        while (above := chain[-1].parent) is not None and above.content is None:
            chain.append(above)
        content = above.content if above is not None else None
        if content is None:
            content = self._data(chain.pop().number)
            self.left -= len(content)
        for link in reversed(chain):
            content = self._applied(content, link.number)
        base.content = content
        self._hold(base)
        return content

    def _data(self, number: int) -> bytes:
        """Return the decompressed data of a pack entry, which is an object or a delta."""
        size = self._sizes[number]
        if size > MAX_OBJECT_BYTES:
            raise DamagedPack("object_over_limit")
        start = self._offsets[number] + self._heads[number]
        end = self._offsets[number + 1]
        most = start + size + (size >> _EXPANSION_SHIFT) + _EXPANSION_BYTES
        content, rest = inflate_entry(self._pack[start : min(end, most)], size)
        if rest or end > most:
            self.gaps += 1
        return content

    def _with_deltas(self, number: int) -> Iterator[int]:
        """Yield the entry's number, and the numbers of all its direct and indirect deltas."""
        stack = [number]
        while stack:
            number = stack.pop()
            yield number
            stack += self._children[self._starts[number] : self._starts[number + 1]].tolist()

"""The delta families of a repository's packs: every object that can be made from one base object inside the same pack.

Families are combined into units of similar work, which the worker processes take one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from scanner.detection.pack_codec import OBJECT_TYPES
from scanner.detection.pack_history.index import Array, Entries, PackFile, argsort

MAX_OBJECT_BYTES = 32 << 20
"""The largest object that this reader makes. Git reads larger objects and their deltas."""
UNITS = 64
"""Units that a repository is divided into, if its families are small enough."""
MIN_UNIT_BYTES = 16 << 20
OBJECT_COST = 2048
"""Bytes added to the size of each object in the weight of a unit, because each object takes some microseconds."""

_MAX_ROUNDS = 13
"""Rounds that follow deltas to their bases.

Each round goes twice as far as the one before. A chain of more than 8,192 deltas is left to git.
"""


@dataclass(slots=True)
class PackPlan:
    """One pack, ready to be read.

    Attributes:
        children: Numbers of the deltas, ordered by their base. Deltas of one base that are not a base themselves come
            last.
        starts: For each entry, the position of its first delta in `children`; one more at the end.
        rest: Entries that git has to read.
        number: The number of the pack in the list of the process that scans the history.
    """

    file: PackFile
    entries: Entries
    children: Array
    starts: Array
    rest: npt.NDArray[np.int64]
    number: int = 0

    def oid(self, number: int) -> bytes:
        """Return the id of an entry's object."""
        return bytes(self.file.ids[self.entries.id_rows[number]].data)

    def oids(self, numbers: npt.NDArray[np.integer]) -> bytes:
        """Return the ids of many entries, joined."""
        return bytes(self.file.ids[self.entries.id_rows[numbers]].data)


@dataclass(frozen=True, slots=True)
class Unit:
    """Families of one pack that one worker reads at a time. `roots` are the numbers of their base objects."""

    plan: PackPlan
    roots: npt.NDArray[np.uint32]
    weight: int


@dataclass(slots=True)
class HistoryPlan:
    """All packs of a repository.

    `units` are sorted by weight, heaviest first. `objects` is the number of objects in the units.
    """

    packs: list[PackPlan] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
    objects: int = 0


def plan_history(opened: Sequence[tuple[PackFile, Entries]]) -> HistoryPlan:
    """Return the plan for reading every entry of every pack.

    If an id is in several packs, read it from each of them, because a forged index may give the id to another object.
    """
    history = HistoryPlan()
    families: list[tuple[PackPlan, npt.NDArray[np.uint32], Array]] = []
    for number, (file, entries) in enumerate(opened):
        roots, is_rooted = _roots(entries)
        children, starts = _children(entries)
        rest = np.flatnonzero(~is_rooted)
        plan = PackPlan(file, entries, children, starts, rest, number)
        history.packs.append(plan)
        history.objects += len(is_rooted) - len(rest)
        families.append((plan, *_weighed(entries, roots, is_rooted)))
        entries.bases = np.empty(0, np.int32)  # no longer needed: `children` replaces them
    total = sum(int(weights.sum()) for _, _, weights in families)
    target = max(total // UNITS, MIN_UNIT_BYTES)
    for plan, numbers, weights in families:
        history.units += _units(plan, numbers, weights, target)
    history.units.sort(key=lambda unit: -unit.weight)
    return history


def _roots(entries: Entries) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Return, for each entry, the number of the base object at the end of its chain, and whether that object is
    readable.
    """
    count = len(entries.kinds)
    numbers = np.arange(count, dtype=np.uint32)
    roots = np.where(entries.bases >= 0, entries.bases, numbers).astype(np.uint32)
    for _ in range(_MAX_ROUNDS):
        following = roots[roots]
        if np.array_equal(following, roots):
            break
        roots = following
    is_base = np.isin(entries.kinds, list(OBJECT_TYPES)) & (entries.sizes <= MAX_OBJECT_BYTES)
    return roots, is_base[roots]


def _children(entries: Entries) -> tuple[Array, Array]:
    """Return `PackPlan.children` and `PackPlan.starts`.

    A worker takes the deltas of a base from the end of the list. It first takes deltas that are no base themselves, so
    that the base can be freed before a long chain is followed.
    """
    deltas = np.flatnonzero(entries.bases >= 0).astype(np.uint32)
    bases = entries.bases[deltas]
    counts = np.zeros(len(entries.kinds) + 1, np.uint32)
    np.add.at(counts, bases.astype(np.int64) + 1, 1)
    has_deltas = counts[1:][deltas] > 0
    deltas = np.concatenate([deltas[has_deltas], deltas[~has_deltas]])
    order = argsort(entries.bases[deltas])
    return deltas[order], np.cumsum(counts, dtype=np.uint32)


def _weighed(entries: Entries, roots: Array, is_rooted: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.uint32], Array]:
    """Return the roots of all families, and the work on each family in bytes.

    The work assumes that the object of a delta is about as large as its base.
    """
    members = np.bincount(roots[is_rooted], minlength=len(roots)).astype(np.uint32)
    numbers = np.flatnonzero(members).astype(np.uint32)
    weights = members[numbers].astype(np.uint64) * (entries.sizes[numbers].astype(np.uint64) + OBJECT_COST)
    return numbers, weights


def _units(plan: PackPlan, roots: npt.NDArray[np.uint32], weights: Array, target: int) -> list[Unit]:
    """Return units of about the target weight. Neighbours in the pack stay together, and a large family is alone."""
    is_large = weights >= target
    units = [Unit(plan, roots[row : row + 1], int(weights[row])) for row in np.flatnonzero(is_large).tolist()]
    roots, weights = roots[~is_large], weights[~is_large]
    parts = np.cumsum(weights) // target
    bounds = [0, *(np.flatnonzero(np.diff(parts)) + 1).tolist(), len(roots)]
    for first, last in pairwise(bounds):
        if last > first:
            units.append(Unit(plan, roots[first:last], int(weights[first:last].sum())))
    return units

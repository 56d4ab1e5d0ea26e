"""Divides the objects of a repository's packs into groups that are read together, such as an object and its deltas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from scanner.detection.git.pack_codec import OBJECT_TYPES
from scanner.detection.history.pack_history.index import Array, Entries, PackFile, Signed

Weights = npt.NDArray[np.float32]

MAX_OBJECT_BYTES = 32 << 20
"""The size of the largest object that this package builds. Git reads larger objects and their deltas."""
UNITS = 64
"""A repository is divided into about this many groups of objects."""
MIN_UNIT_BYTES = 16 << 20
OBJECT_COST = 2048
"""Each object counts as this many bytes of work, in addition to its size."""

_SLICE = 1 << 20
"""The number of entries that numpy processes at a time, to save memory."""
_MAX_ROUNDS = 13
"""Deltas are followed to their bases in this many rounds. Each round goes twice as far as the one before."""


@dataclass(slots=True)
class PackPlan:
    """The order in which to read the entries (whole objects and deltas) of one pack.

    For example, `starts` = [0, 2, 2, 2] and `children` = [1, 2] mean that entries 1 and 2 are deltas of entry 0.

    Attributes:
        children: The numbers of all deltas, ordered by their base.
        starts: For each entry, the position in `children` of its first delta, and at the end the length of `children`.
        rest: The numbers of the entries that git has to read.
    """

    file: PackFile
    entries: Entries
    children: Array
    starts: Array
    rest: npt.NDArray[np.int64]
    number: int = 0

    def oid(self, number: int) -> bytes:
        """Return the id of the object in the pack entry with this number."""
        return bytes(self.file.ids[self.entries.id_rows[number]].data)

    def oids(self, numbers: npt.NDArray[np.integer]) -> bytes:
        """Return the concatenated ids of the objects in the pack entries with these numbers."""
        return bytes(self.file.ids[self.entries.id_rows[numbers]].data)


@dataclass(frozen=True, slots=True)
class Unit:
    """A group of objects of one pack, which one worker process reads. `weight` is the estimated work in bytes."""

    plan: PackPlan
    roots: npt.NDArray[np.uint32]
    weight: int


@dataclass(slots=True)
class HistoryPlan:
    """The plan for reading all packs of a repository. The groups (`units`) with the most work come first."""

    packs: list[PackPlan] = field(default_factory=list)
    units: list[Unit] = field(default_factory=list)
    objects: int = 0


def plan_history(opened: Sequence[tuple[PackFile, Entries]]) -> HistoryPlan:
    """Return the plan for reading every object of every pack, even objects that several packs contain."""
    history = HistoryPlan()
    families: list[tuple[PackPlan, npt.NDArray[np.uint32], Weights]] = []
    for number, (file, entries) in enumerate(opened):
        is_rooted, roots, weights = _families(entries)
        children, starts = _children(entries.bases)
        entries.bases = np.empty(0, np.int32)  # free the memory, because `children` replaces it
        plan = PackPlan(file, entries, children, starts, np.flatnonzero(~is_rooted), number)
        history.packs.append(plan)
        history.objects += len(is_rooted) - len(plan.rest)
        families.append((plan, roots, weights))
    total = sum(int(weights.sum(dtype=np.float64)) for _, _, weights in families)
    target = max(total // UNITS, MIN_UNIT_BYTES)
    for plan, roots, weights in families:
        history.units += _units(plan, roots, weights, target)
    history.units.sort(key=lambda unit: -unit.weight)
    return history


def _families(entries: Entries) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint32], Weights]:
    """Return which entries can be built, the whole objects, and the work for each whole object and its deltas."""
    roots = _roots(entries.bases)
    is_base = (entries.kinds >= min(OBJECT_TYPES)) & (entries.kinds <= max(OBJECT_TYPES))
    is_base &= entries.sizes <= MAX_OBJECT_BYTES
    is_rooted = _taken(is_base, roots)
    members = np.zeros(len(roots), np.uint32)
    for part in _slices(len(roots)):
        np.add.at(members, roots[part][is_rooted[part]], 1)
    del roots
    numbers = np.concatenate(
        [(part.start + np.flatnonzero(members[part])).astype(np.uint32) for part in _slices(len(members))]
        or [np.empty(0, np.uint32)]
    )
    weights = _taken(members, numbers).astype(np.float32)
    weights *= _taken(entries.sizes, numbers) + np.float32(OBJECT_COST)
    return is_rooted, numbers, weights


def _roots(bases: Signed) -> npt.NDArray[np.uint32]:
    """Return, for each pack entry, the whole object from which deltas build it."""
    roots = np.arange(len(bases), dtype=np.uint32)
    np.copyto(roots, bases.view(np.uint32), where=bases >= 0)
    for _ in range(_MAX_ROUNDS):
        following = _taken(roots, roots)
        if np.array_equal(following, roots):
            break
        roots = following
    return roots


def _children(bases: Signed) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Return the arrays `PackPlan.children` and `PackPlan.starts`."""
    count = len(bases)
    starts = np.zeros(count + 1, np.uint32)
    for part in _slices(count):
        np.add.at(starts, bases[part][bases[part] >= 0] + 1, 1)
    is_base = starts[1:] > 0
    np.cumsum(starts, out=starts)
    children = np.empty(int(starts[-1]), np.uint32)
    for part in _slices(count):
        deltas = np.flatnonzero((bases >= part.start) & (bases < part.stop))
        is_last = ~is_base[deltas]
        order = np.argsort(bases[deltas].astype(np.int64) * 2 + is_last, kind="stable")
        children[starts[part.start] : starts[part.stop]] = deltas[order]
    return children, starts


def _slices(count: int) -> list[slice]:
    return [slice(first, min(first + _SLICE, count)) for first in range(0, count, _SLICE)]


def _taken(values: npt.NDArray[Any], numbers: npt.NDArray[np.uint32]) -> npt.NDArray[Any]:
    taken = np.empty(len(numbers), values.dtype)
    for part in _slices(len(numbers)):
        taken[part] = values[numbers[part]]
    return taken


def _units(plan: PackPlan, roots: npt.NDArray[np.uint32], weights: Weights, target: int) -> list[Unit]:
    """Combine whole objects, with their deltas, into groups of about `target` bytes of work."""
    is_large = weights >= target
    units = [Unit(plan, roots[row : row + 1], int(weights[row])) for row in np.flatnonzero(is_large).tolist()]
    if units:
        roots, weights = roots[~is_large], weights[~is_large]
    bounds, done = [0], 0.0
    for part in _slices(len(weights)):
        sums = done + np.cumsum(weights[part], dtype=np.float64)
        ends = np.arange((done // target + 1) * target, sums[-1], target)
        bounds += (part.start + np.searchsorted(sums, ends)).tolist()
        done = float(sums[-1])
    for first, last in pairwise([*bounds, len(weights)]):
        if last > first:
            units.append(Unit(plan, roots[first:last], int(weights[first:last].sum(dtype=np.float64))))
    return units

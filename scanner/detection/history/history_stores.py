"""Reads all packs and folders of loose objects of a git repository, and scans their objects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scanner.detection.detector import Detector
from scanner.detection.history.git_processes import Deadline, GitError
from scanner.detection.history.git_repositories import Repository
from scanner.detection.history.history_budget import HistoryBudget
from scanner.detection.history.history_reader import ObjectList, list_damaged_objects, list_objects, read_objects
from scanner.detection.history.history_results import HistoryShard
from scanner.detection.history.object_stores import Store, loose_bytes, loose_objects, shown_alone, stored_objects
from scanner.detection.history.pack_history.readers import PacksRead, needs_pack_reader, read_packs

MAX_LOOSE_RATIO = 100
MIN_LOOSE_INFLATED = 128 << 20
"""The loose objects of a repository may always decompress to this many bytes."""


@dataclass(frozen=True, slots=True)
class _Part:
    """The objects of one pack or folder that git has to read. Empty `oids` means all objects."""

    store: Store
    oids: bytes = b""

    @property
    def names(self) -> list[str] | None:
        size = self.store.hash_bytes
        return [self.oids[at : at + size].hex() for at in range(0, len(self.oids), size)] or None

    @property
    def count(self) -> int:
        """The number of objects to read, or 1 if the number is not known."""
        return max(len(self.oids) // self.store.hash_bytes, 1)


def read_stores(
    repository: Repository,
    detector: Detector,
    *,
    readers: int,
    on_progress: Callable[[int, int], None],
    deadline: Deadline,
) -> HistoryShard:
    """Read and scan every object of a repository, and return the results.

    Args:
        on_progress: Called with the number of objects read so far, and the number of all.

    Raises:
        GitError: git cannot list any objects.
    """
    packs = [store for store in repository.stores if store.is_pack]
    budget = HistoryBudget(sum(pack.size for pack in packs))
    read: PacksRead | None = None
    if needs_pack_reader(packs):
        read = read_packs(packs, detector, budget, readers=readers, on_progress=on_progress, deadline=deadline)
    total = read.shard if read is not None else HistoryShard()
    known = read.total if read is not None else 0
    failures: list[GitError] = []
    for part in _parts(repository.stores, packs, read):
        if deadline.is_over:
            total.unread[deadline.reason] += part.count
            continue
        report = _shifted(on_progress, total.objects, max(total.objects, known))
        try:
            total.add(
                _read_part(repository, part, detector, budget, readers=readers, on_progress=report, deadline=deadline)
            )
        except GitError as err:
            failures.append(err)
            total.unread["objects_not_listed"] += stored_objects(part.store)
    if failures and not total.objects:
        raise failures[0]
    total.drop_copies()
    return total


def _shifted(on_progress: Callable[[int, int], None], done: int, known: int) -> Callable[[int, int], None]:
    return lambda count, total: on_progress(done + count, known + total)


def _parts(stores: list[Store], packs: list[Store], read: PacksRead | None) -> Iterator[_Part]:
    """Yield the packs, parts of packs and folders that git has to read."""
    for number, pack in enumerate(packs):
        if read is None:
            yield _Part(pack)
        elif number in read.rest:
            yield _Part(pack, read.rest[number])
    yield from (_Part(store) for store in stores if not store.is_pack)


def _read_part(
    repository: Repository,
    part: _Part,
    detector: Detector,
    budget: HistoryBudget,
    *,
    readers: int,
    on_progress: Callable[[int, int], None],
    deadline: Deadline,
) -> HistoryShard:
    with shown_alone(repository.git_dir, part.store) as git_dir:
        try:
            listed = _listed(git_dir, part, deadline)
        except GitError:
            if not deadline.is_over:
                raise
            return HistoryShard(unread=Counter({deadline.reason: part.count}))
        over = listed.drop_largest(min(budget.left, _most_inflated(part.store, listed)))
        budget.take(sum(listed.sizes))
        shard = read_objects(git_dir, listed, detector, readers=readers, on_progress=on_progress, deadline=deadline)
    for oid, name in over:
        shard.note(oid, name, "inflated_over_limit")
    shard.unread["object_damaged"] += listed.unreadable
    if not part.oids and _is_empty(listed) and not over:
        shard.unread["objects_not_listed"] += stored_objects(part.store)
    return shard


def _listed(git_dir: Path, part: _Part, deadline: Deadline) -> ObjectList:
    """Return the objects that git has to read in a pack or folder."""
    try:
        return list_objects(git_dir, deadline, oids=part.names)
    except GitError:
        if part.store.is_pack or deadline.is_over:
            raise
        return list_damaged_objects(git_dir, deadline, loose_objects(part.store))


def _most_inflated(store: Store, listed: ObjectList) -> int:
    """Return the maximum number of bytes to decompress from a pack or folder."""
    total = sum(listed.sizes)
    if store.is_pack or total <= MIN_LOOSE_INFLATED:
        return total
    return max(MIN_LOOSE_INFLATED, MAX_LOOSE_RATIO * loose_bytes(store))


def _is_empty(listed: ObjectList) -> bool:
    return not len(listed) and not listed.unreadable

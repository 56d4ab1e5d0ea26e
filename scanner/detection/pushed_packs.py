"""Scan of git packs that were pushed to GitHub: small packs in this process, others in a confined process."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace

from scanner.detection.budgets import SPENT, ScanBudget
from scanner.detection.candidate_limits import OVER_LIMIT, CandidateLimits
from scanner.detection.detector import Detector, ScanResult
from scanner.detection.documents import Candidate
from scanner.detection.findings import Finding
from scanner.detection.git.pack_scanning import (
    MAX_CROWD,
    MAX_NOT_READ,
    OBJECT_NAME,
    DeferredObject,
    Look,
    PackAnswer,
    PackHit,
    PackRequest,
    PackScan,
    TokensBeyond,
    UnreadPackObject,
    scan_objects,
)
from scanner.detection.git.packs import LATE, PackLimits, PackObject, read_pack
from scanner.detection.patterns.token_formats import is_token
from scanner.detection.prefilter import plain_only

IN_PROCESS = PackLimits(
    pack_bytes=4 << 20,
    inflated_bytes=16 << 20,
    object_bytes=16 << 20,
    held_bytes=16 << 20,
    objects=2_000,
    kept_bytes=16 << 20,
)
"""The limits on a pack that is scanned in this process, together about 0.2 s of processor time."""
MAX_TREE_BYTES = 2 << 20
"""The maximum size of all trees of a pack that is scanned in this process."""
MAX_READER_CALLS = 32
"""The maximum number of objects of one pack that a confined process reads one by one."""
MAX_CANDIDATES = 2_000
"""If more possible tokens than this are found in a pack, a confined process scans the pack instead."""
MIN_SECONDS = 0.5
"""A pack gets this processor time even if the budget is used up. It is enough to find plain tokens."""
LOOKED_UP_AT_ONCE = 1_000
MAX_CONFIRMED = 10_000
"""The maximum number of real tokens of a pack that are reported although the pack contains too many possible tokens."""
LOOK_UP_SECONDS = 2.0
"""The maximum time for asking the token store about a pack that contains too many possible tokens."""
MAX_SECONDS = 8.0
"""The processor seconds that a confined process may spend on one pack."""
_OVER = ("pack_over_limit", "inflated_over_limit", "objects_over_limit", "object_over_limit")


Known = Callable[[Collection[str]], Collection[str] | None]
"""Returns the digests that the token store knows, or None if the token store cannot be asked now."""


class _TooCostly(Exception):
    """The pack costs more than this process may spend on one pack."""


def scan_pack(
    detector: Detector,
    content: bytes,
    limits: PackLimits,
    budget: ScanBudget,
    *,
    hash_name: str = "sha1",
    wants: Collection[str] = (),
    known: Known | None = None,
) -> PackScan[Candidate]:
    """Scan a git pack, and return the possible tokens in its objects. Their addresses on GitHub are missing.

    Args:
        content: The pack, or its beginning if it is larger than the limit.
        budget: The limit on the cost of the push. After it is used up, only plain tokens are found.
        known: Asks the token store about the tokens that exceed the limits on the number of tokens.

    Raises:
        ReadersUnavailable: no confined process can be started.
    """
    try:
        return _in_process(detector, content, limits, budget, hash_name, frozenset(wants))
    except _TooCostly:
        request = PackRequest(limits, hash_name, tuple(wants), 0.0, keeps_beyond=known is not None)
        return _in_reader(detector, content, request, budget, known)


def _in_process(
    detector: Detector, content: bytes, limits: PackLimits, budget: ScanBudget, hash_name: str, wants: Collection[str]
) -> PackScan[Candidate]:
    """Scan the pack in this process, and return the possible tokens."""
    count = int.from_bytes(content[8:12], "big") if content[:4] == b"PACK" else 0
    if len(content) > IN_PROCESS.pack_bytes or count > IN_PROCESS.objects:
        raise _TooCostly
    bounds = replace(IN_PROCESS, object_bytes=min(IN_PROCESS.object_bytes, limits.object_bytes))
    pack = read_pack(content, bounds, hash_name=hash_name)
    if any(pack.unread[reason] for reason in _OVER) or len(content) > limits.pack_bytes:
        raise _TooCostly
    scan = scan_objects(pack, _Looks(detector, budget).look, lambda candidate: candidate.digest, wants)
    if any(scan.unread[reason] for reason in _OVER):
        raise _TooCostly
    return scan


class _Looks:
    """Scans a pack's objects in this process, up to a limit."""

    def __init__(self, detector: Detector, budget: ScanBudget) -> None:
        self._detector, self._budget = detector, budget
        self._trees = self._calls = self._candidates = 0

    def look(self, item: PackObject, content: bytes) -> Look[Candidate] | None:
        if item.type == "tree":
            self._trees += len(item.content)
            if self._trees > MAX_TREE_BYTES:
                raise _TooCostly
        verdict = plain_only(content)
        if verdict.needs_reader:
            self._calls += 1
            if self._calls > MAX_READER_CALLS or verdict.reason == "many_hits":
                raise _TooCostly
        elif not verdict.findings:
            return None
        result = self._detector.scan_after(verdict, content, OBJECT_NAME, self._budget)
        self._candidates += len(result.candidates)
        if self._candidates > MAX_CANDIDATES:
            raise _TooCostly
        return _look_of(result)


def _look_of(result: ScanResult) -> Look[Candidate] | None:
    if not result.candidates and not result.unread:
        return None
    return Look(result.candidates, result.unread, result.content_digest)


def _in_reader(
    detector: Detector, content: bytes, request: PackRequest, budget: ScanBudget, known: Known | None
) -> PackScan[Candidate]:
    left = budget.remaining()
    seconds = min(max(left.seconds, MIN_SECONDS), MAX_SECONDS)
    request = replace(request, seconds=seconds, opens=not budget.is_spent)
    answer = detector.reader.read_pack(content, request)
    if answer.failure and request.opens:
        # The reader process failed, probably at an archive. Let another one search for plain tokens only.
        budget.spend(seconds=answer.seconds)
        answer = detector.reader.read_pack(content, replace(request, opens=False))
    confirmed = _confirmed(detector, answer.scan, known) if known is not None else []
    scan = _with_candidates(detector, answer)
    if answer.failure:
        digest = hashlib.sha256(content).hexdigest()
        scan.unread[answer.failure] += 1
        scan.not_read.append(UnreadPackObject("", "commit", (answer.failure,), digest, len(content)))
    spent = answer.seconds
    if scan.unread[LATE] and left.seconds <= seconds:
        # The push's time budget was used up, so the reason is SPENT and not LATE.
        scan.unread[SPENT] += scan.unread.pop(LATE)
        spent = max(spent, left.seconds)
    budget.spend(seconds=spent, work=scan.bytes, findings=sum(len(hit.found) for hit in scan.hits))
    limits = CandidateLimits()
    for hit in scan.hits:
        limits.take(hit.found)
    for item in answer.deferred:
        # Scan this object alone, because it takes too long to be scanned with the others.
        result = detector.scan_after(plain_only(item.content), item.content, OBJECT_NAME, budget)
        scan.unread.update(result.unread)
        scan.not_read += _not_read(item, result)[: MAX_NOT_READ - len(scan.not_read)]
        if taken := _taken(result, limits):
            scan.hits.append(PackHit(item.oid, item.type, taken))
    scan.unread.update(limits.over)
    scan.hits.sort(key=lambda hit: len(hit.found) > MAX_CROWD)
    scan.hits = confirmed + scan.hits
    scan.unread = +scan.unread
    return scan


def _confirmed(detector: Detector, scan: PackScan[Finding], known: Known) -> list[PackHit[Candidate]]:
    """Ask the token store about the tokens in `scan.beyond`. Return the objects with known tokens."""
    hits: list[PackHit[Candidate]] = []
    deadline = time.monotonic() + LOOK_UP_SECONDS
    left, room = sum(item.tokens.count(b"\n") + 1 for item in scan.beyond), MAX_CONFIRMED
    beyond, scan.beyond = scan.beyond, []
    for batch in _batches(beyond):
        if time.monotonic() > deadline or room <= 0:
            break
        waiting = [(item, detector.candidates_of(findings, OBJECT_NAME)) for item, findings in batch]
        count = sum(len(findings) for _, findings in batch)
        left -= count
        digests = known({candidate.digest for _, found in waiting for candidate in found})
        if digests is None:
            scan.unread[OVER_LIMIT] += count
            continue
        real = [(item, [one for one in found if one.digest in digests]) for item, found in waiting]
        hits += [PackHit(item.oid, item.type, found, is_confirmed=True) for item, found in real if found]
        number = sum(len(found) for _, found in real)
        scan.unknown += count - number
        room -= number
    scan.unread[OVER_LIMIT] += left
    return hits


def _batches(beyond: list[TokensBeyond]) -> Iterator[list[tuple[TokensBeyond, list[Finding]]]]:
    """Yield the tokens in batches of LOOKED_UP_AT_ONCE, and remove them from the list."""
    beyond.reverse()
    batch: list[tuple[TokensBeyond, list[Finding]]] = []
    room = LOOKED_UP_AT_ONCE
    while beyond:
        item = beyond.pop()
        tokens = item.tokens.split(b"\n")
        at = 0
        while at < len(tokens):
            part = tokens[at : at + room]
            at += len(part)
            room -= len(part)
            batch.append((item, [Finding(token, 0, 1) for token in part if is_token(token.decode("latin-1"))]))
            if not room:
                yield batch
                batch, room = [], LOOKED_UP_AT_ONCE
    if batch:
        yield batch


def _with_candidates(detector: Detector, answer: PackAnswer) -> PackScan[Candidate]:
    found: PackScan[Finding] = answer.scan
    return PackScan(
        [PackHit(hit.oid, hit.type, detector.candidates_of(hit.found, OBJECT_NAME)) for hit in found.hits],
        found.locations,
        Counter(found.unread),
        found.not_read,
        [],
        found.reached,
        found.objects,
        found.bytes,
        found.is_all_located,
        found.is_over_limit,
        found.is_cut_off,
        found.is_damaged,
        found.unknown,
    )


def _not_read(item: DeferredObject, result: ScanResult) -> list[UnreadPackObject]:
    """Return a list with the object if it was not read completely, otherwise an empty list."""
    if not result.content_digest:
        return []
    reasons = tuple(sorted(result.unread))
    return [UnreadPackObject(item.oid, item.type, reasons, result.content_digest, len(item.content))]


def _taken(result: ScanResult, limits: CandidateLimits) -> list[Candidate]:
    """Return the possible tokens of an object that are within the limits."""
    return list(result.candidates) if len(result.candidates) <= MAX_CROWD else limits.take(result.candidates)

"""The matcher: finds the few offsets in a content that need a closer look. It does not decide what is a token.

A needle is a byte string with which a token may begin in some encoding. A core is a part that several needles share, or
a whole needle. Automata (Aho-Corasick) search for all cores, with vector instructions and without Python's global lock,
in windows that fit into the processor's cache. Where a core occurs, the matcher compares the bytes around it with the
needles. The automata are built once per process, when they are first used.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

from scanner.detection.patterns.cores import Core, core_groups
from scanner.detection.patterns.needles import Kind, Needle, needles
from scanner.detection.patterns.token_formats import derived_from_formats, min_token_length

WINDOW = 256 << 10
"""Bytes per call of an automaton. This limits the size of results for hostile content, and all automata read the window
from the processor's cache."""

CROWDED = 1_000
"""Above this many hits in one window, searching the window with `regex` is faster than examining each hit."""

DECODED = frozenset[Kind](("run", "stream"))
"""Kinds of needles whose hits lead to a run of letters that is decoded."""

ALWAYS_LISTED = frozenset[Kind](("stream",))
"""Kinds of needles for which there is no pattern. Their hits are always listed, however many there are."""

RUN_STRIDE = 64
RUN_SAMPLES = 32
LONG_RUN = RUN_STRIDE * (RUN_SAMPLES + 1)
"""The matcher notices a run of this many base64 letters without a needle, wherever the run begins."""

Hit = tuple[int, Needle]
_Find = Callable[[bytes | memoryview], list[tuple[int, int, int]]]

_OTHER_BYTES = bytes(
    0 if chr(byte).isascii() and (chr(byte).isalnum() or byte in b"+/-_\\\r\n") else 1 for byte in range(256)
)
# A backslash belongs to a run of base64 only as part of an escaped line break inside a JSON string.
_ESCAPED_BREAKS = (b"\\n", b"\\r")
_NO_BREAK = re.compile(rb"\\(?![nr\\])")
_BACK_BYTES = 2 * RUN_STRIDE * RUN_SAMPLES
_RUN_MARK = bytes(RUN_SAMPLES)
_COARSE_STRIDE = 2 * RUN_STRIDE
_COARSE_MARK = bytes(RUN_SAMPLES // 2)
_BETWEEN_SPOTS = RUN_SAMPLES * RUN_STRIDE


class Automaton(NamedTuple):
    """An automaton that searches for a group of cores (parts of needles).

    Attributes:
        find: Returns the occurrences of cores in a content as (core index, start, end).
        cores: The cores.
        covered: For each core, in the order of `cores`: the offsets inside it at which other cores may begin. For each
            offset, the texts of these cores.
        by_text: The cores by their text.
        longest: The length of the longest core in bytes.
    """

    find: _Find
    cores: tuple[Core, ...]
    covered: tuple[tuple[tuple[int, tuple[bytes, ...]], ...], ...]
    by_text: Mapping[bytes, Core]
    longest: int


class Window(NamedTuple):
    """The result of searching a window, the part `content[begin:end]` of a content, for needles.

    A hit is a place where a needle occurs.

    Attributes:
        hits: The offset and needle of each hit whose core starts in the window, in any order. Hits of the kinds in
            `crowded` are not included.
        crowded: The needle kinds that have too many hits in the window to examine them one by one. If there are any,
            `begin` is moved back far enough to include every needle whose core starts in the window.
        run_spots: Offsets in the content that may be inside long runs of base64, in ascending order.
    """

    begin: int
    end: int
    hits: list[Hit]
    crowded: frozenset[Kind]
    run_spots: list[int]


@derived_from_formats
def automata() -> tuple[Automaton, ...]:
    """Return the automata of this process, in the order of `core_groups()`."""
    return tuple(map(_automaton, core_groups()))


def _automaton(cores: tuple[Core, ...]) -> Automaton:
    from ahocorasick_rs import BytesAhoCorasick, MatchKind

    texts = [core.text for core in cores]
    # LeftmostFirst is thirty times faster than the default kind of match, but it returns no overlapping matches.
    # `_hidden` finds the cores that another core covers.
    built = BytesAhoCorasick(texts, matchkind=MatchKind.LeftmostFirst)
    covered = tuple(tuple(_covered(text, texts)) for text in texts)
    return Automaton(
        built.find_matches_as_indexes, cores, covered, dict(zip(texts, cores, strict=True)), max(map(len, texts))
    )


def _covered(text: bytes, others: Sequence[bytes]) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    """Yield each offset inside `text` at which some of the others may begin, and these others."""
    for cut in range(1, len(text)):
        rest = text[cut:]
        if beginning := tuple(other for other in others if other.startswith(rest) or rest.startswith(other)):
            yield cut, beginning


def windows(content: bytes, *, with_run_spots: bool = False) -> Iterator[Window]:
    """Yield every window (part) of `content` that contains a needle or a possible long run, in order.

    Only one window is in memory at a time.

    Args:
        content: The bytes to search.
        with_run_spots: Whether to look for long runs of base64 as well; see `sampled_runs_in`.
    """
    size = len(content)
    view = memoryview(content) if size > WINDOW else None
    for begin in range(0, size, WINDOW):
        end = min(begin + WINDOW, size)
        part = content if view is None else view[begin : end + longest_core() - 1]
        hits, crowded = _hits_in(content, part, begin, end)
        # Do this after the search for needles, which has brought the window into the processor's cache.
        run_spots = list(sampled_runs_in(content, begin)) if with_run_spots else []
        if hits or crowded or run_spots:
            yield Window(max(0, begin - longest_needle()) if crowded else begin, end, hits, crowded, run_spots)


def _hits_in(content: bytes, part: bytes | memoryview, begin: int, end: int) -> tuple[list[Hit], frozenset[Kind]]:
    """Return `Window.hits` and `Window.crowded` for the window `content[begin:end]`.

    `part` is the window, and after it the bytes that a core at the end of the window may extend into.
    """
    hits: list[Hit] = []
    crowded: frozenset[Kind] = frozenset()
    for automaton in automata():
        found = automaton.find(part)
        if not found:
            continue
        if len(found) > CROWDED:
            crowd = _crowd(automaton, found)
            crowded |= crowd
            listed = {at for at, core in enumerate(automaton.cores) if not _kinds(core) <= crowd}
            found = [one for one in found if one[0] in listed]
        hits += hits_of(automaton, found, content, begin, end)
    return [hit for hit in hits if hit[1].kind not in crowded] if crowded else hits, crowded


def hits_of(automaton: Automaton, found: list[tuple[int, int, int]], content: bytes, begin: int, end: int) -> list[Hit]:
    """Return the hits (places where a needle occurs) whose core starts in `content[begin:end]`.

    The result includes the hits whose core is covered by another core.

    Args:
        automaton: The automaton that searched the window.
        found: The cores that it found as (core index, start, end), with offsets relative to `begin`.
        content: The whole content.
        begin: Start of the window.
        end: End of the window.

    Returns:
        The offset in the content, and the needle, of each hit.
    """
    cores, covered = automaton.cores, automaton.covered
    limit = end - begin
    hits: list[Hit] = []
    for at, start, _ in found:
        core = cores[at]
        if start >= limit:
            pass
        elif core.needle is not None:
            hits.append((begin + start, core.needle))
        else:
            hits += _needles_around(core, content, begin + start)
        if covered[at]:
            hits += _hidden(content, begin + start, at, automaton)
    return hits


def _needles_around(core: Core, content: bytes, at: int) -> Sequence[Hit]:
    """Return the offset and needle of each hit that contains the core at offset `at` of the content."""
    end = at + len(core.text)
    may_be_one = (end < len(content) and content[end] in core.after) or (at and content[at - 1] in core.before)
    if not may_be_one and at:
        return ()
    hits: list[Hit] = []
    for ahead, length, needles_of in core.views:
        start = at - ahead
        if start >= 0 and (found := needles_of.get(content[start : start + length])) is not None:
            needle, needle_ahead = found
            hits.append((at - needle_ahead, needle))
    return hits


def _kinds(core: Core) -> frozenset[Kind]:
    """Return the kinds of the needles that contain a core."""
    if core.needle is not None:
        return frozenset((core.needle.kind,))
    return frozenset(needle.kind for view in core.views for needle, _ in view.needles.values())


def _crowd(automaton: Automaton, found: list[tuple[int, int, int]]) -> frozenset[Kind]:
    """Return the needle kinds with more than CROWDED cores in `found`.

    Count each core for the kinds of its needles, and also for the kinds of the cores that it may cover.
    """
    counts: Counter[Kind] = Counter()
    for at, count in Counter(map(itemgetter(0), found)).items():
        core = automaton.cores[at]
        covered = (_kinds(automaton.by_text[text]) for _, texts in automaton.covered[at] for text in texts)
        for kind in _kinds(core).union(*covered):
            counts[kind] += count
    return frozenset(kind for kind, count in counts.items() if count > CROWDED and kind not in ALWAYS_LISTED)


def _hidden(content: bytes, start: int, at: int, automaton: Automaton) -> Iterator[Hit]:
    """Yield the hits whose core begins inside core number `at`, which is at offset `start` of the content.

    The automaton does not find these cores.
    """
    for cut, texts in automaton.covered[at]:
        begin = start + cut
        if content.startswith(texts, begin):
            core = automaton.by_text[next(text for text in texts if content.startswith(text, begin))]
            if core.needle is not None:
                yield begin, core.needle
            else:
                yield from _needles_around(core, content, begin)


@derived_from_formats
def longest_core() -> int:
    """Return the length of the longest core in bytes.

    The searched parts of neighbouring windows overlap by this length minus one.
    """
    return max(automaton.longest for automaton in automata())


@derived_from_formats
def longest_needle() -> int:
    """Return the length of the longest needle in bytes."""
    return max(len(needle.text) for needle in needles())


def may_hold(content: bytes) -> bool:
    """Return whether the core of a needle occurs in `content`.

    If none occurs, a token can only be in a container or in a long run of base64.
    """
    if len(content) <= WINDOW:
        return any(automaton.find(content) for automaton in automata())
    view, size = memoryview(content), WINDOW + longest_core() - 1
    # Search window by window, and stop at the first core. In a text full of cores, only one window is searched.
    parts = (view[begin : begin + size] for begin in range(0, len(content), WINDOW))
    return any(automaton.find(part) for part in parts for automaton in automata())


def is_plainly_empty(content: bytes) -> bool:
    """Return True if a content of at most WINDOW bytes certainly has neither a core nor a long run of base64.

    This is the quickest test, for the millions of small files without a token.
    """
    return _RUN_MARK not in content[::RUN_STRIDE].translate(_OTHER_BYTES) and not may_hold(content)


def hit_offsets(content: bytes) -> list[int]:
    """Return the sorted offsets of all needles and of possible long runs of base64.

    For a window with too many needles, return every Nth offset instead, where N is the length of the shortest token.
    """
    offsets: list[int] = []
    for window in windows(content, with_run_spots=True):
        offsets += [start for start, _ in window.hits]
        offsets += window.run_spots
        if window.crowded:
            offsets += range(window.begin, window.end, min_token_length())
    return sorted(offsets)


def long_run_spots(content: bytes) -> list[int]:
    """Return offsets inside runs of at least LONG_RUN base64 letters, several per run. Runs may contain line breaks."""
    spots: list[int] = []
    for begin in range(0, len(content), WINDOW):
        spots += long_runs_in(content, begin)
    return spots


def long_runs_in(content: bytes, begin: int) -> list[int]:
    """Return offsets inside long runs of base64, in the window that begins at `begin`."""
    return [spot for spot in sampled_runs_in(content, begin) if is_run_at(content, spot)]


def sampled_runs_in(content: bytes, begin: int) -> Iterator[int]:
    """Yield offsets that may be inside long runs of base64, in the window that begins at `begin`.

    First, every 128th byte of the window is read. Where all of these bytes are base64 letters, every 64th byte is read.
    `is_run_at` tells whether an offset really is inside a run.
    """
    if len(content) - begin < LONG_RUN:
        return
    coarse = content[begin : begin + WINDOW + LONG_RUN : _COARSE_STRIDE].translate(_OTHER_BYTES)
    for at, stop in _samples_of_runs(coarse, _COARSE_MARK):
        first = begin + at * _COARSE_STRIDE
        fine = content[first : begin + stop * _COARSE_STRIDE : RUN_STRIDE].translate(_OTHER_BYTES)
        for fine_at, fine_stop in _samples_of_runs(fine, _RUN_MARK):
            # All samples in this range are base64 letters, but other bytes may be between two samples. Yield several
            # offsets, so that every run of at least LONG_RUN letters contains one of them.
            yield from range(first + fine_at * RUN_STRIDE, first + fine_stop * RUN_STRIDE, _BETWEEN_SPOTS)


def _samples_of_runs(samples: bytes, mark: bytes) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each sequence of zeros in `samples` that is at least as long as `mark`."""
    at = samples.find(mark)
    while at >= 0:
        stop = samples.find(b"\x01", at)
        stop = stop if stop >= 0 else len(samples)
        yield at, stop
        at = samples.find(mark, stop)


def is_run_at(content: bytes, spot: int) -> bool:
    """Return whether the 64 bytes from `spot` on are only base64 letters and line breaks, plain or escaped."""
    sample = content[spot : spot + RUN_STRIDE]
    if b"\\" in sample:
        for escaped in _ESCAPED_BREAKS:
            sample = sample.replace(escaped, b"")
        # Ignore a backslash at the end, because the sample may end inside an escaped line break.
        if b"\\" in sample.rstrip(b"\\"):
            return False
    return b"\x01" not in sample.translate(_OTHER_BYTES)


def run_start(content: bytes, first: int, spot: int) -> int:
    """Return the offset at which the base64 run that contains `spot` begins, or `first` if it begins before it."""
    begin = spot
    while begin > first:
        before = max(first, begin - _BACK_BYTES)
        part = content[before:begin]
        end = part.translate(_OTHER_BYTES).rfind(b"\x01") + 1
        if b"\\" in part:
            for other in _NO_BREAK.finditer(part + content[begin : begin + 1], end):
                end = other.end()
        begin = before + end
        if end:
            break
    return begin

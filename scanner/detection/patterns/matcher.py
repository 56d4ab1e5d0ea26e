"""The matcher: finds the few offsets in a content that need a closer look. It does not decide what is a token.

Aho-Corasick automata search for all needles, with vector instructions and without the interpreter's lock, in windows
that fit into the processor's cache. The automata are built once per process, at the first use.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from operator import itemgetter
from typing import NamedTuple

from scanner.detection.patterns.needles import Kind, Needle, needle_groups
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
# A backslash belongs to a run only as part of an escaped line break inside a JSON string.
_ESCAPED_BREAKS = (b"\\n", b"\\r")
_NO_BREAK = re.compile(rb"\\(?![nr\\])")
_BACK_BYTES = 2 * RUN_STRIDE * RUN_SAMPLES
_RUN_MARK = bytes(RUN_SAMPLES)
_BETWEEN_SPOTS = RUN_SAMPLES * RUN_STRIDE


class Automaton(NamedTuple):
    """An automaton that searches for a group of needles.

    Attributes:
        find: Returns the hits in a content as (needle index, start, end).
        hiding: The indexes of needles whose hit may cover the beginning of another needle's hit.
        longest: The length of the longest needle in bytes.
    """

    find: _Find
    needles: tuple[Needle, ...]
    hiding: frozenset[int]
    longest: int


class Window(NamedTuple):
    """The result of searching `content[begin:end]`.

    Attributes:
        hits: The hits that start in the window, in any order, without hits of the kinds in `crowded`.
        crowded: The needle kinds that have too many hits to look at one by one.
        run_spots: Offsets in the content that may be inside long runs of base64, in ascending order.
    """

    begin: int
    end: int
    hits: list[Hit]
    crowded: frozenset[Kind]
    run_spots: list[int]


@derived_from_formats
def automata() -> tuple[Automaton, ...]:
    """Return the automata of this process, in the order of `needle_groups()`."""
    return tuple(map(_automaton, needle_groups()))


@cache
def _automaton(needles: tuple[Needle, ...]) -> Automaton:
    from ahocorasick_rs import BytesAhoCorasick, MatchKind

    texts = [needle.text for needle in needles]
    # The default kind of match is thirty times slower. With LeftmostFirst, hits never overlap, so `_hidden` looks for
    # hits that another hit covers.
    built = BytesAhoCorasick(texts, matchkind=MatchKind.LeftmostFirst)
    hiding = frozenset(at for at, text in enumerate(texts) if any(_may_hide(text, other) for other in texts))
    return Automaton(built.find_matches_as_indexes, needles, hiding, max(map(len, texts)))


def _may_hide(text: bytes, other: bytes) -> bool:
    return other in text[1:] or any(other.startswith(text[cut:]) for cut in range(1, len(text)))


def windows(content: bytes, *, with_run_spots: bool = False) -> Iterator[Window]:
    """Yield every window of `content` with a hit or a run spot, in order. Only one window is in memory at a time.

    Args:
        content: The bytes to search.
        with_run_spots: Whether to look for long runs as well; see `sampled_runs_in`.
    """
    size = len(content)
    view = memoryview(content) if size > WINDOW else None
    for begin in range(0, size, WINDOW):
        end = min(begin + WINDOW, size)
        part = content if view is None else view[begin : end + longest_needle() - 1]
        hits, crowded = _hits_in(content, part, begin, end)
        # Sample the window after the automata have read it into the processor's cache.
        run_spots = list(sampled_runs_in(content, begin)) if with_run_spots else []
        if hits or crowded or run_spots:
            yield Window(begin, end, hits, crowded, run_spots)


def _hits_in(content: bytes, part: bytes | memoryview, begin: int, end: int) -> tuple[list[Hit], frozenset[Kind]]:
    """Return `Window.hits` and `Window.crowded` of the window `content[begin:end]`, which begins `part`."""
    hits: list[Hit] = []
    crowded: frozenset[Kind] = frozenset()
    for automaton in automata():
        found = automaton.find(part)
        if not found:
            continue
        if len(found) > CROWDED:
            crowd = _crowd(automaton, found)
            crowded |= crowd
            listed = {at for at, needle in enumerate(automaton.needles) if needle.kind not in crowd}
            found = [hit for hit in found if hit[0] in listed]
        hits += hits_of(automaton, found, content, begin, end)
    return hits, crowded


def hits_of(automaton: Automaton, found: list[tuple[int, int, int]], content: bytes, begin: int, end: int) -> list[Hit]:
    """Return the hits that start in `content[begin:end]`, including hits that another hit covers.

    Args:
        automaton: The automaton that searched the window.
        found: The automaton's hits as (needle index, start, end), with offsets relative to `begin`.
        content: The whole content.
        begin: Start of the window.
        end: End of the window.
    """
    _, needles, hiding, _ = automaton
    limit = end - begin
    hits = [(start + begin, needles[at]) for at, start, _ in found if start < limit]
    for at, start, stop in found:
        if at in hiding:
            hits += _hidden(content, begin + start, begin + stop, automaton)
    return hits


def _crowd(automaton: Automaton, found: list[tuple[int, int, int]]) -> frozenset[Kind]:
    """Return the kinds that have more than CROWDED hits in `found`. Count also hits that other hits may cover."""
    counts: Counter[Kind] = Counter()
    for at, count in Counter(map(itemgetter(0), found)).items():
        needle = automaton.needles[at]
        hidden = {other.kind for other in automaton.needles if _may_hide(needle.text, other.text)}
        for kind in hidden | {needle.kind}:
            counts[kind] += count
    return frozenset(kind for kind, count in counts.items() if count > CROWDED and kind not in ALWAYS_LISTED)


def _hidden(content: bytes, start: int, stop: int, automaton: Automaton) -> list[Hit]:
    """Return the hits that begin inside the hit `content[start:stop]`. The automaton does not report such hits."""
    find, needles, _, longest = automaton
    hits: list[Hit] = []
    for begin in range(start + 1, stop):
        for at, at_start, _ in find(content[begin : stop - 1 + longest]):
            if at_start == 0:
                hits.append((begin, needles[at]))
    return hits


@derived_from_formats
def longest_needle() -> int:
    """Return the length of the longest needle in bytes. Neighbouring windows overlap by one byte less than that."""
    return max(automaton.longest for automaton in automata())


def may_hold(content: bytes) -> bool:
    """Return whether a needle occurs in `content`.

    Without a needle, a token can only be in a container or in a long run.
    """
    if len(content) <= WINDOW:
        return any(automaton.find(content) for automaton in automata())
    view, size = memoryview(content), WINDOW + longest_needle() - 1
    # Search window by window and stop at the first needle, so that a text full of needles costs one window.
    parts = (view[begin : begin + size] for begin in range(0, len(content), WINDOW))
    return any(automaton.find(part) for part in parts for automaton in automata())


def is_plainly_empty(content: bytes) -> bool:
    """Return whether a content of at most WINDOW bytes has neither a needle nor a long run.

    If the result is False, the content may still have neither. This is the quickest test, for the millions of small
    files without a token.
    """
    return _RUN_MARK not in content[::RUN_STRIDE].translate(_OTHER_BYTES) and not may_hold(content)


def hit_offsets(content: bytes) -> list[int]:
    """Return sorted offsets of hits and of possible long runs.

    For a window with too many hits, every Nth offset is returned instead, where N is the length of the shortest token.
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
    """Return offsets inside long runs in the window at `begin`."""
    return [spot for spot in sampled_runs_in(content, begin) if is_run_at(content, spot)]


def sampled_runs_in(content: bytes, begin: int) -> Iterator[int]:
    """Yield offsets in the window at `begin` that may be inside long runs. `is_run_at` tells whether they are.

    Only every 64th byte of the window is read, by one strided copy and two searches in C.
    """
    if len(content) - begin < LONG_RUN:
        return
    sampled = content[begin : begin + WINDOW + LONG_RUN : RUN_STRIDE].translate(_OTHER_BYTES)
    at = sampled.find(_RUN_MARK)
    while at >= 0:
        stop = sampled.find(b"\x01", at)
        stop = stop if stop >= 0 else len(sampled)
        # A run may end between two samples. Any run that is long enough contains at least one of these offsets.
        yield from range(begin + at * RUN_STRIDE, begin + stop * RUN_STRIDE, _BETWEEN_SPOTS)
        at = sampled.find(_RUN_MARK, stop)


def is_run_at(content: bytes, spot: int) -> bool:
    """Return whether the 64 bytes from `spot` on are only base64 letters and line breaks, plain or escaped."""
    sample = content[spot : spot + RUN_STRIDE]
    if b"\\" in sample:
        for escaped in _ESCAPED_BREAKS:
            sample = sample.replace(escaped, b"")
        # The sample may end inside an escaped line break.
        if b"\\" in sample.rstrip(b"\\"):
            return False
    return b"\x01" not in sample.translate(_OTHER_BYTES)


def run_start(content: bytes, first: int, spot: int) -> int:
    """Return the beginning of the run around `spot`, but not before `first`."""
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

"""A fast search for the offsets at which an encoded token may begin."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import NamedTuple

from scanner.detection.patterns.cores import AT_END, Core, core_groups
from scanner.detection.patterns.needles import Kind, Needle, needles
from scanner.detection.patterns.token_formats import derived_from_formats, min_token_length

WINDOW = 256 << 10
"""The number of bytes that are searched at once, which fit into the processor's cache."""

CROWDED = 1_000
"""If a part of the content has more needles than this, it is searched with patterns instead of needle by needle."""

_MAX_COUNTED = 4 * CROWDED
"""To count the kinds of needles in a part of the content, look at this many cores at most."""

DECODED = frozenset[Kind](("run", "stream"))
"""Needles of these kinds mark a long text to decode. Needles of the other kinds mark a single token."""

ALWAYS_LISTED = frozenset[Kind](("stream",))
"""The kinds of needles that are always listed one by one, however many there are."""

RUN_STRIDE = 64
RUN_SAMPLES = 32
LONG_RUN = RUN_STRIDE * (RUN_SAMPLES + 1)
"""A string of at least this many base64 letters is always noticed, even if it contains no needle."""

Hit = tuple[int, Needle]
_Find = Callable[[bytes | memoryview], list[tuple[int, int, int]]]

_OTHER_BYTES = bytes(
    0 if chr(byte).isascii() and (chr(byte).isalnum() or byte in b"+/-_\\\r\n") else 1 for byte in range(256)
)
# Line breaks in JSON are escaped (`\n`, `\r`). Any other backslash ends the base64 text.
_ESCAPED_BREAKS = (b"\\n", b"\\r")
# A backslash needs a next byte here, so `run_start` ignores one at the offset from which it searches backwards.
_NO_BREAK = re.compile(rb"\\(?=[^nr\\])")
_PLAIN_RUN = re.compile(rb"[0-9A-Za-z+/_\-\r\n]{%d}" % RUN_STRIDE)
_BACK_BYTES = 2 * RUN_STRIDE * RUN_SAMPLES
_RUN_MARK = bytes(RUN_SAMPLES)
_BETWEEN_SPOTS = RUN_SAMPLES * RUN_STRIDE


class Automaton(NamedTuple):
    """An Aho-Corasick automaton, which searches for up to 64 byte strings (cores) at the same time.

    Attributes:
        find: Returns each core in the content as (position in `cores`, start, end).
        covered: For each core, the offsets and texts of other cores that may begin inside it. `find` skips these.
    """

    find: _Find
    cores: tuple[Core, ...]
    covered: tuple[tuple[tuple[int, tuple[bytes, ...]], ...], ...]
    by_text: Mapping[bytes, Core]
    longest: int


class Window(NamedTuple):
    """A part of the content, `content[begin:end]`, and the needles (first bytes of an encoded token) found in it.

    Attributes:
        hits: The offset and the needle for each needle found, in any order, without the kinds in `crowded`.
        crowded: The kinds of needles that occur too often to be examined one by one.
        run_spots: Offsets that may be inside long strings of base64 letters, in ascending order.
        cores: The number of cores (parts of needles) found.
    """

    begin: int
    end: int
    hits: list[Hit]
    crowded: frozenset[Kind]
    run_spots: Sequence[int]
    cores: int = 0


@derived_from_formats
def automata() -> tuple[Automaton, ...]:
    """Return the automata that search for the first bytes of tokens in all encodings."""
    return tuple(map(_automaton, core_groups()))


def _automaton(cores: tuple[Core, ...]) -> Automaton:
    from ahocorasick_rs import BytesAhoCorasick, MatchKind

    texts = [core.text for core in cores]
    # LeftmostFirst is thirty times faster than the default, but omits overlapping matches, which `_hidden` finds.
    built = BytesAhoCorasick(texts, matchkind=MatchKind.LeftmostFirst)
    covered = tuple(tuple(_covered(text, texts)) for text in texts)
    return Automaton(
        built.find_matches_as_indexes, cores, covered, dict(zip(texts, cores, strict=True)), max(map(len, texts))
    )


def _covered(text: bytes, others: Sequence[bytes]) -> Iterator[tuple[int, tuple[bytes, ...]]]:
    """Yield each offset inside `text` at which other byte strings may begin, with these strings."""
    for cut in range(1, len(text)):
        rest = text[cut:]
        if beginning := tuple(other for other in others if other.startswith(rest) or rest.startswith(other)):
            yield cut, beginning


def windows(content: bytes, *, with_run_spots: bool = False) -> Iterator[Window]:
    """Yield, in order, the parts of `content` that may have the beginning of a token, each of at most WINDOW bytes."""
    size = len(content)
    view = memoryview(content) if size > WINDOW else None
    searched, overlap = automata(), longest_core() - 1
    for begin in range(0, size, WINDOW):
        end = min(begin + WINDOW, size)
        part = content if view is None else view[begin : end + overlap]
        hits, crowded, cores = _hits_in(searched, content, part, begin, end)
        # Do this after `_hits_in`, because this part of the content is then in the processor's cache.
        run_spots = sampled_runs_in(content, begin) if with_run_spots else ()
        if hits or crowded or run_spots:
            yield Window(max(0, begin - longest_needle()) if crowded else begin, end, hits, crowded, run_spots, cores)


def _hits_in(
    searched: Sequence[Automaton], content: bytes, part: bytes | memoryview, begin: int, end: int
) -> tuple[list[Hit], frozenset[Kind], int]:
    """Return the needles found in `content[begin:end]`, the kinds that occur too often, and the number of cores."""
    hits: list[Hit] = []
    cores = 0
    crowded: frozenset[Kind] = frozenset()
    for automaton in searched:
        found = automaton.find(part)
        if not found:
            continue
        cores += len(found)
        if len(found) > CROWDED:
            crowd = _crowd(automaton, found, content, begin)
            crowded |= crowd
            listed = {at for at, core in enumerate(automaton.cores) if not _kinds(core) <= crowd}
            found = [one for one in found if one[0] in listed]
        hits += hits_of(automaton, found, content, begin, end)
    return [hit for hit in hits if hit[1].kind not in crowded] if crowded else hits, crowded, cores


def hits_of(automaton: Automaton, found: list[tuple[int, int, int]], content: bytes, begin: int, end: int) -> list[Hit]:
    """Return the offset and needle of each needle (first bytes of an encoded token) in `content[begin:end]`.

    Args:
        found: The byte strings found, as (position in `automaton.cores`, start, end), with offsets relative to `begin`.
    """
    cores, covered = automaton.cores, automaton.covered
    limit, size = end - begin, len(content)
    hits: list[Hit] = []
    for at, start, stop in found:
        if start >= limit:
            continue
        core = cores[at]
        _, needle, views, before, refuted = core
        start += begin
        stop += begin
        if needle is not None:
            if refuted is None or refuted.match(content, start) is None:
                hits.append((start, needle))
        elif (stop < size and content[stop] in views) or (before and (not start or content[start - 1] in before)):
            hits += _needles_around(core, content, start)
        for cut, texts in covered[at]:
            if content.startswith(texts, start + cut):
                hits += _hidden(content, start + cut, texts, automaton)
    return hits


def _needles_around(core: Core, content: bytes, at: int) -> Sequence[Hit]:
    """Return the offset and needle of each needle around the core at offset `at`."""
    hits: list[Hit] = []
    stop = at + len(core.text)
    following = core.views.get(content[stop], ()) if stop < len(content) else ()
    for ahead, length, needles_of in (*following, *core.views.get(AT_END, ())):
        start = at - ahead
        if start >= 0 and (found := needles_of.get(content[start : start + length])) is not None:
            needle, needle_ahead = found
            hits.append((at - needle_ahead, needle))
    return hits


def _kinds(core: Core) -> frozenset[Kind]:
    """Return the kinds of the needles that contain the byte string `core`."""
    if core.needle is not None:
        return frozenset((core.needle.kind,))
    views = chain.from_iterable(core.views.values())
    return frozenset(needle.kind for view in views for needle, _ in view.needles.values())


def _crowd(automaton: Automaton, found: list[tuple[int, int, int]], content: bytes, begin: int) -> frozenset[Kind]:
    """Return the kinds of needles that may occur more than CROWDED times."""
    times = Counter(map(itemgetter(0), found))
    counts: Counter[Kind] = Counter()
    for at, count in times.items():
        for kind in _kinds(automaton.cores[at]):
            counts[kind] += count
    # `find` skips a core inside a longer one. Look for it at some of the places where the longer core was found.
    covering = {at for at in times if automaton.covered[at]}
    stride = 1 + len(found) // _MAX_COUNTED
    for at, start, _ in found[::stride] if covering else ():
        if at in covering:
            for cut, texts in automaton.covered[at]:
                if content.startswith(texts, begin + start + cut):
                    for text in texts:
                        for kind in _kinds(automaton.by_text[text]):
                            counts[kind] += stride
    return frozenset(kind for kind, count in counts.items() if count > CROWDED and kind not in ALWAYS_LISTED)


def _hidden(content: bytes, begin: int, texts: Sequence[bytes], automaton: Automaton) -> Sequence[Hit]:
    core = automaton.by_text[next(text for text in texts if content.startswith(text, begin))]
    return _needles_around(core, content, begin) if core.needle is None else ((begin, core.needle),)


@derived_from_formats
def longest_core() -> int:
    """Return the length in bytes of the longest byte string that the automata search for."""
    return max(automaton.longest for automaton in automata())


@derived_from_formats
def longest_needle() -> int:
    """Return the length in bytes of the longest needle (the first bytes of an encoded token)."""
    return max(len(needle.text) for needle in needles())


def may_hold(content: bytes) -> bool:
    """Return whether `content` may have a token outside containers and long strings of base64 letters."""
    if len(content) <= WINDOW:
        return _is_core_in(content)
    view, size = memoryview(content), WINDOW + longest_core() - 1
    # Search part by part, to stop early in a content full of matches.
    return any(_is_core_in(view[begin : begin + size]) for begin in range(0, len(content), WINDOW))


def _is_core_in(part: bytes | memoryview) -> bool:
    # `any` with a generator would cost as much as the search of a small file.
    for find in _searches():  # noqa: SIM110
        if find(part):
            return True
    return False


@derived_from_formats
def _searches() -> tuple[_Find, ...]:
    return tuple(automaton.find for automaton in automata())


def cores_in(content: bytes) -> list[list[tuple[int, int, int]]] | None:
    """Return what each automaton finds in a content of at most WINDOW bytes.

    Return None if the content certainly has no token outside containers.
    """
    found = []
    # A list comprehension would cost a twentieth of the search of a small file.
    for find in _searches():
        found.append(find(content))  # noqa: PERF401
    if any(found):
        return found
    may_be_run = len(content) >= LONG_RUN and _RUN_MARK in content[::RUN_STRIDE].translate(_OTHER_BYTES)
    return found if may_be_run else None


def hit_offsets(content: bytes) -> list[int]:
    """Return the sorted offsets at which an encoded token or a long string of base64 letters may be.

    Where there are too many such offsets, return evenly spaced offsets instead.
    """
    offsets: list[int] = []
    for window in windows(content, with_run_spots=True):
        offsets += [start for start, _ in window.hits]
        offsets += window.run_spots
        if window.crowded:
            offsets += range(window.begin, window.end, min_token_length())
    return sorted(offsets)


def long_run_spots(content: bytes) -> list[int]:
    """Find strings of at least LONG_RUN base64 letters, also across line breaks. Return some offsets inside each of
    them.
    """
    spots: list[int] = []
    for begin in range(0, len(content), WINDOW):
        spots += long_runs_in(content, begin)
    return spots


def long_runs_in(content: bytes, begin: int) -> list[int]:
    """Return offsets inside long strings of base64 letters, in the WINDOW bytes from offset `begin` on."""
    return [spot for spot in sampled_runs_in(content, begin) if is_run_at(content, spot)]


def sampled_runs_in(content: bytes, begin: int) -> Sequence[int]:
    """Return offsets that may be inside long strings of base64 letters, in ascending order.

    Only WINDOW bytes from offset `begin` on are searched. Use `is_run_at` to check a returned offset.
    """
    if len(content) - begin < LONG_RUN:
        return ()
    samples = content[begin : begin + WINDOW + LONG_RUN : RUN_STRIDE].translate(_OTHER_BYTES)
    if _RUN_MARK not in samples:
        return ()
    spots: list[int] = []
    first = samples.find(_RUN_MARK)
    while first >= 0:
        stop = samples.find(b"\x01", first)
        stop = stop if stop >= 0 else len(samples)
        # Only every RUN_STRIDE-th byte was tested, so other bytes may be between the base64 letters. Return several
        # offsets, so that every base64 text of at least LONG_RUN letters contains one of them.
        spots += range(begin + first * RUN_STRIDE, begin + stop * RUN_STRIDE, _BETWEEN_SPOTS)
        first = samples.find(_RUN_MARK, stop)
    return spots


def is_run_at(content: bytes, spot: int) -> bool:
    """Return whether the 64 bytes from offset `spot` on are only base64 letters and line breaks."""
    if _PLAIN_RUN.match(content, spot) is not None:
        return True
    sample = content[spot : spot + RUN_STRIDE]
    if b"\\" in sample:
        for escaped in _ESCAPED_BREAKS:
            sample = sample.replace(escaped, b"")
        # Ignore a backslash at the end, because it may belong to an escaped line break.
        if b"\\" in sample.rstrip(b"\\"):
            return False
    return b"\x01" not in sample.translate(_OTHER_BYTES)


def run_start(content: bytes, first: int, spot: int) -> int:
    """Return the offset, at least `first`, at which the string of base64 letters around `spot` begins."""
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

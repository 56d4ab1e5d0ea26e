"""A quick search for tokens, without opening archives or decoding long texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from scanner.detection.containers.picture_runs import PNG, Picture, picture_at
from scanner.detection.containers.recognition import container_kind, is_ascii_text, signed_kind
from scanner.detection.encodings.recognition import findings_at
from scanner.detection.encodings.runs import nested_is_likely_at, run_spots, stream_begins_at
from scanner.detection.findings import Finding, distinct
from scanner.detection.patterns.matcher import (
    CROWDED,
    WINDOW,
    Hit,
    automata,
    cores_in,
    hits_of,
    is_run_at,
    longest_core,
    may_hold,
    run_start,
    sampled_runs_in,
)
from scanner.detection.patterns.token_formats import has_right_checksum
from scanner.detection.patterns.token_patterns import plain_matches
from scanner.detection.wide import wide_codec

MAX_LOOKS = 512
"""The maximum number of needles in a small document that are examined one by one."""

BYTES_PER_LOOK = 4096
"""In a large document, the maximum number of needles to examine is the document's size divided by this number."""

CHUNKS_PER_LOOK = 4
"""This many chunks of a picture in base64 count as one needle. A chunk takes 2 µs, and a needle up to 50 µs."""

MAX_PICTURE_TEXT = 2048
"""A picture in base64 is skipped only if it has at most this many bytes of text."""

MAX_PLAIN_FINDINGS = 64
"""The maximum number of tokens that `plain_only` returns. A file with more is read in depth."""

MAX_FALLBACK_TOKENS = 1000
"""The maximum number of different plain tokens that are returned for a content that could not be read in depth."""

_ZEROS = bytes(WINDOW + 4096)
"""Zero bytes to compare with a part of a sparse file, which is faster than searching."""

Reason = Literal["", "container", "wide_text", "long_run", "encoded", "many_hits", "not_examined"]


class PlainVerdict(NamedTuple):
    """The result of the quick search.

    Attributes:
        reason: Why the content must also be read in depth (archives opened, texts decoded), or empty.
        findings: Every token in the content, without line and column; empty if `reason` is set.
    """

    findings: tuple[Finding, ...] = ()
    reason: Reason = ""

    @property
    def needs_reader(self) -> bool:
        """Whether archives must be opened or texts decoded in the content."""
        return bool(self.reason)


CLEAN = PlainVerdict()
NOT_EXAMINED = PlainVerdict(reason="not_examined")
"""The result for a content that must be read in depth without a quick search before."""


def plain_only(content: bytes) -> PlainVerdict:
    """Search the content quickly for tokens. Never raises an exception.

    The search ends when archives must be opened or texts decoded.
    """
    if is_ascii_text(content):
        kind = signed_kind(content)
    elif wide_codec(content) is not None:
        return PlainVerdict(reason="wide_text")
    else:
        kind = container_kind(content)
    if kind is not None:
        return PlainVerdict(reason="container")
    size = len(content)
    cores = cores_in(content) if size <= WINDOW else ()
    if cores is None:
        return CLEAN
    findings: list[Finding] = []
    looks = max(MAX_LOOKS, size // BYTES_PER_LOOK)
    view = memoryview(content) if size > WINDOW else None
    covered = 0
    for begin in range(0, size, WINDOW):
        if content.startswith(_ZEROS, begin):
            continue
        for spot in sampled_runs_in(content, begin):
            if spot >= covered and is_run_at(content, spot):
                picture = _plain_picture(content, covered, spot, looks)
                if picture is None:
                    return PlainVerdict(reason="long_run")
                covered = picture.end
                looks -= -(-picture.chunks // CHUNKS_PER_LOOK)
        end = min(begin + WINDOW, size)
        part = content if view is None else view[begin : end + longest_core() - 1]
        for number, automaton in enumerate(automata()):
            found = cores[number] if cores else automaton.find(part)
            if not found:
                continue
            hits = hits_of(automaton, found, content, begin, end) if len(found) <= CROWDED else ()
            looks -= len(hits)
            if len(found) > CROWDED or looks < 0:
                return PlainVerdict(reason="many_hits")
            for hit in hits:
                tokens = _tokens_at(content, hit)
                if tokens is None:
                    return PlainVerdict(reason="encoded")
                findings += tokens
        if len(findings) > MAX_PLAIN_FINDINGS:
            return PlainVerdict(reason="many_hits")
    return PlainVerdict(tuple(distinct(findings))) if findings else CLEAN


def _tokens_at(content: bytes, hit: Hit) -> Sequence[Finding] | None:
    """Return the tokens at a match, or None if the content must be scanned with all decoders."""
    start, needle = hit
    kind = needle.kind
    if kind == "run":
        return None if nested_is_likely_at(content, start, needle.lead) else ()
    if kind == "stream":
        return None if stream_begins_at(content, start + needle.lead) else ()
    found = [finding for finding in findings_at(content, start, kind) if has_right_checksum(finding.token)]
    return None if found and kind != "token" else found


def _plain_picture(content: bytes, first: int, spot: int, looks: int) -> Picture | None:
    """Return the base64 PNG picture around offset `spot` if its texts have no token, otherwise None."""
    begin = run_start(content, first, spot)
    while begin < spot and content[begin] in b"\r\n":
        begin += 1
    picture = picture_at(content, begin, chunks=CHUNKS_PER_LOOK * looks, text_bytes=MAX_PICTURE_TEXT)
    return picture if picture is not None and _has_dull_texts(picture.texts) else None


def _has_dull_texts(picture: bytes) -> bool:
    """Return whether all text chunks of a PNG picture are uncompressed and have no token."""
    at = len(PNG)
    while at < len(picture):
        size, kind = int.from_bytes(picture[at : at + 4]), picture[at + 4 : at + 8]
        text = picture[at + 8 : at + 8 + size].partition(b"\0")[2]
        at += 12 + size
        if kind != b"tEXt" or container_kind(text) is not None or may_hold(text) or run_spots(text):
            return False
    return True


def fallback_tokens(content: bytes) -> list[Finding]:
    """Return the first MAX_FALLBACK_TOKENS different tokens in plain text.

    Call this if the archives and encoded texts in the content could not be read.
    """
    found: dict[bytes, Finding] = {}
    for match in plain_matches(content):
        if has_right_checksum(match[0]):
            found.setdefault(match[0], Finding(match[0], match.start(), match.end()))
        if len(found) >= MAX_FALLBACK_TOKENS:
            break
    return list(found.values())

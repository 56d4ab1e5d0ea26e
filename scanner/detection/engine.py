"""Finds all raw tokens in a document, also in archives, compressed files and encoded texts inside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import regex

from scanner.detection.containers.media import is_media, needs_opening
from scanner.detection.containers.members import (
    Chained,
    Container,
    Member,
    Readable,
    Source,
    UnreadableError,
    read_up_to,
)
from scanner.detection.containers.recognition import container_kind, is_compressed, is_streamed, members_of
from scanner.detection.containers.signatures import ContainerKind
from scanner.detection.encodings.decoded_runs import Run
from scanner.detection.encodings.recognition import findings_of, plain_tokens
from scanner.detection.encodings.runs import long_runs, run_spots, runs_in
from scanner.detection.findings import Finding, Segments, distinct, located, wrapped
from scanner.detection.limits import LimitReachedError, Meter
from scanner.detection.patterns.matcher import Window, may_hold, windows
from scanner.detection.patterns.token_patterns import plain_prefixes
from scanner.detection.wide import wide_codec, wide_pieces

_CARRY = 32 << 10
"""The number of bytes at the end of one piece that are read again at the beginning of the next piece."""

UNOPENED = b""
"""The token of a finding that only marks a part of a text which was not opened: see `Limits.opens`."""

_PROVEN_BYTES = 1024
"""A stream in base64 that fails after fewer decompressed bytes was no stream. The error does not count as damage."""

_TAG = regex.compile(rb"<[^<>]{0,4096}+>")


class Glance(NamedTuple):
    """The parts of the content that may contain a token.

    Attributes:
        windows: The parts of the content to search. The iterator can be used only once.
        short_runs: The offsets of base64 texts, if the content itself was decoded from base64 or hex.
        codec: The codec of UTF-16 or UTF-32.
        kind: The container format of an archive or compressed file.
    """

    windows: Iterator[Window]
    short_runs: list[int]
    codec: str | None
    kind: ContainerKind | None


def glance(content: bytes, *, inside_run: bool = False) -> Glance | None:
    """Return the parts of the content that may contain a token, or None if it certainly contains no token."""
    found = windows(content, with_run_spots=not inside_run)
    first = next(found, None)
    # Look for short base64 texts in decoded content, because text is often encoded twice.
    short_runs = run_spots(content) if inside_run else []
    codec = wide_codec(content)
    kind = container_kind(content)
    if first is None and not short_runs and codec is None and kind is None:
        return None
    return Glance(chain(() if first is None else (first,), found), short_runs, codec, kind)


def all_findings(content: bytes, name: str, meter: Meter, depth: int = 0, *, inside_run: bool = False) -> list[Finding]:
    """Return every token in the content and, if it is a container, in its members.

    Use `located` to add the line and column of tokens in the content itself.

    Args:
        depth: The number of containers and encodings around the content.
        inside_run: Whether the content was decoded from base64 or hex.
    """
    seen = glance(content, inside_run=inside_run)
    return [] if seen is None else findings_after(seen, content, name, meter, depth, inside_run=inside_run)


def findings_after(
    seen: Glance, content: bytes, name: str, meter: Meter, depth: int = 0, *, inside_run: bool = False
) -> list[Finding]:
    """Return every token in content that `glance` has examined. The other arguments are those of `all_findings`."""
    found = _text_findings_after(seen, content, meter, depth)
    if seen.kind is not None:
        inner = _opened(seen.kind, Container(name, content, meter), depth, inside_run=inside_run)
        # A token in an uncompressed file of an archive is found twice. Keep the finding with the file's name and line.
        known = {finding.token for finding in inner}
        found = [finding for finding in found if finding.token not in known] + inner
    return distinct(found)


def text_findings(content: bytes, meter: Meter, depth: int = 0) -> list[Finding]:
    """Return every token in a text, also in base64 and hex. Archives are not opened."""
    seen = glance(content)
    return [] if seen is None else _text_findings_after(seen, content, meter, depth)


def _text_findings_after(seen: Glance, content: bytes, meter: Meter, depth: int) -> list[Finding]:
    found: list[Finding] = []
    spots = list(seen.short_runs)
    done = 0
    try:
        for window in seen.windows:
            done = window.end
            spots += window.run_spots
            found.extend(_admitted(findings_of(content, window, meter), meter))
            found += _in_runs(runs_in(content, window, meter), meter, depth)
        found += _in_runs(long_runs(content, spots, meter), meter, depth)
    except LimitReachedError as stop:
        # The loop has searched the content up to offset `done`. Search the rest for plain tokens.
        meter.note_limit(stop)
        found.extend(_admitted(plain_tokens(content, done, len(content), meter), meter))
    if seen.codec is not None and depth >= meter.limits.depth:
        meter.note("container_depth")
    elif seen.codec is not None:
        for piece in wide_pieces(content, seen.codec):
            found += piece.outside(text_findings(piece.text, meter, depth + 1))
    return found


def _admitted(findings: Iterable[Finding], meter: Meter) -> Iterator[Finding]:
    """Yield the tokens that are within the document's limits."""
    return (finding for finding in findings if meter.admits(finding.token))


def _in_runs(runs: Iterator[Run], meter: Meter, depth: int) -> list[Finding]:
    """Return the tokens in decoded base64 and hex texts."""
    found: list[Finding] = []
    try:
        for run in runs:
            if depth >= meter.limits.depth:
                if container_kind(run.decoded) or may_hold(run.decoded):
                    meter.note("container_depth")
                continue
            found += run.outside(_in_run(run, meter, depth + 1))
    except LimitReachedError as stop:
        meter.note_limit(stop)
    return found


def _in_run(run: Run, meter: Meter, depth: int) -> list[Finding]:
    """Return the tokens in a decoded base64 or hex text."""
    decoded = run.decoded
    if not meter.limits.opens and needs_opening(decoded):
        return [Finding(UNOPENED, 0, len(decoded))]
    if not is_media(decoded):
        return all_findings(decoded, "content", meter, depth, inside_run=True)
    found: list[Finding] = []
    # In a picture or font, encoded tokens occur only by chance, so search for plain tokens only. If the picture was in
    # base64, the search for base64 tokens has already found its plain tokens.
    if run.encoding != "base64" and any(prefix in decoded for prefix in plain_prefixes()):
        found.extend(_admitted(plain_tokens(decoded, 0, len(decoded), meter), meter))
    kind = container_kind(decoded)
    if kind is not None:
        found += _opened(kind, Container("content", decoded, meter), depth, inside_run=True)
    return distinct(found)


def _opened(kind: ContainerKind, container: Container, depth: int, *, inside_run: bool) -> list[Finding]:
    """Return the tokens in the members of a container."""
    meter = container.meter
    found: list[Finding] = []
    damaged, expanded = meter.unread["damaged"], meter.expanded
    if depth >= meter.limits.depth:
        meter.note("container_depth")
        return found
    try:
        for member in members_of(kind, container):
            found += _in_member(kind, member, meter, depth, inside_run=inside_run)
    except LimitReachedError as stop:
        meter.note_limit(stop)
    except UnreadableError as stop:
        meter.note(stop.reason)
    except MemoryError:
        meter.note("memory")
    except Exception:  # noqa: BLE001 - libraries raise exceptions of many types on hostile bytes; they are counted
        meter.note("damaged")
    if inside_run and meter.expanded - expanded < _PROVEN_BYTES and meter.unread["damaged"] > damaged:
        # Very little was decompressed, so the content is no compressed data, and the error is no damage.
        meter.unread["damaged"] = damaged
        meter.unread += Counter()
    return found


def _in_member(kind: ContainerKind, member: Member, meter: Meter, depth: int, *, inside_run: bool) -> list[Finding]:
    if inside_run and is_compressed(kind):
        inner = _in_source(member, meter, depth + 1, inside_run=True)
        return [
            finding._replace(start=0, end=1, encoding=wrapped((member.encoding,), finding.encoding))
            for finding in inner
        ]
    inner = _in_source(member, meter, depth + 1, inside_run=False)
    named = [Finding(found.token, 0, 1, found.encoding) for found in text_findings(member.name.encode(), meter, depth)]
    return [finding._replace(start=0, end=1, members=(member.name, *finding.members)) for finding in (*inner, *named)]


def _in_source(member: Member, meter: Meter, depth: int, *, inside_run: bool) -> list[Finding]:
    """Return the tokens in a member (a file or part) of a container."""
    source: Source = member.source
    if not isinstance(source, bytes):
        head, stop = _first_piece(source, meter)
        if stop is None and len(head) == meter.limits.piece_bytes:
            return _in_large(member, head, source, meter, depth)
        if stop is not None:
            meter.note_limit(stop)
        source = head
    found = all_findings(source, member.name, meter, depth, inside_run=inside_run)
    if member.text_of_markup and source[:1] == b"<":
        found = distinct(found + _in_markup(source, found, meter, depth))
    return found if inside_run else list(located(found, source))


def _first_piece(source: Readable, meter: Meter) -> tuple[bytes, LimitReachedError | None]:
    """Read the next piece of a stream. Return the bytes, and the error if a limit was reached."""
    pieces: list[bytes] = []
    missing = meter.limits.piece_bytes
    try:
        while missing:
            piece = source.read(min(missing, 1 << 18))
            if not piece:
                break
            pieces.append(piece)
            missing -= len(piece)
    except LimitReachedError as stop:
        # Drop the traceback, because it would keep the pieces in memory until the garbage collector runs.
        return b"".join(pieces), stop.with_traceback(None)
    return b"".join(pieces), None


def _in_large(member: Member, head: bytes, rest: Readable, meter: Meter, depth: int) -> list[Finding]:
    """Return the tokens in a large member of a container, which begins with `head`."""
    kind = container_kind(head)
    if kind is not None:
        stream = Chained(head, rest)
        if is_streamed(kind):
            return _opened(kind, Container(member.name, stream, meter), depth, inside_run=False)
        content = read_up_to(stream, meter.limits.member_bytes)
        if len(content) < meter.limits.member_bytes:
            return list(located(all_findings(content, member.name, meter, depth), content))
        meter.note("member_size")
        head, rest = content, rest
    return _in_pieces(head, rest, meter, depth)


def _in_pieces(piece: bytes, rest: Readable, meter: Meter, depth: int) -> list[Finding]:
    """Return the tokens in a long text that is read piece by piece."""
    found: list[Finding] = []
    carried = lines = columns = 0
    stop: LimitReachedError | None = None
    while piece:
        here = [finding for finding in distinct(text_findings(piece, meter, depth)) if finding.end > carried]
        found += located(here, piece, lines, columns)
        if stop is not None:
            break
        done, carry = piece[:-_CARRY], piece[-_CARRY:]
        newlines = done.count(b"\n")
        columns = len(done) - done.rfind(b"\n") - 1 if newlines else columns + len(done)
        lines += newlines
        fresh, stop = _first_piece(rest, meter)
        carried = len(carry)
        piece = carry + fresh if fresh else b""
    if stop is not None:
        meter.note_limit(stop)
    return found


def _in_markup(source: bytes, found: list[Finding], meter: Meter, depth: int) -> list[Finding]:
    """Return the tokens that are interrupted by markup tags, except the tokens in `found`."""
    pieces = []
    at = 0
    for tag in _TAG.finditer(source):
        if tag.start() > at:
            pieces.append((at, tag.start()))
        at = tag.end()
    pieces.append((at, len(source)))
    text = b"".join(source[start:end] for start, end in pieces)
    known = {finding.token for finding in found}
    segments = Segments(pieces)
    return [
        finding._replace(
            start=segments.origin(finding.start),
            end=segments.origin(finding.end - 1) + 1,
            encoding=wrapped(("markup",), finding.encoding),
        )
        for finding in text_findings(text, meter, depth)
        if finding.token not in known
    ]

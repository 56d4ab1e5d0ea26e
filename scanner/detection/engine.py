"""The engine: it finds tokens by the matcher, the encodings, runs and containers.

It applies all of them again to the content that they decode. It knows no digests and no places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import regex

from scanner.detection.containers import container_kind, is_compressed, is_streamed, members_of
from scanner.detection.encodings import findings_of, plain_tokens
from scanner.detection.findings import Finding, Segments, distinct, located, wrapped
from scanner.detection.limits import LimitReachedError, Meter
from scanner.detection.matcher import Window, may_hold, windows
from scanner.detection.media import is_media, needs_opening
from scanner.detection.members import (
    Chained,
    Container,
    Member,
    Readable,
    Source,
    UnreadableError,
    read_up_to,
)
from scanner.detection.runs import Run, long_runs, run_spots, runs_in
from scanner.detection.signatures import ContainerKind
from scanner.detection.token_patterns import plain_prefixes
from scanner.detection.wide import wide_codec, wide_pieces

_CARRY = 32 << 10
"""Bytes at the end of one piece that are read again at the beginning of the next."""

UNOPENED = b""
"""The token of a finding that marks a span which was not opened: see `Limits.opens`."""

_PROVEN_BYTES = 1024
"""A stream inside a run must yield this many bytes before an error in it counts as damage.

A shorter stream is a coincidence.
"""

_TAG = regex.compile(rb"<[^<>]{0,4096}+>")


class Glance(NamedTuple):
    """Everything in a content that may contain a token.

    Most contents have nothing of the kind, and no Glance is made for them.

    `windows` can be iterated only once. `run_spots` is complete only after that iteration.
    """

    windows: Iterator[Window]
    run_spots: list[int]
    codec: str | None
    kind: ContainerKind | None


def glance(content: bytes, *, inside_run: bool = False) -> Glance | None:
    """Return what needs a closer look in `content`, or None if it contains no token. This searches every byte."""
    spots: list[int] = []
    hits = windows(content, None if inside_run else spots)
    first = next(hits, None)
    # Inside a decoded run, look at short runs too, because text that was encoded once is often encoded twice.
    if inside_run:
        spots = run_spots(content)
    codec = wide_codec(content)
    kind = container_kind(content)
    if first is None and not spots and codec is None and kind is None:
        return None
    return Glance(chain(() if first is None else (first,), hits), spots, codec, kind)


def all_findings(content: bytes, name: str, meter: Meter, depth: int = 0, *, inside_run: bool = False) -> list[Finding]:
    """Return every token in `content` and in its members. Each place is returned once.

    Findings outside a member have no line and column yet; see `located`.
    """
    seen = glance(content, inside_run=inside_run)
    return [] if seen is None else findings_after(seen, content, name, meter, depth, inside_run=inside_run)


def findings_after(
    seen: Glance, content: bytes, name: str, meter: Meter, depth: int = 0, *, inside_run: bool = False
) -> list[Finding]:
    """Return every token in a content for which `glance` returned `seen`; see `all_findings`."""
    found = _text_findings_after(seen, content, meter, depth)
    if seen.kind is not None:
        inner = _opened(seen.kind, Container(name, content, meter), depth, inside_run=inside_run)
        # A token in an uncompressed member is found twice. Keep the finding in the member, whose place is more exact.
        known = {finding.token for finding in inner}
        found = [finding for finding in found if finding.token not in known] + inner
    return distinct(found)


def text_findings(content: bytes, meter: Meter, depth: int = 0) -> list[Finding]:
    """Return every token in the text of `content` and in its decoded runs.

    The content itself is not opened as a container.
    """
    seen = glance(content)
    return [] if seen is None else _text_findings_after(seen, content, meter, depth)


def _text_findings_after(seen: Glance, content: bytes, meter: Meter, depth: int) -> list[Finding]:
    found: list[Finding] = []
    done = 0
    try:
        for window in seen.windows:
            done = window.end
            _admit(findings_of(content, window, meter), found, meter)
            _decode(runs_in(content, window, meter), found, meter, depth)
        _decode(long_runs(content, seen.run_spots, meter), found, meter, depth)
    except LimitReachedError as stop:
        # Plain tokens are read first in each window. So only the plain tokens of the windows after the last one are
        # missing.
        meter.note_limit(stop)
        _admit(plain_tokens(content, done, len(content), meter), found, meter)
    if seen.codec is not None and depth >= meter.limits.depth:
        meter.note("container_depth")
    elif seen.codec is not None:
        for piece in wide_pieces(content, seen.codec):
            found += piece.outside(text_findings(piece.text, meter, depth + 1))
    return found


def _admit(findings: Iterable[Finding], found: list[Finding], meter: Meter) -> None:
    """Add the findings that are within the document's limits to `found`."""
    found.extend(finding for finding in findings if meter.admits(finding.token))


def _decode(runs: Iterator[Run], found: list[Finding], meter: Meter, depth: int) -> None:
    """Add the tokens in the decoded runs to `found`. A reached limit ends the decoding and is counted."""
    try:
        for run in runs:
            if depth >= meter.limits.depth:
                if container_kind(run.decoded) or may_hold(run.decoded):
                    meter.note("container_depth")
                continue
            found += run.outside(_in_run(run, meter, depth + 1))
    except LimitReachedError as stop:
        meter.note_limit(stop)


def _in_run(run: Run, meter: Meter, depth: int) -> list[Finding]:
    """Return the tokens in a decoded run.

    In a picture or font, only plain tokens count, because needles of other encodings occur there by chance.
    """
    decoded = run.decoded
    if not meter.limits.opens and needs_opening(decoded):
        return [Finding(UNOPENED, 0, len(decoded))]
    if not is_media(decoded):
        return all_findings(decoded, "content", meter, depth, inside_run=True)
    found: list[Finding] = []
    # A plain token in base64 has its own needles and is found in the letters of the run.
    if run.encoding != "base64" and any(prefix in decoded for prefix in plain_prefixes()):
        _admit(plain_tokens(decoded, 0, len(decoded), meter), found, meter)
    kind = container_kind(decoded)
    if kind is not None:
        found += _opened(kind, Container("content", decoded, meter), depth, inside_run=True)
    return distinct(found)


def _opened(kind: ContainerKind, container: Container, depth: int, *, inside_run: bool) -> list[Finding]:
    """Return the tokens in the members of a container. Unreadable content is counted and never raises."""
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
    except Exception:  # noqa: BLE001 - libraries fail on hostile bytes in every way there is; it is counted, not hidden
        meter.note("damaged")
    if inside_run and meter.expanded - expanded < _PROVEN_BYTES and meter.unread["damaged"] > damaged:
        # The base64 letters only looked like the beginning of a stream, so do not count the error as damage.
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
    """Return the tokens in a member, with line and column in it unless it is part of a run."""
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
    """Return the first piece of a stream, and the limit that ended it early. The caller still scans the piece."""
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
        # Drop the traceback. It would keep the pieces in memory until the garbage collector finds the cycle of frames.
        return b"".join(pieces), stop.with_traceback(None)
    return b"".join(pieces), None


def _in_large(member: Member, head: bytes, rest: Readable, meter: Meter, depth: int) -> list[Finding]:
    """Return the tokens in a member larger than one piece.

    Containers that cannot be streamed are opened if they fit in memory.
    """
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
    """Return the tokens in a long text that is read piece by piece, with lines and columns in the whole text."""
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
    """Return the tokens that markup tags interrupt.

    Word processors write such tags when parts of a word are formatted differently.
    """
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

"""Search for long texts in base64 or hex, which are called runs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from operator import itemgetter

import regex

from scanner.detection.containers.media import is_media
from scanner.detection.containers.picture_runs import picture_at
from scanner.detection.encodings.decoded_runs import Run
from scanner.detection.encodings.encoded_lines import LINE_STARTS, EncodedLines, lines_at
from scanner.detection.encodings.encoded_streams import STREAM_STARTS, encoded_stream_at
from scanner.detection.encodings.number_dumps import begins_dump, dumps_at
from scanner.detection.encodings.run_streams import (
    BASE64_LETTERS,
    PROOF_BYTES,
    RUN_PIECE,
    begins_stream,
    decoded_base64,
)
from scanner.detection.limits import Meter
from scanner.detection.patterns.matcher import DECODED, LONG_RUN, Window, is_run_at, run_start
from scanner.detection.patterns.token_formats import derived_from_formats, max_token_length, min_token_length
from scanner.detection.patterns.token_patterns import plain_prefixes

NESTED_SPAN = 512
"""How many letters of a base64 text are decoded to search for base64 inside it."""

# Decode 160 letters to test for compressed data, and 4096 letters only if 160 are too few.
_HEAD_LETTERS = (160, 4096)
_ALL_SHIFTS = 4096
_MIN_LINE_LENGTH = 44
_JOINT = rb"(?:\\+[rn]|=?\r?\n[ \t]*+|\\?/|[\"'][\s+.,\\]{0,80}[\"']|(?<=[0-9A-Za-z+/]{40})[ ])(?=[0-9A-Za-z+/])"
_RUN = regex.compile(rb"(?:[0-9A-Za-z+/_-]++|" + _JOINT + rb")*+")
_LONGER_RUN = regex.compile(rb"[0-9A-Za-z+/_-]{7,}+(?:[0-9A-Za-z+/_-]++|" + _JOINT + rb")*+")
_LETTER = re.compile(rb"[0-9A-Za-z+/_-]")
_LETTERS_HERE = re.compile(rb"[0-9A-Za-z+/_-]*+")
_LINES = re.compile(rb"(?:[0-9A-Za-z+/_\-\r\n]++|\\++(?=[nr]))*+={0,2}")
_HEX_RUN = regex.compile(rb"[0-9A-Fa-f\s]++")
_MAX_GAP = 24
_MAX_GLUE = 64
"""Directly before a compressed stream in base64, there may be at most this many letters that do not belong to it."""

_NESTED_LOOK_STEPS = 300
_RUN_STEPS = 4
_INSIDE_STEPS = 400
_INSIDE_SPAN = 4096
_DUMP_START = b"00"
_HEAD_STEPS = 800
_HEAD_STEPS_PER_LETTER = 20
"""Each letter that is examined counts as this many steps of work, of ten nanoseconds each."""
_STEPS_PER_BREAK = 60
"""Each byte between the letters of base64 text, such as a line break, counts as this many steps of work."""

_LONG_PROOF_BYTES = 512
"""In a long base64 text, data counts as a compressed stream only if it decompresses to this many bytes."""

_NESTED_LOOK = 96
# `(?r)` makes this pattern match backwards, so that it fails at once if no line break is near.
_LINE_BEFORE = regex.compile(rb"(?r)[0-9A-Za-z+/]{40}(?:\\+[rn]|[\r\n])[\s\\\"'+,.]{0,40}[0-9A-Za-z+/_-]{0,64}")
_WIDE = rb"%c\x00"
_ALL_LETTERS = bytes(BASE64_LETTERS)
_OTHER_BYTES = bytes(byte not in BASE64_LETTERS for byte in range(256))
_RUN_SAMPLES = 6
"""A quick test reads evenly spaced bytes. In a long base64 text, at least this many in a row are base64 letters."""


@derived_from_formats
def min_run_length() -> int:
    """Return the number of base64 letters that encode the shortest possible token."""
    return -(-4 * min_token_length() // 3)


def _nested_letters(length: int) -> int:
    """Return the maximum number of letters of a token of `length` bytes that is encoded twice in base64."""
    for _ in range(2):
        length = 4 * -(-(length + 2) // 3)
    return length


@derived_from_formats
def _min_run() -> re.Pattern[bytes]:
    return re.compile(rb"[0-9A-Za-z+/_-]{%d}" % min_run_length())


@derived_from_formats
def _short_run() -> re.Pattern[bytes]:
    return re.compile(rb"[0-9A-Za-z+/_-]{%d,}+" % min_run_length())


@derived_from_formats
def _nested_likely() -> regex.Pattern[bytes]:
    wide = b"|".join(b"".join(_WIDE % byte for byte in prefix[:3]) for prefix in plain_prefixes())
    return regex.compile(rb"(?s:.){0,3}(?:[0-9A-Za-z+/_=\-\\\s\"']{24}|" + wide + rb")")


def runs_in(content: bytes, window: Window, meter: Meter) -> Iterator[Run]:
    """Yield the decoded base64, hex and similar texts that begin in `window`, a part of the content."""
    hits = [hit for hit in window.hits if hit[1].kind in DECODED]
    hits.sort(key=itemgetter(0))
    if "run" in window.crowded:
        yield from _crowded_runs(content, window, meter)
    covered = glued_until = -1
    # Base64 is decoded in groups of four letters, which may begin at any offset. Remember for each `begin % 4` how far
    # the content was decoded.
    decoded_until = [-1] * 4
    for start, needle in hits:
        if needle.kind == "run":
            begin = _group_start(content, start, -needle.lead)
            if begin < decoded_until[begin % 4]:
                continue
            meter.spend(_NESTED_LOOK_STEPS)
            if not nested_is_likely_at(content, start, needle.lead):
                continue
            raw = _RUN.match(content, begin, begin + NESTED_SPAN)
            if raw is not None:
                decoded = decoded_base64(raw[0])
                meter.decode(len(decoded))
                letters = RUN_PIECE.match(raw[0])
                decoded_until[begin % 4] = (
                    begin + (letters.end() if letters else 0) - _nested_letters(max_token_length())
                )
                yield Run(decoded, "base64", begin, raw[0])
        elif start > covered or start <= glued_until:
            begin = start + needle.lead
            meter.spend(_INSIDE_STEPS)
            start_of = content[begin : begin + 2]
            if start_of in LINE_STARTS or start_of == _DUMP_START:
                for block in _blocks_at(content, begin, meter):
                    covered = block.end
                    yield _paid_run(block, content, begin, meter)
                continue
            if _is_inside_run(content, begin):
                # This match is in the middle of a base64 text, so all matches in the rest of the line are too.
                line = _LETTERS_HERE.match(content, begin, begin + _INSIDE_SPAN)
                covered = line.end() if line is not None else begin
                continue
            if start_of in STREAM_STARTS:
                encoded = encoded_stream_at(content, begin, inflate=meter.limits.opens, meter=meter)
                if encoded is not None:
                    covered = encoded.end
                    yield _paid_run(encoded, content, begin, meter)
                continue
            run = _stream_run(content, begin, meter)
            if run is not None:
                # Base64 letters before a compressed stream can look like its beginning. So also test the matches
                # shortly after this one.
                glued_until = begin + _MAX_GLUE if start > covered else glued_until
                covered = begin + len(run.raw)
                yield run


def _blocks_at(content: bytes, begin: int, meter: Meter) -> Iterator[EncodedLines]:
    """Yield the decoded bytes of the uuencoded block, git patch or dump at offset `begin`."""
    if content[begin : begin + 2] != _DUMP_START:
        if (lines := lines_at(content, begin)) is not None:
            yield lines
        return
    yield from dumps_at(content, begin, meter)


def _paid_run(block: EncodedLines, content: bytes, begin: int, meter: Meter) -> Run:
    meter.decode(len(block.decoded))
    if block.is_cut:
        meter.note("member_size")
    return Run(block.decoded, block.encoding, begin, content[begin : block.end])


def _crowded_runs(content: bytes, window: Window, meter: Meter) -> Iterator[Run]:
    """Yield every decoded base64 text in a part of the content with very many base64 texts."""
    begin, end = max(0, window.begin - NESTED_SPAN), min(len(content), window.end + NESTED_SPAN)
    meter.spend(_RUN_STEPS * (end - begin))
    for match in _LONGER_RUN.finditer(content, begin, end):
        raw = match[0]
        if len(raw) < _nested_letters(min_token_length()) - 4:
            continue
        for phase in islice(_LETTER.finditer(raw), 4):
            part = raw[phase.start() :]
            decoded = decoded_base64(part)
            meter.decode(len(decoded))
            yield Run(decoded, "base64", match.start() + phase.start(), part)


def _group_start(content: bytes, start: int, letters: int) -> int:
    """Return the offset that is `letters` base64 letters before `start`."""
    begin = start
    while letters and begin and start - begin < _MAX_GAP:
        begin -= 1
        letters -= content[begin] in BASE64_LETTERS
    return begin


def nested_is_likely_at(content: bytes, start: int, lead: int) -> bool:
    """Return whether the base64 at `start` decodes to base64 again, or to the first bytes of a token in UTF-16.

    Args:
        lead: Where a group of four base64 letters begins. For example, -2 means two letters before `start`.
    """
    begin = _group_start(content, start, -lead)
    raw = _RUN.match(content, begin, begin + _NESTED_LOOK)
    return raw is not None and _nested_likely().match(decoded_base64(raw[0])) is not None


def stream_begins_at(content: bytes, begin: int) -> bool:
    """Return whether encoded data that may contain a token begins at offset `begin`, for example a stream in base64."""
    if content[begin : begin + 2] in LINE_STARTS:
        return lines_at(content, begin) is not None
    if content[begin : begin + 2] == _DUMP_START:
        return begins_dump(content, begin)
    if _is_inside_run(content, begin):
        return False
    if content[begin : begin + 2] in STREAM_STARTS:
        return encoded_stream_at(content, begin, inflate=True) is not None
    return any(_head_begins_stream(content, begin, letters) for letters in _HEAD_LETTERS)


def _head_begins_stream(content: bytes, begin: int, letters: int, *, inflate: bool = True) -> bool | None:
    head = _RUN.match(content, begin, begin + letters)
    return head is not None and begins_stream(decoded_base64(head[0]), inflate=inflate)


def _is_inside_run(content: bytes, begin: int) -> bool:
    """Return whether `begin` is inside a base64 text: after 64 base64 letters, or after a line with 40 at its end."""
    before = content[max(0, begin - _MAX_GLUE) : begin]
    if len(before) == _MAX_GLUE and not before.translate(None, _ALL_LETTERS):
        return True
    if b"\n" not in before and b"\\" not in before:
        return False
    return _LINE_BEFORE.match(content, max(0, begin - _MAX_GLUE - 2 * _MIN_LINE_LENGTH), begin) is not None


def _stream_run(content: bytes, begin: int, meter: Meter) -> Run | None:
    """Return the compressed stream in base64 that begins at `begin`, or None."""
    begins: bool | None = None
    for letters in _HEAD_LETTERS:
        head = _RUN.match(content, begin, begin + letters)
        size = head.end() - begin if head is not None else 0
        meter.spend(_HEAD_STEPS + _HEAD_STEPS_PER_LETTER * size)
        # Decoding all of a long base64 text is expensive, so require a stronger proof.
        proof = _LONG_PROOF_BYTES if size == letters else PROOF_BYTES
        opens = meter.limits.opens
        begins = begins_stream(decoded_base64(head[0]), inflate=opens, proof=proof) if head is not None else False
        if begins is not None or size < letters:
            break
    if not begins:
        return None
    most = meter.limits.member_bytes
    whole = _RUN.match(content, begin, begin + most)
    if whole is None:
        return None
    if whole.end() == begin + most:
        meter.note("member_size")
    meter.spend(_STEPS_PER_BREAK * len(whole[0].translate(None, _ALL_LETTERS)))
    decoded = decoded_base64(whole[0])
    meter.decode(len(decoded))
    return Run(decoded, "base64", begin, whole[0])


def long_runs(content: bytes, spots: list[int], meter: Meter) -> Iterator[Run]:
    """Yield the decoded base64 or hex texts of at least `min_run_length()` letters around the given offsets."""
    covered = -1
    for spot in spots:
        if spot < covered or not (is_run_at(content, spot) or _min_run().match(content, spot)):
            continue
        begin = run_start(content, max(covered, 0), spot)
        while begin < spot and content[begin] in b"\r\n":
            begin += 1
        picture = picture_at(content, begin)
        if picture is not None:
            covered = picture.end
            meter.decode(len(picture.texts))
            yield Run(picture.texts, "base64", begin, content[begin:covered])
            continue
        after = _LINES.match(content, spot)
        end = covered = after.end() if after is not None else spot
        while begin < end and content[begin] in b"\r\n":
            begin += 1
        if end - begin >= min_run_length() and _in_long_lines(content, begin, end):
            yield from _decoded_pieces(content, begin, end, meter)


def run_spots(content: bytes) -> list[int]:
    """Return the offsets of all base64 texts of at least `min_run_length()` letters."""
    # Testing a few bytes shows quickly that most binary contents have no long base64 text.
    samples = content[:: max(1, min_run_length() // _RUN_SAMPLES)]
    if bytes(_RUN_SAMPLES) not in samples.translate(_OTHER_BYTES):
        return []
    return [match.start() for match in _short_run().finditer(content)]


def _in_long_lines(content: bytes, begin: int, end: int) -> bool:
    """Return whether a base64 text has more than 44 letters per line on average."""
    breaks = content.count(b"\n", begin, end) + content.count(b"\\n", begin, end)
    return breaks * _MIN_LINE_LENGTH < end - begin


def _decoded_pieces(content: bytes, begin: int, end: int, meter: Meter) -> Iterator[Run]:
    """Yield a decoded base64 or hex text in overlapping pieces that fit into memory."""
    most = meter.limits.member_bytes // 4 * 4
    for at in range(begin, end, most):
        raw = content[at : min(end, at + most + 4 * LONG_RUN)]
        if _HEX_RUN.fullmatch(raw):
            digits = b"".join(raw.split())
            decoded = bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
            meter.decode(len(decoded))
            yield Run(decoded, "hex", at, raw)
            continue
        for shift in _shifts(raw):
            shifted = raw[shift:] if shift else raw
            decoded = decoded_base64(shifted)
            meter.decode(len(decoded))
            yield Run(decoded, "base64", at + shift, shifted)
            if is_media(decoded):
                # Decoding gave a picture or a font, so the other three possible beginnings are wrong.
                break


def _shifts(raw: bytes) -> Iterable[int]:
    """Return the possible numbers of letters (0 to 3) to skip before decoding a base64 text."""
    if len(raw) <= _ALL_SHIFTS:
        return range(4)
    if not raw.rstrip(b"\r\n").endswith(b"="):
        return (0,)
    breaks = sum(map(raw.count, (b"\r", b"\n"))) + 2 * sum(map(raw.count, (b"\\r", b"\\n")))
    return (0, shift) if (shift := (len(raw) - breaks) % 4) else (0,)

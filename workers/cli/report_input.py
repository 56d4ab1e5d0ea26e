"""Reads the input of `r8scan report`: a list of tokens and digests, or any other file."""

from __future__ import annotations

import io
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from scanner.compromise import reports
from scanner.compromise.reports import Subject
from scanner.detection import Detector, Digester
from scanner.detection.patterns.token_formats import is_token
from scanner.isolation import shared_pool
from workers.cli.errors import UserError
from workers.cli.scan_streams import scan_stream
from workers.cli.streams import BadLines

HEAD_BYTES = 64 << 10
"""How many bytes at the beginning of the input decide whether it is a list of tokens."""
BATCH = 1000
DIGEST_LINE = "digest"
"""The key of digests in `ReportInput.kinds`."""
_DIGEST = re.compile(r"[0-9a-fA-F]{64}")


@dataclass(slots=True)
class ReportInput:
    """What `r8scan report` found in its input.

    Attributes:
        kinds: The number of tokens in each encoding, such as `base64`. Digests are counted under the key DIGEST_LINE.
        bad: The lines of a list that contain neither a token nor a digest.
        unread: The number of parts that could not be read, by reason.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    bad: BadLines = field(default_factory=BadLines)
    unread: Counter[str] = field(default_factory=Counter)


def read(file: str, digester: Digester, take: Callable[[list[Subject]], None]) -> ReportInput:
    """Read the file and pass the tokens and digests in it to `take`, in batches.

    Args:
        file: The name of the file, or "-" for standard input.

    Raises:
        UserError: The file cannot be read.
    """
    detector = Detector(digester, reader=shared_pool())
    try:
        with _opened(file) as stream:
            head = _up_to(stream, HEAD_BYTES)
            whole: BinaryIO = io.BufferedReader(_Rejoined(head, stream))
            return _read_list(whole, detector, digester, take) if is_list(head) else _read_any(whole, detector, take)
    except OSError as err:
        # The user may have typed a token instead of a file name, so print only a name that looks like a path.
        name = file if "/" in file or "." in file else "the file"
        raise UserError(f"cannot read {name} ({err.strerror}): give its name, or - for standard input") from err


def is_list(head: bytes) -> bool:
    """Return whether at least half of the non-empty lines contain only a token or a digest."""
    text = head.decode("utf-8", "replace")
    lines = [line.strip("\ufeff \t\r") for line in text.split("\n")[: 1 if "\n" not in text else None]]
    lines = [line for line in lines if line]
    good = sum(is_token(line) or bool(_DIGEST.fullmatch(line)) for line in lines)
    return bool(lines) and 2 * good >= len(lines)


def _read_list(
    stream: BinaryIO, detector: Detector, digester: Digester, take: Callable[[list[Subject]], None]
) -> ReportInput:
    found = ReportInput()
    batch: list[Subject] = []
    text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape")
    for number, line in reports.read_lines(text, digester, else_find=lambda raw: _subjects(detector, raw)):
        if isinstance(line, reports.BadReport):
            found.bad.add(number, line)
            continue
        for subject, kind in line:
            found.kinds[kind] += 1
            batch.append(subject)
        if len(batch) >= BATCH:
            take(batch)
            batch = []
    take(batch)
    return found


def _read_any(stream: BinaryIO, detector: Detector, take: Callable[[list[Subject]], None]) -> ReportInput:
    read = scan_stream(detector, stream, "")
    found = ReportInput(unread=Counter(read.unread))
    subjects: dict[str, Subject] = {}
    for candidate in read.candidates:
        if candidate.digest not in subjects:
            subjects[candidate.digest] = Subject(candidate.digest, candidate.hint)
            found.kinds[candidate.encoding] += 1
    whole = list(subjects.values())
    for start in range(0, len(whole), BATCH):
        take(whole[start : start + BATCH])
    return found


def _subjects(detector: Detector, line: bytes) -> list[tuple[Subject, str]]:
    result = detector.scan_bytes(line)
    candidates = {candidate.digest: candidate for candidate in result.candidates} if result else {}
    return [(Subject(one.digest, one.hint), one.encoding) for one in candidates.values()]


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    if file == "-":
        yield sys.stdin.buffer
        return
    with Path(file).open("rb") as stream:
        yield stream


def _up_to(stream: BinaryIO, size: int) -> bytes:
    """Return the first `size` bytes of the stream, or all bytes of a shorter stream."""
    parts = b""
    while len(parts) < size and (part := stream.read(size - len(parts))):
        parts += part
    return parts


class _Rejoined(io.RawIOBase):
    """A stream that first returns the bytes in `head`, which were read before, and then the rest of the input."""

    def __init__(self, head: bytes, rest: BinaryIO) -> None:
        self._head, self._rest = memoryview(head), rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        part: Any = self._head[: len(buffer)]
        if part:
            self._head = self._head[len(part) :]
        else:
            part = self._rest.read(len(buffer))
        buffer[: len(part)] = part
        return len(part)

"""Lines of a stream, numbered and bounded: whoever writes a file of one endless line fills no memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO


def numbered_lines(file: TextIO, longest: int) -> Iterator[tuple[int, str | None]]:
    """Each line that is not empty with its number (from 1); None for one of more than `longest` characters."""
    number = 0
    while line := file.readline(longest + 1):
        number += 1
        if len(line) > longest and not line.endswith("\n"):
            _skip_rest(file, longest)
            yield number, None
        elif line.strip("\ufeff \t\r\n"):
            yield number, line


def _skip_rest(file: TextIO, longest: int) -> None:
    while True:
        rest = file.readline(longest + 1)
        if not rest or rest.endswith("\n"):
            return

"""Reads a text stream line by line, with a maximum line length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO


def numbered_lines(file: TextIO, max_length: int) -> Iterator[tuple[int, str | None]]:
    """Yield the number (from 1) and the text of each line that is not blank.

    Args:
        max_length: The maximum number of characters. For a longer line, None is yielded instead of its text.
    """
    number = 0
    while line := file.readline(max_length + 1):
        number += 1
        if len(line) > max_length and not line.endswith("\n"):
            _skip_rest(file, max_length)
            yield number, None
        elif line.strip("\ufeff \t\r\n"):
            yield number, line


def _skip_rest(file: TextIO, max_length: int) -> None:
    while True:
        rest = file.readline(max_length + 1)
        if not rest or rest.endswith("\n"):
            return

"""The input of commands that read lines, and the report of lines that the commands skip."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import typer

from workers.cli.errors import UserError


@contextmanager
def opened(file: str) -> Iterator[TextIO]:
    """Yield the file, or standard input for -, as text. Bytes that are not UTF-8 become lone surrogates.

    Raises:
        UserError: the file cannot be read.
    """
    if file == "-":
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
        yield sys.stdin
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(file).open(encoding="utf-8", errors="surrogateescape"))
        except OSError as err:
            # Do not print the name, because the user may have typed a token instead of a file name.
            raise UserError(f"cannot read the file ({err.strerror}): give its name, or - for standard input") from err
        yield stream


class BadLines:
    """The lines of the input that a command skips.

    `count` is their number. `numbers` has the line numbers of the first NAMED of them.
    """

    NAMED = 100

    def __init__(self) -> None:
        self.count = 0
        self.numbers: list[int] = []

    def add(self, number: int, reason: object) -> None:
        """Count a skipped line. Print the reason if at most NAMED lines were skipped so far."""
        self.count += 1
        if self.count <= self.NAMED:
            self.numbers.append(number)
            typer.echo(f"line {number} {reason}", err=True)

    def end(self) -> None:
        """Print how many lines were skipped without printing the reason."""
        if self.count > self.NAMED:
            typer.echo(f"… and {self.count - self.NAMED} more bad lines", err=True)

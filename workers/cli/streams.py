"""Opens the input of commands that read lines, and counts skipped lines."""

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
    """Yield the file as a text stream. The name "-" means standard input. Bytes that are not UTF-8 become lone
    surrogates.

    Raises:
        UserError: The file cannot be read.
    """
    if file == "-":
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
        yield sys.stdin
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(file).open(encoding="utf-8", errors="surrogateescape"))
        except OSError as err:
            raise UserError(f"cannot read {file} ({err.strerror}): give its name, or - for standard input") from err
        yield stream


class BadLines:
    """The invalid input lines that a command has skipped. `numbers` contains the numbers of the first ones, at most
    NAMED.
    """

    NAMED = 100

    def __init__(self) -> None:
        self.count = 0
        self.numbers: list[int] = []

    def add(self, number: int, reason: object) -> None:
        """Count a skipped line. Print its number and the reason, but for at most NAMED lines."""
        self.count += 1
        if self.count <= self.NAMED:
            self.numbers.append(number)
            typer.echo(f"line {number} {reason}", err=True)

    def end(self) -> None:
        """If not every skipped line was printed, print how many more there were."""
        if self.count > self.NAMED:
            typer.echo(f"… and {self.count - self.NAMED} more bad lines", err=True)

"""The input of commands that read lines: a file, or standard input for -."""

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
    """The text of the file, with bytes that are not UTF-8 as lone surrogates. UserError when it cannot be read."""
    if file == "-":
        sys.stdin.reconfigure(encoding="utf-8", errors="surrogateescape")  # type: ignore[union-attr]
        yield sys.stdin
        return
    with ExitStack() as stack:
        try:
            stream = stack.enter_context(Path(file).open(encoding="utf-8", errors="surrogateescape"))
        except OSError as err:
            # The name is not repeated: it may be a token that was given for a file.
            raise UserError(f"cannot read the file ({err.strerror}): give its name, or - for standard input") from err
        yield stream


class BadLines:
    """Lines that were left out: all are counted, the first are named."""

    NAMED = 100

    def __init__(self) -> None:
        self.count = 0
        self.numbers: list[int] = []

    def add(self, number: int, reason: object) -> None:
        """Count the line, and say on standard error why it was left out, unless too many were named already."""
        self.count += 1
        if self.count <= self.NAMED:
            self.numbers.append(number)
            typer.echo(f"line {number} {reason}", err=True)

    def end(self) -> None:
        """Say how many more there were."""
        if self.count > self.NAMED:
            typer.echo(f"… and {self.count - self.NAMED} more bad lines", err=True)

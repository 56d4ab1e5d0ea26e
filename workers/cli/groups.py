"""Typer commands and groups whose help text is wrapped at the terminal's width."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

_BRACES = re.compile(r"\{([^{}]*)\}|\[\[([^\[\]]*)\]\]")
_LINE_BREAK = re.compile(r"(?<!\n)\n(?!\n) *")


class Command(TyperCommand):
    """A typer command whose help text is its docstring, with the lines of each paragraph joined."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.help = _LINE_BREAK.sub(" ", inspect.cleandoc(self.help or ""))

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line. Arguments are written as NAME or [NAME]."""
        return [_BRACES.sub(_argument, piece) for piece in super().collect_usage_pieces(ctx)]


class Group(typer.Typer):
    """A typer group of commands. Without a command, it prints its help."""

    def __init__(self, summary: str) -> None:
        super().__init__(help=summary, no_args_is_help=True, add_completion=False, rich_markup_mode="rich")

    def command(self, name: str | None = None, **options: Any) -> Callable[[Any], Any]:
        """Return typer's decorator for a command, with `Command` as the command's default class."""
        return super().command(name, **{"cls": Command, **options})


def _argument(found: re.Match[str]) -> str:
    return found[1] if found[1] is not None else f"[{found[2]}]"

"""Typer commands and groups whose help text is wrapped at the terminal's width."""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import typer
from typer.core import TyperCommand

MIN_COLUMNS_OF_TABLES = 80
"""On a narrower terminal, the tables of the help would break words."""
_BRACES = re.compile(r"\{([^{}]*)\}|\[\[([^\[\]]*)\]\]")
_LINE_BREAK = re.compile(r"(?<!\n)\n(?!\n) *")


class Command(TyperCommand):
    """A typer command whose help text is its docstring, with the lines of each paragraph joined."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.help = _LINE_BREAK.sub(" ", inspect.cleandoc(self.help or ""))
        for param in self.params:
            vars(param)["display_type_rich"] = partial(_type_shown, param)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help: as tables, or as plain text on a narrow terminal."""
        if is_narrow():
            self.rich_markup_mode = None
        super().format_help(ctx, formatter)

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


def is_narrow() -> bool:
    """Return whether the terminal is too narrow for the tables of the help."""
    return shutil.get_terminal_size().columns < MIN_COLUMNS_OF_TABLES


def _type_shown(param: Any, ctx: Any) -> str | None:
    """Return the type of a parameter as the help shows it. A list of choices has spaces, at which it can be wrapped."""
    shown: str | None = type(param).display_type_rich(param, ctx)
    return shown.replace("|", " | ") if shown is not None and shown.startswith("<") else shown


def _argument(found: re.Match[str]) -> str:
    return found[1] if found[1] is not None else f"[{found[2]}]"

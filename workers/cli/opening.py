"""The context of a command: opened once, and closed at its end in any case."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scanner.settings import load_settings

if TYPE_CHECKING:
    from workers.context import Context


@contextmanager
def opened_context(*, read_dotenv: bool = True) -> Iterator[Context]:
    """Load the settings and yield a context, which opens database, token store and clients when they are first used.

    Args:
        read_dotenv: Also read `.env` in the working folder. Set it to False in commands that scan foreign folders.

    Raises:
        SettingsError: a setting is wrong.
    """
    from workers.context import Context  # late: importing it takes longer than most commands

    context = Context(load_settings(read_dotenv=read_dotenv))
    try:
        yield context
    finally:
        context.close()

"""How commands open what they work with: one context, closed at the end whatever happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from scanner.settings import load_settings

if TYPE_CHECKING:
    from workers.context import Context


@contextmanager
def opened_context(*, read_dotenv: bool = True) -> Iterator[Context]:
    """Load the settings and give a context: its database, token store and clients are opened when first used.

    Args:
        read_dotenv: read `.env` of the working folder as well, which may be a stranger's where a command scans.

    Raises:
        SettingsError: a setting is wrong.
    """
    from workers.context import Context  # late: importing it takes longer than most commands

    context = Context(load_settings(read_dotenv=read_dotenv))
    try:
        yield context
    finally:
        context.close()

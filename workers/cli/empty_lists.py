"""Builds the sentences that commands print instead of an empty list."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from scanner.settings import Settings
from workers.cli import output

MAX_VALUES = 200
"""If a column has more distinct values than this, none of them is suggested for the filter."""
MAX_NAMED = 20


def sentence(what: str, settings: Settings, *hints: str) -> str:
    """Return a sentence that says that the database contains none of `what`, followed by the hints.

    Args:
        what: A plural, such as "jobs of this kind".
        hints: Sentences to append, such as the results of `hint`.
    """
    # The database's name shows the operator whether the command uses the right database.
    from workers.health import machine  # only an empty list needs this import

    words = [f"No {what} in the database {machine.database(settings)}.", *hints]
    return output.plain(" ".join(word for word in words if word))


def hint(session: Session, option: str, value: str, column: InstrumentedAttribute[Any]) -> str:
    """Return a sentence that suggests other values for a filter, or "" if there is nothing to suggest.

    Args:
        option: The command-line option that sets the filter, such as "--what".
        value: The option's value.
        column: The database column that is filtered. It must have an index.
    """
    if not value:
        return ""
    values = _values(session, column)
    if not values or len(values) > MAX_VALUES or value in values:
        return ""
    by_small_letters = {one.lower(): one for one in values}
    close = get_close_matches(value.lower(), by_small_letters, 1)
    if close:
        return f"No entry has {option} {value}: did you mean {by_small_letters[close[0]]}?"
    more = " …" if len(values) > MAX_NAMED else ""
    return f"No entry has {option} {value}: it can be {', '.join(values[:MAX_NAMED])}{more}"


def _values(session: Session, column: InstrumentedAttribute[Any]) -> list[str]:
    """Return the distinct values of an indexed column in ascending order, at most MAX_VALUES + 1."""
    # Read one value at a time, because SELECT DISTINCT would read every row of a large table.
    found: list[str] = []
    last = session.execute(select(func.min(column))).scalar_one()
    while last is not None and len(found) <= MAX_VALUES:
        found.append(str(last))
        last = session.execute(select(func.min(column)).where(column > last)).scalar_one()
    return found

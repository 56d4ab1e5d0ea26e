"""The sentences that list commands print if they have no row to show."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from scanner.settings import Settings
from workers.cli import output

MAX_VALUES = 200
"""The number of values of a column that are compared with a wrong one. A column with more values gives no hint."""
MAX_NAMED = 20


def sentence(what: str, settings: Settings, *hints: str) -> str:
    """Return that there is none of `what` (a plural, such as "jobs of this kind"), in which database, and hints.

    An operator whose settings are not those of the service sees by the name that the command read another database.
    """
    from workers.health import machine  # late: a list with rows does not need it

    words = [f"No {what} in the database {machine.database(settings)}.", *hints]
    return output.plain(" ".join(word for word in words if word))


def hint(session: Session, option: str, value: str, column: InstrumentedAttribute[Any]) -> str:
    """Return a sentence about a filter that fits no row, or an empty text if some row has the value.

    Args:
        session: A reading transaction.
        option: The option that sets the filter, such as "--what".
        value: The value of the option. An empty value sets no filter.
        column: The column with which the filter compares the value. It needs an index.
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
    """Return the different values of an indexed column, in order, at most MAX_VALUES + 1.

    Ask for one value after the other. SELECT DISTINCT would read every row of a large table.
    """
    found: list[str] = []
    last = session.execute(select(func.min(column))).scalar_one()
    while last is not None and len(found) <= MAX_VALUES:
        found.append(str(last))
        last = session.execute(select(func.min(column)).where(column > last)).scalar_one()
    return found

"""The rows of `r8scan incidents list`. The filters and pages are those of the console's list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

from workers.cli import incident_records, output, words
from workers.cli.errors import WrongUsage
from workers.web.console.queries import incidents as queries
from workers.web.console.queries.incident_rows import Row
from workers.web.console.queries.incidents import NO_MAIL, BadFilter, Filter

ROWS_PER_PAGE = 200
MAX_COUNTED = 100_000
MAX_PLACES = 10_000_000
"""Other programs read the number of places from the JSON, so it is exact."""
COLUMNS = ("incident", "token", "account", "action", "detected", "disabled", "where", "places", "mail")
OPTIONAL = ("places", "disabled", "token", "account")
"""Columns that a narrow terminal does not show.

The action, the time, the place and the state of the owner's mail are always shown.
"""


class MailState(StrEnum):
    """The values of the option `--mail`: the state of the mail to the owner."""

    waiting = "waiting"
    sent = "sent"
    failed = "failed"
    none = NO_MAIL


def filter_of(given: Mapping[str, str | None]) -> Filter:
    """Return the filter of the console's list for these options of the command.

    Raises:
        UserError: a value is not understood.
    """
    try:
        return Filter.from_query({name: str(value) for name, value in given.items() if value})
    except BadFilter as err:
        raise WrongUsage(str(err)) from err


@dataclass(frozen=True, slots=True)
class NewestIncidents:
    """The newest incidents that a filter selects.

    `total` says how many incidents it selects, such as "1,200" or "more than 10,000". It is empty if `rows` has all.
    """

    rows: list[Row]
    total: str = ""


def newest(session: Session, wanted: Filter, limit: int | None) -> NewestIncidents:
    """Return the newest incidents that the filter selects.

    Args:
        session: A reading transaction.
        wanted: The filter.
        limit: The maximum number of incidents; None for all.
    """
    rows: list[Row] = []
    cursor = ""
    while limit is None or len(rows) < limit:
        size = ROWS_PER_PAGE if limit is None else min(ROWS_PER_PAGE, limit - len(rows))
        page = queries.page(session, wanted, cursor, rows=size, places=MAX_PLACES)
        rows += page.rows
        cursor = page.older
        if not cursor:
            return NewestIncidents(rows)
    total = queries.count(session, wanted, MAX_COUNTED)
    return NewestIncidents(rows, f"{total:,}" if total <= MAX_COUNTED else f"more than {MAX_COUNTED:,}")


def cells(row: Row, now: datetime) -> Sequence[Any]:
    """Return the cells of a row, in the order of COLUMNS."""
    incident = row.incident
    where = words.place(row.first) if row.first is not None else "reported"
    return (
        str(incident.id)[:8],
        incident.hint,
        incident.account_name,
        incident.action,
        output.ago(incident.detected_at, now),
        output.ago(incident.disabled_at, now),
        f"{where} and {row.places - 1} more" if row.places > 1 else where,
        row.places,
        ", ".join(row.mails) or "-",
    )


def as_json(session: Session, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yield each row as a JSON object, with the states of all mails, including those to the operator."""
    states = incident_records.mail_states(session, [row.incident for row in rows])
    for row in rows:
        incident = row.incident
        yield {
            **incident_records.summary(incident, states[incident.id], row.places),
            "repository": row.repository or None,
            "where": words.place(row.first) if row.first is not None else None,
        }

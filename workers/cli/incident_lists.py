"""Reads and formats the rows that `r8scan incidents list` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

from scanner.detection.digests import masked
from scanner.records.models import Exposure, Incident
from scanner.settings import Settings
from workers.cli import empty_lists, incident_records, output, words
from workers.cli.days import check_order
from workers.cli.errors import wrong_filter
from workers.web.console.queries import incidents as queries
from workers.web.console.queries.incident_rows import Row
from workers.web.console.queries.incidents import NO_MAIL, BadFilter, Filter

ROWS_PER_PAGE = 200
MAX_COUNTED = 100_000
MAX_PLACES = 10_000_000
"""The maximum number of places to count for an incident. It is high, because programs need the exact number."""
COLUMNS = ("incident", "token", "account", "action", "detected", "disabled", "where", "places", "mail")
OPTIONAL = ("places", "disabled", "token", "account")
"""The columns that a narrow terminal does not show."""


class MailState(StrEnum):
    """The allowed values of the option `--mail`. The value `none` means incidents without a mail."""

    waiting = "waiting"
    sent = "sent"
    failed = "failed"
    none = NO_MAIL


def filter_of(given: Mapping[str, str | None]) -> Filter:
    """Return the filter for the command's options. None and empty values are ignored.

    Raises:
        WrongUsage: A value is not allowed, or the days are in the wrong order.
    """
    check_order(given.get("since"), given.get("until"))
    try:
        return Filter.from_query({name: str(value) for name, value in given.items() if value})
    except BadFilter as err:
        raise wrong_filter(err) from err


@dataclass(frozen=True, slots=True)
class NewestIncidents:
    """The newest incidents that match a filter.

    Attributes:
        total: The number of all matching incidents, such as "1,200". Empty if `rows` contains all of them.
    """

    rows: list[Row]
    total: str = ""


def newest(session: Session, wanted: Filter, limit: int | None) -> NewestIncidents:
    """Return the newest incidents that match the filter, at most `limit`."""
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


def none(session: Session, wanted: Filter, settings: Settings) -> str:
    """Return the sentence to print if no incident matches the filter."""
    hints = (
        empty_lists.hint(session, "--account", wanted.account, Incident.account_name),
        empty_lists.hint(session, "--repository", wanted.repository, Exposure.repository_key),
        empty_lists.hint(session, "--source", wanted.source, Exposure.source),
    )
    return empty_lists.sentence("incidents of this kind" if wanted.to_query() else "incidents", settings, *hints)


def cells(row: Row, now: datetime) -> Sequence[Any]:
    """Return the table cells for an incident, in the order of COLUMNS."""
    incident = row.incident
    where = words.place(row.first) if row.first is not None else "reported"
    return (
        str(incident.id)[:8],
        masked(incident.hint, incident.digest),
        incident.account_name,
        incident.action,
        output.ago(incident.detected_at, now),
        output.ago(incident.disabled_at, now),
        f"{where} and {row.places - 1} more" if row.places > 1 else where,
        row.places,
        ", ".join(row.mails) or "-",
    )


def as_json(session: Session, rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """Yield a JSON object for each incident, with the states of its mails."""
    states = incident_records.mail_states(session, [row.incident for row in rows])
    for row in rows:
        incident = row.incident
        yield {
            **incident_records.summary(incident, states[incident.id], row.places),
            "repository": row.repository or None,
            "where": words.place(row.first) if row.first is not None else None,
        }

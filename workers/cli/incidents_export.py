"""Writes incidents as JSON or CSV, for `r8scan incidents export`."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, TextIO

from sqlalchemy.orm import Session

from scanner.records.models import Incident
from workers.cli import incident_records, output

COLUMNS = (
    *("id", "state", "action", "cause", "detected_at", "disabled_at", "hint", "sha256", "token_id", "token_name"),
    *("account", "mail", "kind", "repository", "path", "line", "commit", "url", "published_at", "seen_at"),
)
"""The columns of the CSV file."""

# Spreadsheets treat a cell that begins with one of these characters as a formula. Attackers can choose such names.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_json(out: TextIO, session: Session, incidents: Iterator[Incident]) -> int:
    """Write the incidents as a JSON array, one per line. Return their number."""
    count = 0
    out.write("[")
    for incident in incidents:
        out.write(",\n" if count else "\n")
        value = incident_records.whole(session, incident)
        out.write(output.json_text(value))
        count += 1
    out.write("\n]\n")
    return count


def write_csv(out: TextIO, session: Session, incidents: Iterator[Incident]) -> int:
    """Write a CSV row for each place where a token was found. Return the number of incidents."""
    # An incident without places, whose token was only reported, also gets a row.
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    count = 0
    for incident in incidents:
        states = incident_records.mail_states(session, [incident])[incident.id]
        for row in _rows(incident, ", ".join(sorted(states))):
            writer.writerow([_cell(value) for value in row])
        count += 1
    return count


def _rows(incident: Incident, mail: str) -> Iterator[Sequence[Any]]:
    incident_values = {**incident_records.summary(incident, set(), len(incident.exposures)), "mail": mail}
    for place in [incident_records.place(one) for one in incident.exposures] or [{}]:
        values = {**place, **incident_values}
        yield [values.get(column) for column in COLUMNS]


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    text = output.plain(value)
    return f"'{text}" if text.startswith(_FORMULA) else text

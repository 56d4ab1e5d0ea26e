"""The `r8scan audit` commands: list who did what, and check that the audit log was not changed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.records.audit_models import AuditEntry
from scanner.records.audit_verification import AuditBroken
from scanner.records.audit_verification import verify as verify_chain
from scanner.records.models import db_now
from scanner.settings import Settings, load_settings
from workers.cli import empty_lists, incident_records, output
from workers.cli.errors import UserError, wrong_filter
from workers.cli.groups import Group
from workers.cli.opening import opened_database
from workers.health.problems import counted
from workers.web.console.queries import lists
from workers.web.console.queries.incidents import BadFilter

MAX_EVIDENCE = 120
"""The maximum number of characters of an entry's evidence in the table."""

app = Group("Show who did what and on what evidence, and check that nobody has changed the audit.")


@app.command("list")
def list_(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The maximum number of rows, newest first.")] = 50,
    who: Annotated[str, typer.Option(help="A person or key, such as operator:ana.")] = "",
    what: Annotated[str, typer.Option(help="An action, such as brake_released or mail_sent.")] = "",
    incident: Annotated[str, typer.Option(help="The incident's id, or the beginning of it.")] = "",
    service: Annotated[bool, typer.Option("--service", help="Also list the actions of the service itself.")] = False,
) -> None:
    """List what people did, the newest first. With --incident or --what, also list what the service did.

    Example: r8scan audit list --what brake_released
    """
    settings = load_settings()
    with opened_database(settings) as database, database.read() as session:
        values = {"who": who, "what": what, "people": "" if service or what or incident else "1"}
        if incident:
            values["incident"] = str(incident_records.find(session, incident).id)
        entries = list(_newest(session, values, limit + 1))
        if as_json:
            output.json_lines(_fields(entry) for entry in entries[:limit])
            return
        now = session.execute(select(db_now())).scalar_one()
        rows = (_cells(entry, output.ago(entry.at, now)) for entry in entries[:limit])
        columns = ("when", "who", "what", "incident", "evidence")
        none = "" if entries else _none(session, settings, who, what.replace(" ", "_"))
        output.table("Audit", columns, rows, empty=none, optional=("evidence",))
    if len(entries) > limit:
        output.errors().print(f"the newest {limit:,} are shown: raise --limit to see more", markup=False)


@app.command()
def verify() -> None:
    """Check that no entry of the audit log was changed, removed, inserted or moved. Such a change breaks its hash
    chain.

    If the chain is broken, print the broken entry and exit with status 1. Store the last hash elsewhere: a person with
    write access to the database could compute the whole chain again, and only the stored hash would reveal it.

    Example: r8scan audit verify
    """
    with opened_database(load_settings()) as database:
        try:
            found = verify_chain(database)
        except AuditBroken as err:
            raise UserError(str(err)) from err
    typer.echo(
        f"{counted(found.entries, 'entry is as it was written', 'entries are as they were written')} "
        f"({found.purged} purged by age, {found.removed} removed with an account's data); "
        f"entry {found.last_id} is the last, with hash {found.last_hash}"
    )


def _newest(session: Session, values: dict[str, str], limit: int) -> Iterator[AuditEntry]:
    """Yield the newest audit entries that match the filter `values`, at most `limit`."""
    # Read the entries in pages, so that a large limit does not use much memory.
    before = ""
    while True:
        try:
            page = lists.audit_list(session, {**values, "before": before})
        except BadFilter as err:
            raise wrong_filter(err) from err
        yield from page.rows[:limit]
        limit -= len(page.rows)
        before = page.older
        if limit <= 0 or not before:
            return


def _none(session: Session, settings: Settings, who: str, what: str) -> str:
    hints = (
        empty_lists.hint(session, "--who", who.strip(), AuditEntry.who),
        empty_lists.hint(session, "--what", what.strip(), AuditEntry.what),
    )
    return empty_lists.sentence("audit entries of this kind", settings, *hints)


def _cells(entry: AuditEntry, when: str | None) -> tuple[Any, ...]:
    evidence = ", ".join(f"{key} {value}" for key, value in entry.evidence.items() if value not in (None, "", [], {}))
    shown = evidence if len(evidence) <= MAX_EVIDENCE else f"{evidence[: MAX_EVIDENCE - 1]}…"
    incident = str(entry.incident_id)[:8] if entry.incident_id else None
    return when, entry.who, entry.what.replace("_", " "), incident, shown


def _fields(entry: AuditEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "at": entry.at,
        "who": entry.who,
        "what": entry.what,
        "incident": str(entry.incident_id) if entry.incident_id else None,
        "evidence": entry.evidence,
    }

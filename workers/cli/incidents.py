"""`r8scan incidents`: what was found and what was done about it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from scanner.records.database import Database
from scanner.records.models import AuditEntry, Exposure, Incident, Notification, NotificationSubject
from scanner.settings import load_settings
from workers.cli import output
from workers.cli.errors import UserError

PLACES_SHOWN = 50

_OWN_COLUMNS = ("id", "incident_id", "place_key")

app = typer.Typer(help="What was found and what was done about it.", no_args_is_help=True)

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.command("list")
def list_(
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many.")] = 100,
) -> None:
    """List incidents, the newest first.

    Example: r8scan incidents list --json | jq -r .id
    """
    database = Database(load_settings().database_url.get_secret_value())
    with database.read() as session:
        statement = (
            select(Incident)
            .options(selectinload(Incident.exposures))
            .order_by(Incident.detected_at.desc(), Incident.id)
            .limit(limit)
        )
        incidents = session.execute(statement).scalars().all()
        if as_json:
            output.json_lines(_summary(session, incident) for incident in incidents)
        else:
            columns = ("incident", "token", "account", "action", "detected", "disabled", "places", "mail")
            output.table("Incidents", columns, _rows(session, incidents), empty="No incidents.")
    database.close()


@app.command()
def show(
    incident_id: Annotated[str, typer.Argument(help="The incident's id, or the beginning of it.")],
    as_json: JsonOption = False,
) -> None:
    """Show one incident: the token, every place, who was told.

    Example: r8scan incidents show 1f3c
    """
    database = Database(load_settings().database_url.get_secret_value())
    with database.read() as session:
        incident = _find(session, incident_id)
        if as_json:
            output.json_lines([_whole(session, incident)])
        else:
            _print(session, incident)
    database.close()


def _find(session: Session, wanted: str) -> Incident:
    try:
        found = session.get(Incident, uuid.UUID(wanted))
        if found is not None:
            return found
    except ValueError:
        pass
    prefix = wanted.lower().replace("-", "")
    matches: list[Incident] = []
    if prefix and all(char in "0123456789abcdef" for char in prefix):
        low, high = uuid.UUID(prefix[:32].ljust(32, "0")), uuid.UUID(prefix[:32].ljust(32, "f"))
        statement = select(Incident).where(Incident.id.between(low, high)).limit(2)
        matches = list(session.execute(statement).scalars())
    if len(matches) != 1:
        raise UserError(
            f"{'several incidents begin' if matches else 'no incident begins'} with {wanted}: see incidents list"
        )
    return matches[0]


def _notifications(session: Session, incident: Incident) -> list[tuple[Notification, str]]:
    statement = (
        select(Notification, NotificationSubject.occasion)
        .join(NotificationSubject)
        .where(NotificationSubject.incident_id == incident.id)
        .order_by(Notification.created_at)
    )
    return list(session.execute(statement))


def _rows(session: Session, incidents: Any) -> Iterator[tuple[Any, ...]]:
    for incident in incidents:
        told = ", ".join(sorted({notification.state for notification, _ in _notifications(session, incident)}))
        yield (
            str(incident.id)[:8],
            incident.hint,
            incident.account_name,
            incident.action,
            incident.detected_at,
            incident.disabled_at,
            len(incident.exposures),
            told or "-",
        )


def _summary(session: Session, incident: Incident) -> dict[str, Any]:
    return {
        "id": str(incident.id),
        "sha256": incident.digest,
        "hint": incident.hint,
        "token_id": incident.token_id,
        "token_name": incident.token_name,
        "account": incident.account_name,
        "cause": incident.cause,
        "action": incident.action,
        "state": incident.state,
        "detected_at": incident.detected_at,
        "disabled_at": incident.disabled_at,
        "exposures": len(incident.exposures),
        "notifications": [notification.state for notification, _ in _notifications(session, incident)],
    }


def _whole(session: Session, incident: Incident) -> dict[str, Any]:
    return {
        **_summary(session, incident),
        "signs": incident.evidence.get("signs", []),
        "exposures": [_place(exposure) for exposure in incident.exposures],
        "notifications": [
            {
                "id": str(notification.id),
                "channel": notification.channel,
                "occasion": occasion,
                "recipient": notification.recipient,
                "state": notification.state,
                "attempts": notification.attempts,
                "sent_at": notification.sent_at,
                "error": notification.error,
            }
            for notification, occasion in _notifications(session, incident)
        ],
    }


def _place(exposure: Exposure) -> dict[str, Any]:
    columns = (column.name for column in Exposure.__table__.columns if column.name not in _OWN_COLUMNS)
    return {name: getattr(exposure, name) for name in columns}


def _print(session: Session, incident: Incident) -> None:
    out = output.console()
    out.print(f"Incident {incident.id} ({incident.state})", style="bold")
    facts = (
        ("token", f"{incident.hint}  {incident.token_name}"),
        ("digest", incident.digest),
        ("account", incident.account_name),
        ("cause", incident.cause),
        ("action", incident.action),
        ("detected", incident.detected_at),
        ("disabled", incident.disabled_at),
    )
    for label, value in facts:
        out.print(f"  {label:<9} {output.plain(value)}", markup=False)
    places = incident.exposures
    rows = (
        (e.kind, e.repository, e.path, e.line or None, (e.commit or "")[:10], e.published_at, e.seen_at, e.url)
        for e in places[:PLACES_SHOWN]
    )
    output.table(
        f"Places ({len(places)})",
        ("kind", "repository", "path", "line", "commit", "public since", "seen", "address"),
        rows,
        empty="No place is recorded.",
    )
    notes = _notifications(session, incident)
    output.table(
        "Notifications",
        ("channel", "about", "to", "state", "attempts", "sent", "error"),
        ((n.channel, occasion, n.recipient, n.state, n.attempts, n.sent_at, n.error) for n, occasion in notes),
        empty="Nobody was told.",
    )
    entries = session.execute(
        select(AuditEntry).where(AuditEntry.incident_id == incident.id).order_by(AuditEntry.id)
    ).scalars()
    output.table(
        "Audit",
        ("at", "who", "what", "evidence"),
        ((entry.at, entry.who, entry.what, entry.evidence) for entry in entries),
        empty="No entry.",
    )

"""The `r8scan incidents` commands: list, show and export incidents, and act on them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, TextIO

import typer
from sqlalchemy import select
from sqlalchemy.orm import Session

from scanner.detection.digests import masked
from scanner.records.models import Incident, db_now
from scanner.records.states import Cause, Decision, IncidentState
from scanner.response import operator_actions
from scanner.response.timeline import timeline
from scanner.tokens.protocol import TokenRecord, TokenStore
from workers.cli import incident_lists, incident_records, incidents_export, output, words
from workers.cli.days import check_order, day, point_in_time
from workers.cli.errors import UserError
from workers.cli.groups import Group
from workers.cli.incident_lists import MailState
from workers.cli.opening import opened_context
from workers.cli.operators import operator_name
from workers.health.problems import counted
from workers.web.console.queries import incidents as queries
from workers.web.console.queries.incident_rows import rows_of

PLACES_SHOWN = 50

app = Group("List and show incidents, and act on them.")

ACTIONS = ", ".join(decision for decision in Decision if decision)
CAUSES = ", ".join(Cause)


class GroupBy(StrEnum):
    """The properties by which `r8scan incidents top` can count incidents."""

    repository = "repository"
    account = "account"
    source = "source"
    action = "action"


OUTSIDE = {GroupBy.repository: "(gists and other places outside of repositories)"}
"""What `incidents top` prints for incidents without a repository."""
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]
IdArgument = Annotated[
    str, typer.Argument(metavar="INCIDENT", help="The incident's id, the beginning of it, or the hint of its token.")
]
ReasonOption = Annotated[str, typer.Option(help="The reason, for the audit.")]


@app.command("list")
def list_(
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The maximum number of rows, newest first.")] = 100,
    show_all: Annotated[bool, typer.Option("--all", help="List all incidents.")] = False,
    state: Annotated[IncidentState | None, typer.Option(help="Open or closed.")] = None,
    action: Annotated[Decision | None, typer.Option(metavar="ACTION", help=f"What was done: {ACTIONS}.")] = None,
    cause: Annotated[
        Cause | None,
        typer.Option(
            metavar="CAUSE", help=f"Why the incident exists: {CAUSES}. public_repository means any public place."
        ),
    ] = None,
    account: Annotated[str, typer.Option(help="The account's name or id.")] = "",
    repository: Annotated[str, typer.Option(help="OWNER/NAME of a repository that contains the token.")] = "",
    source: Annotated[str, typer.Option(help="The source that found a place, such as public_events.")] = "",
    mail: Annotated[MailState | None, typer.Option(help="State of the owner's mail; none: no mail was queued.")] = None,
    since: Annotated[str, typer.Option(help="Detected from this day on: 2026-11-01, today, yesterday or 7d.")] = "",
    until: Annotated[str, typer.Option(help="Detected on this day or before.")] = "",
    search: Annotated[str, typer.Option("--search", "-q", help="The beginning of a hint, name, id or address.")] = "",
) -> None:
    """List incidents, the newest first. If not all are shown, standard error says how many there are.

    Examples: r8scan incidents list --since today --action disabled; r8scan incidents list --mail failed
    """
    given = {
        "state": state,
        "action": action,
        "cause": cause,
        "mail": mail,
        "account": account,
        "q": search,
        "repository": repository,
        "source": source,
        "since": day(since, "--since"),
        "until": day(until, "--until"),
    }
    wanted = incident_lists.filter_of(given)
    with opened_context() as context, context.database.read() as session:
        found = incident_lists.newest(session, wanted, None if show_all else limit)
        if as_json:
            output.json_lines(incident_lists.as_json(session, found.rows))
        else:
            now = session.execute(select(db_now())).scalar_one()
            cells = (incident_lists.cells(row, now) for row in found.rows)
            none = "" if found.rows else incident_lists.none(session, wanted, context.settings)
            output.table("Incidents", incident_lists.COLUMNS, cells, empty=none, optional=incident_lists.OPTIONAL)
    if found.total:
        output.errors().print(f"{len(found.rows):,} of {found.total} shown: --all shows all", markup=False)


@app.command()
def top(
    by: Annotated[
        GroupBy, typer.Argument(metavar="BY", help="repository, account, source or action")
    ] = GroupBy.repository,
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="The maximum number of rows, commonest first.")] = 20,
    since: Annotated[str, typer.Option(help="Detected from this day on: 2026-11-01, today, yesterday or 7d.")] = "",
    until: Annotated[str, typer.Option(help="Detected on this day or before.")] = "",
) -> None:
    """Count incidents by repository, account, source or action, the commonest first.

    Example: r8scan incidents top repository --since 30d
    """
    given = {"since": day(since, "--since"), "until": day(until, "--until")}
    with opened_context() as context, context.database.read() as session:
        wanted = incident_lists.filter_of(given)
        found = queries.commonest(session, wanted, by.value, limit)
        none = "" if found else incident_lists.none(session, wanted, context.settings)
    if as_json:
        output.json_lines({by.value: value, "incidents": number} for value, number in found)
        return
    rows = ((OUTSIDE.get(by, "-") if value is None else value, number) for value, number in found)
    output.table(f"Incidents by {by.value}", (by.value, "incidents"), rows, empty=none)


@app.command()
def show(incident_id: IdArgument, as_json: JsonOption = False) -> None:
    """Show one incident: what happened in one sentence, its token, every place and notification, and the timeline.

    Example: r8scan incidents show 1f3c
    """
    with opened_context() as context, context.database.read() as session:
        incident = incident_records.find(session, incident_id)
        if as_json:
            output.json_lines([incident_records.whole(session, incident)])
        else:
            _print(session, incident)


@app.command()
def note(
    incident_id: IdArgument, text: Annotated[str, typer.Argument(metavar="TEXT", help="The text of the note.")]
) -> None:
    """Add a note to an incident's timeline.

    Example: r8scan incidents note 1f3c "called the owner, they are replacing it"
    """
    _decide(
        incident_id,
        lambda session, incident: operator_actions.annotate(session, incident, who=operator_name(), text=text),
    )
    typer.echo("noted")


@app.command()
def close(incident_id: IdArgument, reason: ReasonOption) -> None:
    """Close an incident. If its token is found again, r8scan opens a new incident.

    Example: r8scan incidents close 1f3c --reason "a sample from our own documentation"
    """
    _decide(
        incident_id,
        lambda session, incident: operator_actions.close(session, incident, who=operator_name(), reason=reason),
    )
    typer.echo("closed")


@app.command()
def reopen(incident_id: IdArgument, reason: ReasonOption) -> None:
    """Open a closed incident again. To disable its token, use r8scan tokens disable or r8scan report.

    Example: r8scan incidents reopen 1f3c --reason "it was not a sample after all"
    """
    _decide(
        incident_id,
        lambda session, incident: operator_actions.reopen(session, incident, who=operator_name(), reason=reason),
    )
    typer.echo("open again")


@app.command()
def resend(incident_id: IdArgument, reason: ReasonOption) -> None:
    """Send the owner's mail once more, to the addresses that the account has now.

    Example: r8scan incidents resend 1f3c --reason "the address was mended"
    """
    with opened_context() as context:
        with context.database.read() as session:
            incident = incident_records.find(session, incident_id)
            found_id, digest = str(incident.id), incident.digest
        token = _token(context.store, digest)
        with context.database.write() as session:
            rows = operator_actions.resend(
                session,
                incident_records.find(session, found_id),
                token,
                domain=context.policy.mail_domain,
                who=operator_name(),
                reason=reason,
            )
    typer.echo(f"{counted(len(rows), 'mail is', 'mails are')} queued")


@app.command()
def export(
    form: Annotated[
        Literal["json", "csv"], typer.Option("--format", help="json: one array. csv: a row for each place.")
    ],
    to: Annotated[Path | None, typer.Option("--output", help="The file to write (default: standard output).")] = None,
    since: Annotated[
        str, typer.Option(help="Detected from this day or time (UTC) on: as for list, or 2026-11-01T10:00.")
    ] = "",
    until: Annotated[str, typer.Option(help="Detected on this day or before; or before this time.")] = "",
    account: Annotated[str, typer.Option(help="The name or id of an account: export only its incidents.")] = "",
) -> None:
    """Write incidents for another program, oldest first.

    JSON has each incident with its places, messages and timeline. CSV has one row for each place. Example: r8scan
    incidents export --format csv --since 2026-11-01 --until 2026-11-30 --output november.csv
    """
    write: Callable[[TextIO, Session, Iterator[Incident]], int]
    write = incidents_export.write_json if form == "json" else incidents_export.write_csv
    start, end = point_in_time(since, "--since"), point_in_time(until, "--until", is_end=True)
    check_order(start, end)
    with opened_context() as context, context.database.read() as session, _opened(to) as out:
        count = write(out, session, incident_records.between(session, start, end, account))
    typer.echo(counted(count, "incident"), err=True)


def _decide(incident_id: str, step: Callable[[Session, Incident], None]) -> None:
    with opened_context() as context, context.database.write() as session:
        step(session, incident_records.find(session, incident_id))


def _token(store: TokenStore, digest: str) -> TokenRecord:
    """Return the token store's current record of the token. Raise UserError if there is none."""
    found = store.look_up([digest])
    if digest in found.not_checked:
        raise UserError("the token store cannot look the token up now: try again later")
    if digest not in found.records:
        raise UserError("the token store no longer knows the token: nobody can be notified")
    return found.records[digest]


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    """Open the file for writing, readable only by this user. Yield standard output for None."""
    if path is None:
        with nullcontext(sys.stdout) as out:
            yield out
        return
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as err:
        raise UserError(f"cannot write {path} ({err.strerror}): name another file with --output") from err
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as out:
        yield out


def _print(session: Session, incident: Incident) -> None:
    out = output.console()
    from workers.web.console.pages.incident import short, summary  # imported here, because this loads the web console

    (row,) = rows_of(session, [incident])
    out.print(summary(row), markup=False, style="bold", soft_wrap=True)
    out.print(f"Incident {incident.id} ({incident.state})")
    facts = (
        ("token", f"{masked(incident.hint, incident.digest)}  {incident.token_name}"),
        ("digest", incident.digest),
        ("account", incident.account_name),
        ("cause", words.CAUSES[incident.cause]),
        ("action", incident.action),
        ("detected", incident.detected_at),
        ("disabled", incident.disabled_at),
    )
    for label, value in facts:
        out.print(f"  {label:<9} {output.plain(value)}", markup=False)
    places = incident.exposures
    rows = (
        (words.place(e), e.path, e.line or None, (e.commit or "")[:10] or None, e.published_at, e.seen_at, e.url)
        for e in places[:PLACES_SHOWN]
    )
    output.table(
        f"Places ({len(places)})",
        ("where", "file or text", "line", "commit", "public since", "seen", "address"),
        rows,
        empty="No place is recorded.",
    )
    messages = incident_records.notifications(session, incident)
    output.table(
        "Notifications",
        ("to", "about", "state", "attempts", "sent", "error"),
        (
            (
                words.recipient(one.row),
                one.occasion.replace("_", " "),
                output.message_state(one.row.state),
                one.row.attempts,
                one.row.sent_at,
                one.row.error,
            )
            for one in messages
        ),
        empty="No notification was sent.",
    )
    out.print("Timeline", style="bold italic")
    moments = timeline(session, incident)
    for moment in short(moments):
        who, detail = f" ({moment.who})" if moment.who else "", f": {moment.detail}" if moment.detail else ""
        # In a table, one long text would make the other columns narrow, so print lines.
        out.print(
            output.plain(f"  {output.plain(moment.at)}  {moment.what}{who}{detail}"), markup=False, soft_wrap=True
        )
    if left_out := len(moments) - len(short(moments)):
        out.print(f"  {counted(left_out, 'further line')} about places left out: --json has them", markup=False)

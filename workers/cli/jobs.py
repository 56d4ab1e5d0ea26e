"""The `r8scan jobs` commands, which list jobs and show what a job found and what it could not read."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.records import unread_contents
from scanner.records.models import ScanJob
from scanner.records.reading_models import UnreadContent
from scanner.records.states import OPEN_JOB_STATES, JobKind, JobState
from scanner.settings import Settings, load_settings
from workers.cli import empty_lists, jobs_watched, output
from workers.cli.errors import UserError, wrong_filter
from workers.cli.groups import Group
from workers.cli.jobs_watched import JobNumber
from workers.cli.opening import opened_database
from workers.health.problems import counted
from workers.web.console.queries import lists
from workers.web.console.queries.incidents import BadFilter

MAX_UNREAD_SHOWN = 20
"""As text, the command prints at most this many items that a job could not read."""

STATES = ", ".join(JobState)
KINDS = ", ".join(JobKind)

app = Group("List and show jobs: what each read and found, and what it could not read.")

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


@app.command("list")
def list_(
    as_json: JsonOption = False,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The maximum number of rows, newest first.")] = 50,
    state: Annotated[JobState | None, typer.Option(metavar="STATE", help=f"The state of the job: {STATES}.")] = None,
    kind: Annotated[JobKind | None, typer.Option(metavar="KIND", help=f"The kind of job: {KINDS}.")] = None,
    source: Annotated[str, typer.Option(help="The source that queued it, such as public_events or rescan.")] = "",
) -> None:
    """List jobs, the newest first.

    Example: r8scan jobs list --state failed
    """
    values = {"state": state or "", "kind": kind or "", "source": source}
    settings = load_settings()
    with opened_database(settings) as database, database.read() as session:
        found = _newest(session, values, limit)
        if as_json:
            output.json_lines(jobs_watched.summary(job) for job in found)
            return
        now = datetime.now(UTC)
        columns = ("job", "kind", "source", "target", "state", "found", "queued", "error")
        rows = (_cells(job, now) for job in found)
        none = "" if found else _none(session, settings, values)
        output.table("Jobs", columns, rows, empty=none, optional=("source", "queued"))


@app.command()
def show(
    job_id: JobNumber,
    wait: Annotated[bool, typer.Option("--wait", help="Show progress until the job has ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one job: how it ended, what it found, and each thing that it could not read.

    Example: r8scan jobs show 42
    """
    with opened_database(load_settings()) as database:
        if wait:
            jobs_watched.watch(database, job_id)
        with database.read() as session:
            job = session.get(ScanJob, job_id)
            if job is None:
                raise UserError(f"there is no job {job_id}: see r8scan jobs list")
            unread = unread_contents.of_job(session, job_id)
            led_to = session.execute(select(func.count()).where(ScanJob.parent_id == job_id)).scalar_one()
            if as_json:
                output.json_lines([{**jobs_watched.summary(job), "not_read": [_fields(row) for row in unread]}])
                return
            _print(job, unread, led_to)


def _newest(session: Session, values: dict[str, str], limit: int) -> list[ScanJob]:
    rows: list[ScanJob] = []
    before = ""
    while True:
        try:
            page = lists.job_list(session, {**values, "before": before})
        except BadFilter as err:
            raise wrong_filter(err) from err
        rows += page.rows
        before = page.older
        if len(rows) >= limit or not before:
            return rows[:limit]


def _none(session: Session, settings: Settings, values: dict[str, str]) -> str:
    what = "jobs of this kind" if any(values.values()) else "jobs"
    return empty_lists.sentence(what, settings, empty_lists.hint(session, "--source", values["source"], ScanJob.source))


def _cells(job: ScanJob, now: datetime) -> tuple[Any, ...]:
    found = None if job.state in OPEN_JOB_STATES else jobs_watched.number_found([job])
    kind, target = job.kind.replace("_", " "), jobs_watched.target_text(job)
    return job.id, kind, job.source, target, job.state, found, output.ago(job.created_at, now), job.error


def _print(job: ScanJob, unread: list[UnreadContent], led_to: int) -> None:
    now = datetime.now(UTC)
    kind, target = job.kind.replace("_", " "), jobs_watched.target_text(job)
    typer.echo(f"job {job.id}: {target}" + (f" ({kind})" if kind != target else "") + f", queued by {job.source}")
    is_open = job.state in OPEN_JOB_STATES
    typer.echo(f"  {'queued' if is_open else 'ended'} {output.ago(job.finished_at or job.created_at, now)}")
    typer.echo(
        f"  {jobs_watched.result_text(job)}" if not is_open else f"  {job.state}: {jobs_watched.phase_text(job)}"
    )
    if led_to:
        typer.echo(
            f"  it led to {counted(led_to, 'further job')}: r8scan jobs list --json | jq 'select(.parent == {job.id})'"
        )
    if job.error:
        typer.echo(f"  {output.plain(job.error)}")
    if not is_open:
        typer.echo(f"  {jobs_watched.found_text([job])}")
    reasons = {key: value for key, value in job.counts.items() if key.startswith("unread_") and value}
    for key, value in reasons.items():
        typer.echo(f"  not read: {value:,} × {key[7:].replace('_', ' ')}")
    rows = (
        (_where(row), row.place.get("git_object"), row.reasons.replace("_", " ").replace(",", ", ")) for row in unread
    )
    shown = list(rows)[:MAX_UNREAD_SHOWN]
    if shown:
        output.table("Not read", ("where", "object", "reason"), shown, empty="")
    if len(unread) > MAX_UNREAD_SHOWN:
        typer.echo(f"and {len(unread) - MAX_UNREAD_SHOWN} more: --json names them all")


def _where(row: UnreadContent) -> str:
    place = row.place
    parts = (place.get("repository"), place.get("path"), None if place.get("path") else place.get("url"))
    return " ".join(str(part) for part in parts if part) or str(place.get("kind", "-"))


def _fields(row: UnreadContent) -> dict[str, Any]:
    return {
        "reasons": row.reasons.split(","),
        "path": row.place.get("path"),
        "object": row.place.get("git_object"),
        "commit": row.place.get("commit"),
        "repository": row.place.get("repository"),
        "url": row.place.get("url"),
        "sha256": row.content_digest or None,
        "size": row.size or None,
    }

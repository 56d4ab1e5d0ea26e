"""The `r8scan backfill` command, which reads past hours of GitHub's event archive."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from scanner.records.states import JobState
from scanner.sources.archive.hours import hours_between
from scanner.sources.rescan.manual import queue_hours
from workers.cli import jobs_watched, output, starting
from workers.cli.errors import UserError, WrongUsage
from workers.cli.opening import opened_context
from workers.context import Context
from workers.health.problems import counted

MAX_HOURS = 24 * 31


def backfill(
    start: Annotated[str, typer.Option("--from", help="The first hour: 2026-11-23T10, in UTC.")],
    end: Annotated[str, typer.Option("--to", help="The hour after the last one (default: now).")] = "",
    again: Annotated[bool, typer.Option("--again", help="Read hours again that were read before.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end and show progress.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object for each hour.")] = False,
) -> None:
    """Read past hours of the event archive, and skip events that were seen before. This needs R8SCAN_ARCHIVE_URL.

    If the command is interrupted, the workers continue to read the hours. Run the command again to see the progress.
    Hours that were read completely are skipped, or are read once more with --again, to find events that were not seen
    before. Exit status: 0 all hours were read, 1 an hour failed, 2 an hour was read in part, 3 the hours are queued but
    no worker can start them now.

    Example: r8scan backfill --from 2026-11-23T10 --to 2026-11-23T15
    """
    with opened_context(creates_tables=True) as context:
        raise typer.Exit(_backfill(context, start, end, again=again, wait=wait, as_json=as_json))


def _backfill(context: Context, start: str, end: str, *, again: bool, wait: bool, as_json: bool) -> int:
    """Queue a job for each hour, and return the command's exit status."""
    if context.settings.archive_url is None:
        raise UserError("no archive is configured: set R8SCAN_ARCHIVE_URL to the address of hourly event files")
    first, last = _hour(start), _hour(end) if end else datetime.now(UTC)
    hours = hours_between(first, last)
    if not hours or len(hours) > MAX_HOURS:
        raise WrongUsage(f"--from and --to must be 1 to {MAX_HOURS} hours apart, in this order")
    with context.database.write() as session:
        ids = queue_hours(session, hours, again=again)
    if not ids and not as_json:
        typer.echo(f"{counted(len(hours), 'hour was', 'hours were')} read before: --again reads them once more")
    from workers.wake import wake

    obstacle = starting.obstacle(context.database, context.settings, "rescans")
    if obstacle is None:
        wake("r8scan.rescan")
    else:
        watch = "watch them with: r8scan jobs list --kind archive_hour"
        typer.echo(f"the hours wait, because {obstacle}: workers read them later; {watch}", err=True)
    if obstacle is not None or not wait:
        typer.echo(
            json.dumps({"jobs": ids, "state": JobState.QUEUED}) if as_json else f"{counted(len(ids), 'hour')} queued"
        )
        return starting.NOT_STARTED if wait else 0
    worst = 0
    for job_id in ids:
        job = jobs_watched.watch(context.database, job_id).job
        if as_json:
            output.json_lines([jobs_watched.summary(job)])
        else:
            typer.echo(jobs_watched.result_text(job))
            for line in jobs_watched.unread_lines([job]):
                typer.echo(line, err=True)
            if job.error:
                typer.echo(output.plain(job.error), err=True)
        status = {JobState.DONE: 0, JobState.PARTIAL: 2}.get(job.state, 1)
        worst = 1 if 1 in (status, worst) else max(status, worst)
    return worst


def _hour(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text if len(text) != 13 else f"{text}:00")
    except ValueError as err:
        raise WrongUsage(f"{text} is not an hour: write it like 2026-11-23T10") from err
    at = at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    if not datetime(2011, 2, 12, tzinfo=UTC) <= at <= datetime.now(UTC) + timedelta(hours=1):
        raise WrongUsage(f"{text} is outside of the archive, which begins on 2011-02-12")
    return at

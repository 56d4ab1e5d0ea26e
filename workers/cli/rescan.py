"""`r8scan rescan`: reads something again, by an operator's wish."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from scanner.github.urls import is_repository_name
from scanner.records import jobs
from scanner.records.database import Database
from scanner.records.models import ScanJob
from scanner.settings import load_settings
from workers.cli import output
from workers.cli.errors import UserError

PRIORITY = 10
POLL_SECONDS = 0.5

app = typer.Typer(help="Read something again: a repository with all its history.", no_args_is_help=True)


@app.command()
def repo(
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository.")],
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Stay and show progress.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print the job as JSON at the end.")] = False,
) -> None:
    """Scan a repository: every object of its history, every ref, pull requests and wiki included.

    Exit status: 0 done, 1 failed or cancelled, 2 done but something could not be read.

    Example: r8scan rescan repo replicate/cog
    """
    if not is_repository_name(name):
        raise UserError(f"{name} is not a repository's name: write OWNER/NAME")
    database = Database(load_settings().database_url.get_secret_value())
    key = f"repository:{name.lower()}"
    with database.write() as session:
        target = {"repository": name, "repository_id": None, "published_at": None}
        job_id = jobs.enqueue(session, "repository", target, source="rescan", priority=PRIORITY, dedupe_key=key)
        if job_id is None:
            job_id = jobs.queued_id(session, key)
    from workers.doorbell import ring

    rung = ring("r8scan.rescan")
    if not rung:
        typer.echo(f"job {job_id} is recorded; no broker answers, it starts as soon as workers run", err=True)
    if not wait:
        typer.echo(json.dumps({"job": job_id, "state": "queued"}) if as_json else f"job {job_id} queued")
        return
    job = _watch(database, job_id)
    database.close()
    _report(job, as_json)


def _watch(database: Database, job_id: int | None) -> ScanJob:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[detail]}"))
    with Progress(*columns, console=output.errors(), transient=True) as progress:
        task = progress.add_task("waiting for a worker", total=None, detail="")
        while True:
            with database.read() as session:
                job = session.get(ScanJob, job_id)
            if job is None:
                raise UserError(f"job {job_id} is gone: see r8scan incidents list for what it found")
            if job.state not in jobs.OPEN:
                return job
            seen: dict[str, Any] = job.progress
            progress.update(
                task,
                description=output.plain(seen.get("phase", job.error or "waiting for a worker")),
                total=seen.get("total"),
                completed=seen.get("done", 0),
                detail=output.plain(seen.get("detail", "")),
            )
            time.sleep(POLL_SECONDS)


def _report(job: ScanJob, as_json: bool) -> None:
    if as_json:
        output.json_lines(
            [{"job": job.id, "state": job.state, "target": job.target, "counts": job.counts, "error": job.error}]
        )
    else:
        counts = ", ".join(f"{key} {value}" for key, value in job.counts.items())
        typer.echo(f"{job.state}: {output.plain(job.target['repository'])}" + (f" ({counts})" if counts else ""))
        if job.error:
            typer.echo(output.plain(job.error), err=True)
    raise typer.Exit({"done": 0, "partial": 2}.get(job.state, 1))

"""The `r8scan rescan` commands, which queue, list and cancel rescans."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from sqlalchemy import select

from scanner.github.addresses import Target, TargetKind, is_gist_id, is_object_id, is_owner, parse_address
from scanner.github.urls import is_repository_name
from scanner.records import jobs
from scanner.records.database import Database
from scanner.records.models import ScanJob
from scanner.records.states import OPEN_JOB_STATES, JobKind, JobState
from scanner.settings import Settings, load_settings
from scanner.sources.rescan.manual import queue
from workers.cli import empty_lists, empty_store, jobs_watched, output, starting
from workers.cli.errors import UserError, WrongUsage
from workers.cli.groups import Group
from workers.cli.jobs_watched import JobNumber
from workers.cli.opening import opened_context
from workers.health.problems import counted

SHOWN = 50

app = Group("Read something again: a repository with all its history, an owner, a gist, a commit, a push, any address.")

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end and show progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the job as JSON at the end.")]
Name = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository, or any address in it.")]


@app.command()
def repo(name: Name, wait: Wait = True, as_json: AsJson = False) -> None:
    """Scan a repository: every object of its history, commits that no ref reaches, wiki, issues, comments, releases.

    Exit status: 0 done, 1 failed or cancelled, 2 done but something could not be read, 3 queued but no worker can start
    it now.

    Examples: r8scan rescan repo replicate/cog; r8scan rescan repo git@github.com:replicate/cog.git
    """
    _rescan(Target("repository", _repository(name)), wait, as_json)


@app.command()
def owner(
    name: Annotated[str, typer.Argument(metavar="OWNER", help="The user or organisation.")],
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Scan every public repository and gist of a user or an organisation.

    Example: r8scan rescan owner replicate --no-wait
    """
    own = name if is_owner(name) else _named(name, ("owner",), "write the owner's name")
    _rescan(Target("owner", own), wait, as_json)


@app.command()
def gist(
    gist_id: Annotated[str, typer.Argument(metavar="ID", help="The gist's id: the hex digits of its address.")],
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Scan a gist with all its history and comments.

    Example: r8scan rescan gist aa5a315d61ae9438b18d
    """
    own = gist_id if is_gist_id(gist_id) else _named(gist_id, ("gist",), "write the hex digits at its end")
    _rescan(Target("gist", own), wait, as_json)


@app.command()
def commit(
    name: Name,
    oid: Annotated[str, typer.Argument(metavar="COMMIT", help="The full id of the commit.")],
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Scan the content of one commit and of all its ancestors.

    Example: r8scan rescan commit replicate/cog 6dcb09b5b57875f334f61aebed695e2e4193db5e
    """
    _rescan(Target("commit", _repository(name), head=_object_id(oid)), wait, as_json)


@app.command()
def push(
    name: Name,
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="The full id of the commit before the push.")],
    head: Annotated[str, typer.Argument(metavar="HEAD", help="The full id of the commit that was pushed.")],
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Scan the objects that one push added, as if the push had just been seen.

    Example: r8scan rescan push replicate/cog 883efe0… 7a8f3ac… (all 40 digits of both)
    """
    _rescan(Target("push", _repository(name), _object_id(before), _object_id(head)), wait, as_json)


@app.command()
def url(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="The address of any page on GitHub.")],
    wait: Wait = True,
    as_json: AsJson = False,
) -> None:
    """Scan the repository, commit, push, gist or owner of a GitHub address that was copied from a browser, mail or
    terminal.

    Example: r8scan rescan url https://github.com/replicate/cog/blob/main/README.md
    """
    settings = load_settings()
    try:
        target = parse_address(address, settings.github_web_url, settings.github_api_url)
    except ValueError as err:
        raise WrongUsage(str(err)) from err
    _rescan(target, wait, as_json)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the 50 newest rescans, the newest first.

    Example: r8scan rescan list
    """
    with opened_context() as context, context.database.read() as session:
        statement = select(ScanJob).where(ScanJob.source == "rescan").order_by(ScanJob.id.desc()).limit(SHOWN)
        found = session.execute(statement).scalars().all()
    if as_json:
        output.json_lines(jobs_watched.summary(job) for job in found)
        return
    columns = ("job", "kind", "target", "state", "found", "progress", "asked", "error")
    now = datetime.now(UTC)
    none = "" if found else empty_lists.sentence("rescans", context.settings)
    output.table("Rescans", columns, (_row(job, now) for job in found), empty=none, optional=("kind",))


@app.command()
def cancel(
    job_id: JobNumber,
) -> None:
    """Cancel a rescan. The incidents that it has caused so far are kept.

    Example: r8scan rescan cancel 42
    """
    with opened_context() as context, context.database.write() as session:
        done = jobs.cancel_with_children(session, job_id)
    if not done:
        raise UserError(f"there is no job {job_id} that waits or runs: see r8scan rescan list")
    typer.echo(
        f"cancelled job {job_id}" + (f" and {counted(len(done) - 1, 'job')} that it queued" if len(done) > 1 else "")
    )


def _row(job: ScanJob, now: datetime) -> tuple[Any, ...]:
    target, phase = jobs_watched.target_text(job), jobs_watched.phase_text(job)
    found = jobs_watched.number_found([job]) if job.state not in OPEN_JOB_STATES else None
    return job.id, job.kind, target, job.state, found, phase or None, output.ago(job.created_at, now), job.error


def _repository(text: str) -> str:
    """Return OWNER/NAME for a repository's name or for the address of one of its pages."""
    return text if is_repository_name(text) else _named(text, ("repository", "commit", "push"), "write OWNER/NAME")


def _named(text: str, kinds: tuple[TargetKind, ...], todo: str) -> str:
    """Return the name in a GitHub address. Raise WrongUsage with the advice `todo` for other texts."""
    settings = load_settings()
    try:
        target = parse_address(text, settings.github_web_url, settings.github_api_url)
    except ValueError as err:
        if "://" in text:
            raise WrongUsage(f"{text}: {err}") from err
        shown = text if text.strip() else "an empty text"
        raise WrongUsage(f"{shown} cannot be understood: {todo}, or paste its address") from err
    if target.kind not in kinds:
        raise WrongUsage(f"{text} is the address of another kind ({target.kind}): {todo}, or use r8scan rescan url")
    return target.name


def _object_id(value: str) -> str:
    if not is_object_id(value.lower()):
        raise WrongUsage(f"{value} is not a commit's full id: write all 40 hex digits")
    return value.lower()


def _rescan(target: Target, wait: bool, as_json: bool) -> None:
    with opened_context(creates_tables=True) as context:
        raise typer.Exit(_queue_and_watch(context.database, context.settings, target, wait=wait, as_json=as_json))


def _queue_and_watch(database: Database, settings: Settings, target: Target, *, wait: bool, as_json: bool) -> int:
    """Queue a rescan, and return the command's exit status."""
    with database.write() as session:
        job = queue(session, target)
    from workers.wake import wake

    is_push = job.kind == JobKind.PUSHES
    obstacle = starting.obstacle(database, settings, "scanning" if is_push else "rescans")
    if obstacle is None:
        wake("r8scan.scan" if is_push else "r8scan.rescan")
    else:
        watch = f"watch it with: r8scan jobs show {job.id} --wait"
        typer.echo(f"job {job.id} waits, because {obstacle}: a worker starts it later; {watch}", err=True)
    if obstacle is not None or not wait:
        typer.echo(json.dumps({"job": job.id, "state": JobState.QUEUED}) if as_json else f"job {job.id} queued")
        return starting.NOT_STARTED if wait else 0
    status = _report(jobs_watched.watch(database, job.id), as_json)
    empty_store.warn(database, settings)
    return status


def _report(watched: jobs_watched.Watched, as_json: bool) -> int:
    everything = [watched.job, *watched.children]
    if as_json:
        output.json_lines(jobs_watched.summary(one) for one in everything)
    else:
        for one in everything:
            typer.echo(jobs_watched.result_text(one))
            if one.error:
                typer.echo(output.plain(one.error), err=True)
        typer.echo(jobs_watched.found_text(everything))
        for line in jobs_watched.unread_lines(everything):
            typer.echo(line, err=True)
    worst = {JobState.DONE: 0, JobState.PARTIAL: 2}
    # If a repository is missing, its job still ends as "done". Show the operator a failure instead.
    statuses = {1 if one.counts.get("error_not_found") else worst.get(one.state, 1) for one in everything}
    return 1 if 1 in statuses else max(statuses)

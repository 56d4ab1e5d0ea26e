"""Shows the progress of a job while a command waits for it, and describes jobs as text."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from sqlalchemy import select

from scanner.records.database import Database
from scanner.records.models import ScanJob
from scanner.records.states import OPEN_JOB_STATES, JobKind, JobState
from scanner.response.respond import NOT_RECORDED
from scanner.sources.found_tokens import PREFIX, UNCOUNTED
from workers.cli import output, words
from workers.cli.errors import UserError
from workers.health.problems import counted

POLL_SECONDS = 0.5
LINE_SECONDS = 30.0
"""Without a terminal, a line about the job is printed at least this often."""
_NOT_SHOWN = (PREFIX, "unread_", "candidates", "known", "rung_", "band_", "may_miss_", NOT_RECORDED)
"""The prefixes of the counters that `result_text` omits."""
MAX_JOB = 2**63 - 1
"""The largest number that a job can have in the database."""
INTERRUPTED = 130
"""The exit status of a command that was ended by Ctrl-C, as in shells."""


def _storable(number: int) -> int:
    # With `max=`, the help would show this number, which means nothing to a reader.
    if number > MAX_JOB:
        raise typer.BadParameter(f"must be {MAX_JOB} or less")
    return number


JobNumber = Annotated[int, typer.Argument(metavar="JOB", help="The job's number.", callback=_storable)]
"""An argument of a command: the number of a job."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A finished job, and the jobs that it queued."""

    job: ScanJob
    children: list[ScanJob]


def watch(database: Database, job_id: int) -> Watched:
    """Show the progress of a job and of the jobs that it queues. Return these jobs when all of them have ended.

    Ctrl-C ends the command, but the workers continue the job.
    """
    try:
        return _watched(database, job_id)
    except KeyboardInterrupt:
        todo = f"watch it: r8scan jobs show {job_id} --wait; cancel it: r8scan rescan cancel {job_id}"
        typer.echo(f"job {job_id} continues; {todo}", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _watched(database: Database, job_id: int) -> Watched:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[detail]}"))
    console = output.errors()
    lines = _Lines(job_id)
    # In a file, the progress display would only add an empty line.
    with Progress(*columns, console=console, transient=True, disable=not console.is_interactive) as progress:
        task = progress.add_task("waiting for a worker", total=None, detail="")
        while True:
            with database.read() as session:
                job = session.get(ScanJob, job_id)
                statement = select(ScanJob).where(ScanJob.parent_id == job_id).order_by(ScanJob.id)
                children = list(session.execute(statement).scalars())
            if job is None:
                raise UserError(f"job {job_id} was deleted: r8scan incidents list shows what it found")
            waiting = [child for child in children if child.state in OPEN_JOB_STATES]
            if job.state not in OPEN_JOB_STATES and not waiting:
                return Watched(job, children)
            shown = job if job.state in OPEN_JOB_STATES else waiting[0]
            many = f"{len(children) - len(waiting)} of {len(children)} done" if children else ""
            if not console.is_interactive:
                lines.show(shown, many)
            progress.update(
                task,
                description=phase_text(shown),
                total=len(children) or shown.progress.get("total"),
                completed=len(children) - len(waiting) if children else shown.progress.get("done", 0),
                detail=many,
            )
            time.sleep(POLL_SECONDS)


class _Lines:
    """Prints the progress of a job as lines, for output that is not a terminal."""

    def __init__(self, job_id: int) -> None:
        self._job_id = job_id
        self._state: tuple[object, ...] = ()
        self._printed_at = time.monotonic()

    def show(self, job: ScanJob, many: str) -> None:
        """Print a line if the job's phase or error is new, or after LINE_SECONDS."""
        state = (job.id, job.progress.get("phase"), job.error)
        if state == self._state and time.monotonic() - self._printed_at < LINE_SECONDS:
            return
        self._state, self._printed_at = state, time.monotonic()
        what = target_text(job)
        detail = f"; {many}" if many else ""
        typer.echo(f"job {self._job_id}: {what}: {phase_text(job)}{detail}", err=True)


def phase_text(job: ScanJob) -> str:
    """Return what the job does now, as text, or "" if the job has ended."""
    if job.state not in OPEN_JOB_STATES:
        return ""
    is_retried = job.state == JobState.QUEUED and job.error
    waits = "waiting to be tried again" if is_retried else "waiting for a worker"
    phase = waits if is_retried else output.plain(job.progress.get("phase") or waits)
    done, total = job.progress.get("done"), job.progress.get("total")
    amount = f" {done} of {total}" if done and total else f" {done}" if done else ""
    return f"{phase}{amount}" + (f" ({output.plain(job.error)})" if job.error else "")


def target_text(job: ScanJob) -> str:
    """Return the name of the repository, gist or other thing that the job reads."""
    target: dict[str, Any] = job.target
    if job.kind == JobKind.PUSHES:
        pushes = target.get("pushes", [])
        return output.plain(pushes[0]["repository"]) if len(pushes) == 1 else f"{len(pushes)} pushes"
    if "files" in target:
        return counted(len(target["files"]), "file")
    for key in ("repository", "owner", "hour"):
        if key in target:
            return output.plain(target[key])
    return output.plain(f"gist {target['gist']}") if "gist" in target else job.kind.replace("_", " ")


_DONE: Mapping[str, str] = {
    "disabled_now": "live, disabled now",
    "disabling": "live, being disabled",
    "observed": "live, not disabled because R8SCAN_ENFORCE is observe",
    "protected": "live and protected, not disabled",
    "held": "live, held by the brake",
    "flagged": "live and flagged, not disabled",
    "rejected": "live, because an operator rejected its report",
    "disabled_before": "disabled before",
    "already_disabled": "disabled by its owner before",
    "unknown": "unknown to the token store",
}
"""The words for the outcomes of found tokens, the most important outcome first.

With PREFIX in front, the keys are counters in `ScanJob.counts`.
"""


def result_text(job: ScanJob) -> str:
    """Return one line that says how the job ended and how much it read."""
    read = {key: value for key, value in job.counts.items() if not key.startswith(_NOT_SHOWN) and value}
    counts = ", ".join(words.amount(key, value) for key, value in read.items())
    return f"{job.state}: {target_text(job)}" + (f" ({counts})" if counts else "")


def number_found(finished: Sequence[ScanJob]) -> int:
    """Return the total number of tokens that the jobs found. A token that two jobs found counts twice."""
    counted_tokens = sum(int(job.counts.get(f"{PREFIX}{name}", 0)) for job in finished for name in _DONE)
    return counted_tokens or sum(int(job.counts.get("known", 0)) for job in finished)


def found_text(finished: Sequence[ScanJob]) -> str:
    """Return a text such as "2 tokens found: 1 live, disabled now; 1 disabled before"."""
    numbers = {name: sum(int(job.counts.get(f"{PREFIX}{name}", 0)) for job in finished) for name in _DONE}
    total = number_found(finished)
    more = " or more" if any(job.counts.get(f"{PREFIX}{UNCOUNTED}") for job in finished) else ""
    if not total:
        return "no token found"
    if not any(numbers.values()):
        return f"{counted(total, 'token')} found: see r8scan incidents list"
    parts = "; ".join(f"{number:,} {done}" for name, done in _DONE.items() if (number := numbers[name]))
    return f"{counted(total, 'token')}{more} found: {parts}"


def unread_lines(finished: Sequence[ScanJob]) -> Iterator[str]:
    """Yield one line for each job that could not read everything."""
    for job in finished:
        reasons = {key: value for key, value in job.counts.items() if key.startswith("unread_") and value}
        if reasons:
            named = ", ".join(f"{value:,} × {key[7:].replace('_', ' ')}" for key, value in reasons.items())
            yield f"not read in {target_text(job)}: {named}; see r8scan jobs show {job.id}"


def summary(job: ScanJob) -> dict[str, Any]:
    """Return the JSON object that commands print about a job."""
    return {
        "job": job.id,
        "kind": job.kind,
        "state": job.state,
        "target": job.target,
        "progress": job.progress,
        "counts": job.counts,
        "error": job.error,
        "parent": job.parent_id,
        "created_at": job.created_at,
        "finished_at": job.finished_at,
    }

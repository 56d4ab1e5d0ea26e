"""The console's list of jobs and its page of one job. Operators can cancel and retry jobs, and request rescans."""

from __future__ import annotations

from starlette.responses import Response
from starlette.routing import Route

from scanner.github.addresses import parse_address
from scanner.records import audit, jobs, unread_contents
from scanner.records.models import ScanJob
from scanner.records.states import OPEN_JOB_STATES, JobState
from scanner.response.operator_actions import NotPossible
from workers.wake import TASKS_OF_JOBS, wake
from workers.web.console.queries import lists
from workers.web.console.queries.incidents import BadFilter
from workers.web.console.rendering import link_of
from workers.web.console.serving import BadRequest, Console, NotThere, View

PATH = "/console/jobs"
MAX_ADDRESS = 2000
RETRY_PRIORITY = 10
MAX_UNREAD_SHOWN = 100
"""The page of a job shows at most this many items that the job could not read."""
CAN_BE_RETRIED = (JobState.FAILED, JobState.PARTIAL, JobState.CANCELLED, JobState.DROPPED)


def routes(console: Console) -> list[Route]:
    """Return the routes of the pages and their actions."""
    return [
        Route(PATH, console.page(show), methods=["GET"]),
        Route(f"{PATH}/rescan", console.action(rescan), methods=["POST"]),
        Route(f"{PATH}/{{id}}", console.page(show_one), methods=["GET"]),
        Route(f"{PATH}/{{id}}/cancel", console.action(cancel), methods=["POST"]),
        Route(f"{PATH}/{{id}}/retry", console.action(retry), methods=["POST"]),
    ]


def show(view: View) -> Response:
    """Render the jobs that match the filter in the URL, and the number of failed jobs by reason."""
    names = ("state", "kind", "source", "parent")
    values = {name: view.query.get(name, "") for name in names}
    with view.reading() as session:
        try:
            found = lists.job_list(session, view.query)
        except BadFilter as err:
            raise BadRequest(str(err)) from None
        return view.page(
            "jobs.html",
            listed=found,
            values=values,
            before=view.query.get("before", ""),
            states=tuple(JobState),
            kinds=sorted(TASKS_OF_JOBS),
            queues=view.console.overview.get().queues,
            errors=lists.failure_reasons(session),
            target_of=target_text,
            can_be_retried=CAN_BE_RETRIED,
            unread_of=number_unread,
            is_open=lambda job: job.state in OPEN_JOB_STATES,
        )


def show_one(view: View) -> Response:
    """Render the page of one job, with at most MAX_UNREAD_SHOWN of the items that it could not read."""
    with view.reading() as session:
        job = session.get(ScanJob, view.path_number())
        if job is None:
            raise NotThere
        unread = unread_contents.of_job(session, job.id)
        return view.page(
            "job.html",
            job=job,
            target=target_text(job),
            children=lists.children_of(session, job.id),
            unread=unread[:MAX_UNREAD_SHOWN],
            number_unread=max(number_unread(job), len(unread)),
            unread_more=len(unread) - MAX_UNREAD_SHOWN,
            link_of=lambda url: link_of(url, view.context.settings),
            can_be_retried=job.state in CAN_BE_RETRIED,
            is_open=job.state in OPEN_JOB_STATES,
        )


def rescan(view: View) -> Response:
    """Queue a rescan of the GitHub URL in the form."""
    from scanner.sources.rescan.manual import queue  # imported here, because it loads the detector

    settings = view.context.settings
    text = view.form.get("address", "").strip()
    if not text or len(text) > MAX_ADDRESS:
        raise NotPossible("paste the address of a repository, an owner, a gist or a commit")
    try:
        target = parse_address(text, settings.github_web_url, settings.github_api_url)
    except ValueError as err:
        raise NotPossible(str(err)) from None
    with view.context.database.write() as session:
        job = queue(session, target)
        evidence = {"job": job.id, "kind": target.kind, "target": target.name}
        audit.record(session, "rescan_queued", evidence, who=view.person.who)
    wake(TASKS_OF_JOBS[job.kind])
    return view.go(f"{PATH}/{job.id}", said="queued")


def cancel(view: View) -> Response:
    """Cancel a job and the jobs that only this job has requested."""
    with view.context.database.write() as session:
        done = jobs.cancel_with_children(session, view.path_number())
        if not done:
            raise NotPossible("the job has already ended")
        audit.record(session, "jobs_cancelled", {"jobs": done[:100], "number": len(done)}, who=view.person.who)
    return view.go(f"{PATH}/{view.path_number()}", said="cancelled")


def retry(view: View) -> Response:
    """Queue a failed, partial, cancelled or dropped job again. If the same work is queued already, make it due now."""
    with view.context.database.write() as session:
        job = session.get(ScanJob, view.path_number())
        if job is None:
            raise NotThere
        if job.state not in CAN_BE_RETRIED:
            raise NotPossible("the job did not fail: there is nothing to retry")
        new_id = jobs.enqueue_urgent(
            session,
            job.kind,
            job.target,
            source=job.source,
            priority=RETRY_PRIORITY,
            dedupe_key=job.dedupe_key or f"retry:{job.id}",
        )
        audit.record(session, "job_retried", {"job": job.id, "as": new_id}, who=view.person.who)
        kind = job.kind
    wake(TASKS_OF_JOBS.get(kind, "r8scan.rescan"))
    return view.go(f"{PATH}/{new_id}", said="queued")


def number_unread(job: ScanJob) -> int:
    """Return the number of items that the job could not read."""
    return sum(int(value) for key, value in job.counts.items() if key.startswith("unread_"))


def target_text(job: ScanJob) -> str:
    """Return the name of the repository, gist or other thing that the job reads."""
    pushes = job.target.get("pushes")
    if isinstance(pushes, list):
        name = str(pushes[0].get("repository", "")) if pushes else ""
        return name if len(pushes) == 1 else f"{len(pushes)} pushes"
    files = job.target.get("files")
    if isinstance(files, list):
        return f"{len(files)} files"
    return next(
        (str(job.target[key]) for key in ("repository", "owner", "gist", "hour") if key in job.target), job.kind
    )

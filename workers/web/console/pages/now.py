"""The first page of the console: the service's state, waiting decisions and new incidents."""

from __future__ import annotations

from dataclasses import dataclass, replace

from starlette.responses import Response
from starlette.routing import Route

from scanner.records.states import Cause, Channel, JobState, NotificationState
from workers.health.problems import DECISIONS, Kind, counted
from workers.health.processes import SILENT_SECONDS
from workers.health.rows import Overview
from workers.health.verdict import verdict
from workers.queues import BEAT, WEB
from workers.web.console import charts
from workers.web.console.pages import sources
from workers.web.console.problem_groups import advised, grouped
from workers.web.console.queries import incidents
from workers.web.console.queries.incidents import Filter
from workers.web.console.serving import Console, View

NEWEST = 10
NEWEST_REPORTED = 5
MAX_PROCESSES = 50
"""The maximum number of processes on the page. Silent processes come first."""
MAX_AGE_SECONDS = 15.0
"""The age from which the page marks the state of the service as old."""


def routes(console: Console) -> list[Route]:
    """Return the route of the first page."""
    return [Route("/console/", console.page(show))]


def show(view: View) -> Response:
    """Render the first page."""
    found = view.console.overview.get()
    figures = view.console.figures.get()
    known = [advised(one) for one in found.problems]
    problems = [one for one in known if one.kind not in DECISIONS]
    processes = sorted(found.processes, key=lambda one: (one.silent_seconds <= SILENT_SECONDS, one.role, one.host))
    with view.reading() as session:
        # One report with many tokens must not push all leaks off this page.
        newest = incidents.page(session, Filter(cause=Cause.PUBLIC_REPOSITORY), rows=NEWEST)
        reported = incidents.page(session, Filter(cause=Cause.COMPROMISE_SIGNS), rows=NEWEST_REPORTED)
        queued = [row for row in found.queues if row.state == JobState.QUEUED]
        waits = [row for row in found.outbox if row.state in (NotificationState.PENDING, NotificationState.FROZEN)]
        failed = [row for row in found.outbox if row.state == NotificationState.FAILED]
        return view.page(
            "now.html",
            verdict=verdict(replace(found, problems=known)),
            groups=grouped(problems),
            found=found,
            age=(view.console.now() - found.at).total_seconds(),
            max_age=MAX_AGE_SECONDS,
            lights=lights(found),
            processes=processes[:MAX_PROCESSES],
            silent_after=SILENT_SECONDS,
            canary_problems=sources.canary_problems(found),
            recall_of=sources.shown_recall,
            figures=figures,
            today=f"{view.console.now():%Y-%m-%d}",
            rows=newest.rows,
            reported=reported.rows,
            bars=charts.bars(figures.days, "Incidents a day"),
            lines=charts.lines(figures.speeds),
            budgets=[row for row in found.budgets if row.limit],
            jobs_waiting=sum(row.jobs for row in queued),
            oldest_wait=max((row.oldest_seconds or 0 for row in queued), default=0),
            oldest_mail=min((row.created_at for row in waits if row.created_at), default=None),
            mails_waiting=sum(row.rows for row in waits),
            mails_failed=sum(row.rows for row in failed),
        )


@dataclass(frozen=True, slots=True)
class Light:
    """A coloured light that shows the state of one part of the service.

    Attributes:
        tone: "good" for green, "bad" for red, or empty if the state is not known.
        text: The state in words.
    """

    tone: str
    name: str
    text: str


NO_WORKER = "no worker runs"
PARTS = (
    ("Database", (Kind.DATABASE_AWAY, Kind.DATABASE_VERSION, Kind.DATABASE_READ_ONLY)),
    ("Redis", (Kind.REDIS_AWAY,)),
    ("Workers", (Kind.PROCESS_SILENT, Kind.QUEUE_WITHOUT_CONSUMER, Kind.MIXED_VERSIONS, Kind.NOT_RUNNING)),
    ("GitHub", (Kind.CREDENTIAL_REJECTED, Kind.REQUESTS_LIMITED, Kind.HOST_FAILS)),
    ("Token store", (Kind.STORE_EMPTY, Kind.STORE_AWAY, Kind.DISABLING_WAITS)),
    ("Mail", (Kind.MAILS_GO_NOWHERE, Kind.SENDER_NOT_SET, Kind.OPERATOR_NOT_SET, Kind.MESSAGE_WAITS)),
    ("Disk and spool", (Kind.DISK_FULL, Kind.SPOOL_WAITS, Kind.SPOOL_LOST)),
)
"""The parts of the service, and the problems that turn their lights red."""


def lights(found: Overview) -> list[Light]:
    """Return a light for each part of the service. It is green only if the part was tested and has no problem."""
    messages = found.broker_messages
    # Leave out the web server and beat (the scheduler), because they do not search for leaks.
    workers = [one for one in found.processes if one.role not in (WEB, BEAT) and one.silent_seconds <= SILENT_SECONDS]
    waiting = counted(sum((messages or {}).values()), "message waits", "messages wait")
    known = {
        "Database": "answers",
        "Redis": "not measured" if messages is None else f"answers, {waiting}",
        "Workers": counted(len(workers), "worker runs", "workers run") if workers else NO_WORKER,
        "GitHub": "answers",
        "Token store": found.configuration.token_store,
        "Mail": found.configuration.mail_transport,
        "Disk and spool": f"{counted(found.spool_entries, 'entry', 'entries')} in the spool",
    }
    shown = []
    for name, kinds in PARTS:
        # Leave out problems with messages to API gateways, because they say nothing about the mail server.
        of_parts = (one for one in found.problems if one.subject not in (Channel.STREAM, Channel.WEBHOOK))
        red = next((problem for problem in of_parts if problem.kind in kinds), None)
        tone = "bad" if red or known[name] == NO_WORKER else "" if known[name] == "not measured" else "good"
        shown.append(Light(tone, name, red.sentence if red else known[name]))
    return shown

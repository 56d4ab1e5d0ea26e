"""The first page: the health of the service, waiting decisions and recent finds."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response
from starlette.routing import Route

from scanner.records.states import EnforceMode, JobState, NotificationState
from scanner.settings import Settings
from workers.health.problems import Kind, counted
from workers.health.rows import Overview
from workers.web.console import charts
from workers.web.console.pages import sources
from workers.web.console.queries import incidents
from workers.web.console.queries.decisions import Waiting
from workers.web.console.queries.incidents import Filter
from workers.web.console.serving import Console, View

NEWEST = 10
MAX_AGE_SECONDS = 15.0
"""The page marks an overview that is older than this."""


def routes(console: Console) -> list[Route]:
    """Return the page's route."""
    return [Route("/console/", console.page(show))]


def show(view: View) -> Response:
    """Render the page."""
    found = view.console.overview.get()
    figures = view.console.figures.get()
    with view.reading() as session:
        newest = incidents.page(session, Filter(), rows=NEWEST)
        queued = [row for row in found.queues if row.state == JobState.QUEUED]
        waits = [row for row in found.outbox if row.state in (NotificationState.PENDING, NotificationState.FROZEN)]
        failed = [row for row in found.outbox if row.state == NotificationState.FAILED]
        return view.page(
            "now.html",
            sentence=sentence(found, view.context.settings, view.console.waiting.get()),
            found=found,
            age=(view.console.now() - found.at).total_seconds(),
            max_age=MAX_AGE_SECONDS,
            lights=lights(found),
            canary_problems=sources.canary_problems(found),
            recall_of=sources.shown_recall,
            figures=figures,
            rows=newest.rows,
            bars=charts.bars(figures.days, "Incidents a day"),
            lines=charts.lines(figures.speeds),
            budgets=[row for row in found.budgets if row.limit],
            jobs_waiting=sum(row.jobs for row in queued),
            oldest_wait=max((row.oldest_seconds or 0 for row in queued), default=0),
            mails_waiting=sum(row.rows for row in waits),
            mails_failed=sum(row.rows for row in failed),
        )


def sentence(found: Overview, settings: Settings, waiting: Waiting) -> str:
    """Return one sentence about the present state of the service."""
    mode = "Disabling leaked tokens" if settings.enforce == EnforceMode.DISABLE else "Observing only, disabling nothing"
    wanted = [one for one in found.sources if one.is_on]
    alive = [one for one in wanted if one.last_success_at and not one.error]
    polling = f"{len(alive)} of {len(wanted)} sources polled" if wanted else "no source is on"
    brake = "the brake is closed" if waiting.closed_at else "the brake is open"
    return f"{mode}, {polling}, {brake}"


@dataclass(frozen=True, slots=True)
class Light:
    """The state of one part of the service: tone, name and a sentence."""

    tone: str
    name: str
    text: str


PARTS = (
    ("Redis", (Kind.REDIS_AWAY,)),
    ("Workers", (Kind.PROCESS_SILENT, Kind.QUEUE_WITHOUT_CONSUMER, Kind.MIXED_VERSIONS, Kind.NOT_RUNNING)),
    ("GitHub", (Kind.CREDENTIAL_REJECTED, Kind.REQUESTS_LIMITED, Kind.HOST_FAILS)),
    ("Token store", (Kind.STORE_AWAY, Kind.DISABLING_WAITS)),
    ("Mail", (Kind.MAILS_GO_NOWHERE, Kind.SENDER_NOT_SET, Kind.OPERATOR_NOT_SET, Kind.MESSAGE_WAITS)),
    ("Disk and spool", (Kind.DISK_FULL, Kind.SPOOL_WAITS, Kind.SPOOL_LOST)),
)
"""Parts of the service, and the kinds of problems that turn their light red."""


def lights(found: Overview) -> list[Light]:
    """Return a light for each part.

    It is red if a problem of the part's kinds is known, and green only if the part was measured.
    """
    messages, processes = found.broker_messages, found.processes
    waiting = counted(sum((messages or {}).values()), "message waits", "messages wait")
    known = {
        "Redis": "not measured" if messages is None else f"answers, {waiting}",
        "Workers": counted(len(processes), "process reports", "processes report") if processes else "not measured",
        "GitHub": "answers",
        "Token store": found.configuration.token_store,
        "Mail": found.configuration.mail_transport,
        "Disk and spool": f"{counted(found.spool_entries, 'entry', 'entries')} in the spool",
    }
    shown = [Light("good", "Database", "answers")]
    for name, kinds in PARTS:
        red = next((problem for problem in found.problems if problem.kind in kinds), None)
        tone = "bad" if red else "" if known[name] == "not measured" else "good"
        shown.append(Light(tone, name, red.sentence if red else known[name]))
    return shown

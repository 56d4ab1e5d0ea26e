"""Periodic tasks: the sweeper, which starts all due work, and the deletion of expired data."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy import delete

from scanner.compromise import rates, reports, settling, usage
from scanner.records import announcements, canaries, heartbeats, jobs, leases, retention, tallies, unread_contents
from scanner.records.database import is_unavailable
from scanner.records.models import Notification, db_now
from scanner.records.reading_models import ReadObject, SeenEvent
from scanner.records.source_models import Gap
from scanner.records.states import JobKind, NotificationState
from scanner.response import responder, sightings
from scanner.sources.batches import recovery, shedding
from scanner.sources.batches.runner import SLOW_KINDS
from scanner.sources.canaries import planting
from scanner.sources.pushes import memory as push_memory
from scanner.sources.recall import marks
from scanner.sources.rescan import mirror_folders
from scanner.sources.rescan import run as rescan
from workers import bulkheads
from workers.celery import app, fails_by_newer_database
from workers.context import current_context
from workers.tasks.due_work import DueWork, due_work
from workers.tasks.polling import look_up
from workers.tasks.reporting import settle_reports
from workers.wake import wake, wake_outbox

JOBS_KEPT_DAYS = 3
FAILED_JOBS_KEPT_DAYS = 30
READ_OBJECTS_KEPT_DAYS = 90
SEEN_EVENTS_KEPT_DAYS = 2
GAPS_KEPT_DAYS = 40
FORGET_TRANSACTIONS = 200
"""The maximum number of transactions in which one run deletes old rows about repositories."""

_log = logging.getLogger(__name__)


@app.task(name="r8scan.sweep")  # type: ignore[untyped-decorator]  # celery has no types
def sweep() -> None:
    """Start all due work, even work whose message was lost or whose worker has died."""
    _guarded(_recover_spool)  # first, because it creates work for the other steps
    for step in _steps_with_work():
        _guarded(step)


def _steps_with_work() -> list[Callable[[], object]]:
    """Return the steps of `sweep` that may have work, or all if the query fails."""
    context = current_context()
    due = DueWork()
    try:
        due = due_work(context.database, max_sightings=context.settings.max_sightings)
    except Exception as err:
        if is_unavailable(err) or fails_by_newer_database(err):
            raise
        _log.exception("the sweeper could not find out which steps have work, and runs all of them")
    steps = {
        look_up: due.look_up,
        _finish: due.finish,
        _settle_canaries: due.settle_canaries,
        settle_reports: due.settle_reports,
        _shed_sightings: due.shed_sightings,
    }
    found: list[Callable[[], object]] = [step for step, has_work in steps.items() if has_work]
    # `_wake_due` is the last, because the other steps may create work for the tasks that it starts.
    return [*found, _wake_due] if found or due.wake else []


def _guarded(step: Callable[[], object]) -> None:
    """Run one step of `sweep`. Log an error, so that the other steps still run."""
    try:
        step()
    except Exception as err:
        # In an outage, or if the database is newer than this program, the other steps would fail, too, so stop.
        if is_unavailable(err) or fails_by_newer_database(err):
            raise
        _log.exception("a housekeeping step failed and will be retried: %s", getattr(step, "__name__", step))


def _recover_spool() -> None:
    with bulkheads.slot("take_back") as is_free:
        if is_free:
            context = current_context()
            recovery.take_back(context.database, context.settings.state_dir)


def _finish() -> None:
    with bulkheads.slot("finish") as is_free:
        context = current_context()
        if is_free and responder.finish_due(context.database, policy=context.policy).has_notifications:
            wake_outbox()


def _settle_canaries() -> None:
    context = current_context()
    planting.settle(context.database, context.policy)


def _shed_sightings() -> None:
    context = current_context()
    with context.database.write() as session:
        dropped = sightings.shed(session, max_rows=context.settings.max_sightings)
        for source in sorted(dropped):
            tallies.add(session, source, {"dropped_sightings": dropped[source]})
    if dropped:
        _log.error("too many sightings wait: the least likely were dropped", extra={"rows": sum(dropped.values())})


def _wake_due() -> None:
    """Drop jobs if too many wait, and start the tasks for due jobs and messages."""
    context = current_context()
    with context.database.write() as session:
        shedding.shed(session, JobKind.PUSHES, most_items=context.settings.queue_max_pushes)
        shedding.shed(session, JobKind.FILES, most_items=context.settings.queue_max_files)
        shedding.shed(session, JobKind.REPOSITORY, most_items=context.settings.queue_max_repositories)
    with context.database.read() as session:
        due = jobs.due_count(session, (JobKind.PUSHES, JobKind.FILES, *SLOW_KINDS.values(), *rescan.KINDS))
        unsent = leases.due_keys(
            session,
            Notification,
            Notification.state.in_((NotificationState.PENDING, NotificationState.FROZEN)),
            limit=1,
        )
    if due.get(JobKind.PUSHES):
        wake("r8scan.scan", due[JobKind.PUSHES])
    if due.get(JobKind.FILES):
        wake("r8scan.fetch", due[JobKind.FILES])
    if any(due.get(kind) for kind in SLOW_KINDS.values()):
        wake("r8scan.scan_slow")
    if any(due.get(kind) for kind in rescan.KINDS):
        wake("r8scan.rescan")
    if unsent:
        wake_outbox()


def _forget_repositories() -> None:
    context = current_context()
    for _ in range(FORGET_TRANSACTIONS):
        with context.database.write() as session:
            expired, over_limit = push_memory.purge(session, max_rows=context.settings.max_remembered_repositories)
            tallies.add(session, "repository_tips", {"forgotten_expired": expired, "forgotten_over_limit": over_limit})
        if not expired and not over_limit:
            break


def _decide_again_on_finds() -> None:
    context = current_context()
    if responder.decide_again(context.database, policy=context.policy).has_notifications:
        wake_outbox()


def _decide_again_on_reports() -> None:
    context = current_context()
    per_minute = context.settings.brake_per_minute
    if settling.decide_again(context.database, policy=context.policy, per_minute=per_minute).has_notifications:
        wake_outbox()


@app.task(name="r8scan.tidy")  # type: ignore[untyped-decorator]  # celery has no types
def tidy() -> None:
    """Delete expired data, measure how many pushes each source has seen, and decide again about tokens left live."""
    with bulkheads.slot("tidy") as is_free:
        if is_free:
            _tidy()


def _tidy() -> None:
    context = current_context()
    for step in (_decide_again_on_finds, _decide_again_on_reports):
        _guarded(step)
    mirror_folders.remove_abandoned(context.settings.state_dir)
    with context.database.write() as session:
        jobs.purge_expired(session, days=JOBS_KEPT_DAYS, failed_days=FAILED_JOBS_KEPT_DAYS)
        sightings.purge_expired(session)
        reports.purge_expired(session)
        rates.purge_expired(session)
        tallies.purge_expired(session)
        announcements.purge_expired(session)
        heartbeats.purge_expired(session)
        canaries.purge_expired(session)
    # A single transaction that deletes a million rows would block all other writers.
    for old in (
        ReadObject.read_at < db_now(-READ_OBJECTS_KEPT_DAYS * 86400),
        SeenEvent.seen_at < db_now(-SEEN_EVENTS_KEPT_DAYS * 86400),
        Gap.until_at < db_now(-GAPS_KEPT_DAYS * 86400),
    ):
        with context.database.write() as session:
            session.execute(delete(old.left.table).where(old).execution_options(synchronize_session=False))
    with context.database.write() as session:
        marks.purge_expired(session)
        marks.measure(session)
    _forget_repositories()
    usage.purge_expired(context.database, keep_days=context.settings.usage_keep_days)
    unread_contents.purge(context.database)
    retention.purge_expired(context.database, keep_days=context.settings.keep_days)

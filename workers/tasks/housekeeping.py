"""Housekeeping: the sweeper, which rings for every row that is due, and the tidying of what is old."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sqlalchemy import delete

from scanner.compromise import rates, reports, settling, usage
from scanner.records import announcements, jobs, leases, retention, tallies, unread_contents
from scanner.records.database import is_unavailable
from scanner.records.models import Notification, db_now
from scanner.records.source_models import Gap, ReadObject, ReadPush, SeenEvent
from scanner.records.states import NotificationState
from scanner.response import responder, sightings
from scanner.sources.batches import recovery, shedding
from scanner.sources.batches.runner import SLOW_KINDS
from scanner.sources.rescan import mirror_folders
from scanner.sources.rescan import run as rescan
from workers import bulkheads, context
from workers.celery import app
from workers.tasks.polling import look_up
from workers.tasks.reporting import settle_reports
from workers.wake import wake, wake_outbox

JOBS_KEPT_DAYS = 3
FAILED_JOBS_KEPT_DAYS = 30
READ_PUSHES_KEPT_DAYS = 14
READ_OBJECTS_KEPT_DAYS = 90
SEEN_EVENTS_KEPT_DAYS = 2
GAPS_KEPT_DAYS = 40

_log = logging.getLogger(__name__)


@app.task(name="r8scan.sweep")  # type: ignore[untyped-decorator]  # celery has no types
def sweep() -> None:
    """Find what a lost message or a dead worker left undone, and ring for it."""
    for step in (_take_back, look_up, _finish, settle_reports, _shed_sightings, _ring):
        _guarded(step)


def _guarded(step: Callable[[], object]) -> None:
    """Whatever spoils one step must not keep the others from their rows."""
    try:
        step()
    except Exception as err:
        if is_unavailable(err):
            raise
        _log.exception("a step of the sweep failed: %s", getattr(step, "__name__", step))


def _take_back() -> None:
    with bulkheads.place("take_back") as is_free:
        if is_free:
            own = context.current()
            recovery.take_back(own.database, own.settings.state_dir)


def _finish() -> None:
    with bulkheads.place("finish") as is_free:
        own = context.current()
        if is_free and responder.finish_due(own.database, policy=own.policy).has_news:
            wake_outbox()


def _shed_sightings() -> None:
    own = context.current()
    with own.database.write() as session:
        dropped = sightings.shed(session, max_rows=own.settings.max_sightings)
        for source in sorted(dropped):
            tallies.add(session, source, {"dropped_sightings": dropped[source]})
    if dropped:
        _log.error("too many sightings: the unlikeliest were dropped", extra={"rows": sum(dropped.values())})


def _ring() -> None:
    """Ring for every kind of row that is due."""
    own = context.current()
    with own.database.write() as session:
        shedding.shed(session, "pushes", most_items=own.settings.queue_max_pushes)
        shedding.shed(session, "files", most_items=own.settings.queue_max_files)
        shedding.shed(session, "repository", most_items=own.settings.queue_max_repositories)
    with own.database.read() as session:
        due = jobs.due_count(session, ("pushes", "files", *SLOW_KINDS.values(), *rescan.KINDS))
        unsent = leases.due_keys(
            session,
            Notification,
            Notification.state.in_((NotificationState.PENDING, NotificationState.FROZEN)),
            limit=1,
        )
    if due.get("pushes"):
        wake("r8scan.scan", due["pushes"])
    if due.get("files"):
        wake("r8scan.fetch", due["files"])
    if any(due.get(kind) for kind in SLOW_KINDS.values()):
        wake("r8scan.scan_slow")
    if any(due.get(kind) for kind in rescan.KINDS):
        wake("r8scan.rescan")
    if unsent:
        wake_outbox()


def _decide_again_on_finds() -> None:
    own = context.current()
    if responder.decide_again(own.database, policy=own.policy).has_news:
        wake_outbox()


def _decide_again_on_reports() -> None:
    own = context.current()
    per_minute = own.settings.brake_per_minute
    if settling.decide_again(own.database, policy=own.policy, per_minute=per_minute).has_news:
        wake_outbox()


@app.task(name="r8scan.tidy")  # type: ignore[untyped-decorator]  # celery has no types
def tidy() -> None:
    """Delete rows and folders whose time is over."""
    with bulkheads.place("tidy") as is_free:
        if is_free:
            _tidy()


def _tidy() -> None:
    own = context.current()
    for step in (_decide_again_on_finds, _decide_again_on_reports):
        _guarded(step)
    mirror_folders.remove_abandoned(own.settings.state_dir)
    with own.database.write() as session:
        jobs.delete_old(session, days=JOBS_KEPT_DAYS, failed_days=FAILED_JOBS_KEPT_DAYS)
        sightings.purge_expired(session)
        reports.purge_expired(session)
        rates.purge_expired(session)
        tallies.purge_expired(session)
        announcements.purge_expired(session)
    # Each in a transaction of its own: a million rows at once would hold up everybody else.
    for old in (
        ReadPush.read_at < db_now(-READ_PUSHES_KEPT_DAYS * 86400),
        ReadObject.read_at < db_now(-READ_OBJECTS_KEPT_DAYS * 86400),
        SeenEvent.seen_at < db_now(-SEEN_EVENTS_KEPT_DAYS * 86400),
        Gap.until_at < db_now(-GAPS_KEPT_DAYS * 86400),
    ):
        with own.database.write() as session:
            session.execute(delete(old.left.table).where(old).execution_options(synchronize_session=False))
    usage.purge_expired(own.database, keep_days=own.settings.usage_keep_days)
    unread_contents.purge(own.database)
    retention.purge_expired(own.database, keep_days=own.settings.keep_days)

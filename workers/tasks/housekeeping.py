"""Housekeeping: the sweeper, which rings for every row that is due, and the tidying of what is old."""

from __future__ import annotations

from sqlalchemy import delete

from scanner.records import jobs, leases
from scanner.records.models import Notification, ReadPush, db_now
from scanner.response import sightings
from scanner.signs import rates, reports, usage
from scanner.sources import recovery, rescan
from workers import context
from workers.celery import app
from workers.doorbell import ring
from workers.tasks.polling import look_up
from workers.tasks.reporting import settle_reports

JOBS_KEPT_DAYS = 3
FAILED_JOBS_KEPT_DAYS = 30
READ_PUSHES_KEPT_DAYS = 14


@app.task(name="r8scan.sweep")  # type: ignore[untyped-decorator]  # celery has no types
def sweep() -> None:
    """Find what a lost message or a dead worker left undone, and ring for it."""
    own = context.current()
    recovery.take_back(own.database, own.settings.state_dir)
    look_up()
    settle_reports()
    with own.database.read() as session:
        due = jobs.due_count(session, ("pushes", "repository"))
        unsent = leases.due_keys(session, Notification, Notification.state.in_(("pending", "frozen")), limit=1)
    if due.get("pushes"):
        ring("r8scan.scan", due["pushes"])
    if due.get("repository"):
        ring("r8scan.rescan")
    if unsent:
        ring("r8scan.deliver")


@app.task(name="r8scan.tidy")  # type: ignore[untyped-decorator]  # celery has no types
def tidy() -> None:
    """Delete rows and folders whose time is over."""
    own = context.current()
    rescan.remove_abandoned(own.settings.state_dir)
    with own.database.write() as session:
        jobs.delete_old(session, days=JOBS_KEPT_DAYS, failed_days=FAILED_JOBS_KEPT_DAYS)
        sightings.forget_old(session)
        reports.forget_old(session)
        rates.forget_old(session)
        session.execute(delete(ReadPush).where(ReadPush.read_at < db_now(-READ_PUSHES_KEPT_DAYS * 86400)))
    usage.forget_old(own.database, keep_days=own.settings.usage_keep_days)

"""Reporting: other internal systems send digests by task, and what is undecided is decided."""

from __future__ import annotations

import logging
from typing import Any

from scanner.signs import reports, settling
from scanner.signs.reports import BadReport
from workers import bulkheads, context
from workers.celery import app
from workers.doorbell import ring, ring_outbox

MOST_DIGESTS = 10_000

_log = logging.getLogger(__name__)


@app.task(name="r8scan.report")  # type: ignore[untyped-decorator]  # celery has no types
def report(digests: Any, sign: Any, note: Any = "", reporter: Any = "task", key: Any = None) -> None:
    """Record reports of the digests (64 hex digits each) and decide on them.

    Raw tokens are refused, and nothing that was given is logged. A message that comes twice does nothing twice.
    """
    try:
        given = _checked(digests, sign, note, reporter, key)
    except BadReport as err:
        _log.error("a report by task was refused as a whole: it %s", err)
        return
    own = context.current()
    ids = reports.record(own.database, given)
    settled = settling.settle(own.database, ids, policy=own.policy, per_minute=own.settings.brake_per_minute)
    if settled.has_news:
        ring_outbox()


@app.task(name="r8scan.settle_reports")  # type: ignore[untyped-decorator]  # celery has no types
def settle_reports() -> None:
    """Decide on the reports that are due; rings again while there are more."""
    with bulkheads.place("settle_reports") as is_free:
        if not is_free:
            return
        own = context.current()
        due, settled = settling.settle_due(own.database, policy=own.policy, per_minute=own.settings.brake_per_minute)
    if due:
        ring("r8scan.settle_reports")
    if settled.has_news:
        ring_outbox()


def _checked(digests: Any, sign: Any, note: Any, reporter: Any, key: Any) -> list[reports.NewReport]:
    if not isinstance(digests, list) or not 0 < len(digests) <= MOST_DIGESTS:
        raise BadReport(f"has no list of 1 to {MOST_DIGESTS} digests")
    if not isinstance(reporter, str):
        raise BadReport("has a reporter that is not text")
    checked = []
    for number, digest in enumerate(digests, 1):
        try:
            subject = reports.digest_only(digest)
        except BadReport as err:
            raise BadReport(f"holds something at position {number} that {err}") from None
        checked.append(reports.new_report(subject, sign=sign, note=note, reporter=reporter, key=key))
    return checked

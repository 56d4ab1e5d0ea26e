"""Writes a summary of the service's work into the log once a minute.

The same process also logs what operators did with commands, because commands have no log of their own.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.records import security_log
from scanner.records.audit_models import AuditEntry, AuditHead
from scanner.records.canaries import is_no_canary
from scanner.records.database import Database
from scanner.records.health_models import NotifiedProblem
from scanner.records.models import Incident, Notification, db_hour, db_now
from scanner.records.source_models import Tally
from scanner.records.states import JobState, NotificationState
from scanner.settings import Settings
from workers.health.claims import claim
from workers.health.overview import overview
from workers.health.rows import Overview
from workers.health.sources import SCANNED

MINUTE = 60.0
ROW = "summary"
"""The `key` and `kind` of the database row that records the last summary. Its `sentence` is a `_Position` as JSON."""
COMMANDS = "operator"
"""In the audit log, the names of people who run commands begin with this text."""
MAX_ENTRIES = 1000
"""The maximum number of audit entries that one summary reads."""

_log = logging.getLogger("r8scan.summary")


@dataclass(frozen=True, slots=True)
class _Position:
    """How far the last summary came: the id of the newest audit entry, and the counters of things that were read."""

    audit: int | None = None
    read: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


def write_due(database: Database, settings: Settings, found: Overview | None = None, *, patience: float = 0.0) -> bool:
    """Log the summary if the last one is a minute old. Return True if this process wrote it.

    Args:
        found: The current state of the service, if the caller has just read it.
        patience: Seconds for which this process leaves a due summary to other processes.
    """
    with database.write() as session:
        if not claim(session, ROW, MINUTE + patience):
            return False
        row = session.execute(select(NotifiedProblem).where(NotifiedProblem.key == ROW)).scalar_one()
        stored = json.loads(row.sentence or "{}")
        before = _Position(audit=stored.get("audit"), read=stored.get("read", {}))
        now = _Position(audit=_next_audit(session, before), read=_counters(session))
        entries = _entries_of_commands(session, before, now)
        row.sentence = json.dumps(asdict(now))
    for entry in entries:
        security_log.write(
            entry.what, {**entry.evidence, "entry": entry.id}, who=entry.who, incident_id=entry.incident_id
        )
    found = found or overview(database, settings)
    with database.read() as session:
        fields = {"read": _growth(before, now), **of_last_minute(session, found)}
    _log.info("the last minute", extra={name: value for name, value in fields.items() if value})
    return True


def of_last_minute(session: Session, found: Overview) -> dict[str, Any]:
    """Return the fields of a summary: the work done in the last minute, and the waiting work."""
    since = db_now(-MINUTE)
    actions = (
        select(Incident.action, func.count())
        .where(Incident.detected_at > since, is_no_canary())
        .group_by(Incident.action)
    )
    mails = select(Notification.channel, func.count()).where(
        Notification.state == NotificationState.SENT,
        # For a sent message, this column contains the time of sending. Unlike `sent_at`, it has an index.
        Notification.next_attempt_at > since,
    )
    waiting = Counter[str]()
    for row in found.queues:
        waiting[row.kind] += row.jobs if row.state == JobState.QUEUED else 0
    oldest = [row.oldest_seconds or 0.0 for row in found.queues if row.state == JobState.QUEUED]
    return {
        "incidents": {str(action): number for action, number in session.execute(actions)},
        "sent": {str(channel): number for channel, number in session.execute(mails.group_by(Notification.channel))},
        "waiting": dict(+waiting),
        "oldest_seconds": round(max(oldest, default=0.0)),
        "spool": found.spool_entries,
        "problems": [one.key for one in found.problems],
    }


def _next_audit(session: Session, before: _Position) -> int:
    last_id: int = session.execute(select(AuditHead.last_id)).scalar_one()
    return last_id if before.audit is None else min(last_id, before.audit + MAX_ENTRIES)


def _entries_of_commands(session: Session, before: _Position, now: _Position) -> Sequence[Any]:
    """Return the audit entries that commands wrote between two summaries."""
    if before.audit is None:
        return []
    statement = (
        select(AuditEntry.id, AuditEntry.who, AuditEntry.what, AuditEntry.evidence, AuditEntry.incident_id)
        .where(AuditEntry.id > before.audit, AuditEntry.id <= now.audit, AuditEntry.who.startswith(COMMANDS))
        .order_by(AuditEntry.id)
    )
    return session.execute(statement).all()


def _counters(session: Session) -> dict[str, dict[str, int]]:
    """Return how many pushes, files and other things were read in this and the previous hour, by hour and kind."""
    statement = (
        select(Tally.hour, Tally.name, func.sum(Tally.count))
        .where(Tally.hour >= db_hour(-3600), Tally.name.in_(SCANNED))
        .group_by(Tally.hour, Tally.name)
    )
    found: dict[str, dict[str, int]] = {}
    for hour, name, number in session.execute(statement):
        found.setdefault(hour.isoformat(), {})[name] = int(number)
    return found


def _growth(before: _Position, now: _Position) -> dict[str, int]:
    """Return how many pushes, files and other things were read between two summaries, by kind."""
    if not before.read:
        return {}
    grown = Counter[str]()
    for hour, numbers in now.read.items():
        for name, number in numbers.items():
            grown[name] += number - before.read.get(hour, {}).get(name, 0)
    return dict(+grown)

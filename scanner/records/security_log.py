"""The security log: one line for each security event, with ids and counts but no mail addresses."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session

LOGGER = "r8scan.security"
FIELDS = frozenset(
    {
        "as",
        "attempts",
        "channel",
        "digest",
        "entries",
        "entry",
        "job",
        "jobs",
        "limit",
        "message_id",
        "network",
        "new_places",
        "not_kept",
        "number",
        "occasion",
        "per_minute",
        "places",
        "reason",
        "recipients",
        "refusals",
        "report",
        "reporter",
        "role",
        "sessions",
        "sign",
        "source",
        "target",
        "url",
        "user",
    }
)
"""The fields that a line may contain besides kind, person, incident and job. Other fields may name people."""
_WAITING = "r8scan_security_lines"

_log = logging.getLogger(LOGGER)
_thread = threading.local()


@contextmanager
def of_job(job_id: int | None) -> Iterator[None]:
    """Add this job's id to all lines that this thread writes to the security log in the `with` block."""
    before = current_job()
    _thread.job = job_id
    try:
        yield
    finally:
        _thread.job = before


def current_job() -> int | None:
    """Return the id of the job that this thread works on, or None."""
    found: int | None = getattr(_thread, "job", None)
    return found


def write(
    kind: str,
    fields: Mapping[str, Any],
    *,
    who: str | None = None,
    incident_id: uuid.UUID | None = None,
    level: int = logging.INFO,
) -> None:
    """Write one line to the security log now.

    Args:
        kind: What happened, by its name in the audit, such as "token_disabled".
        fields: Further values of the line. Fields whose names are not in `FIELDS` are left out.
        who: The person or process that caused the event, or None.
    """
    extra: dict[str, Any] = {"kind": kind}
    if who is not None:
        extra["who"] = who
    if incident_id is not None:
        extra["incident"] = str(incident_id)
    if (job := current_job()) is not None:
        extra["job"] = job
    extra |= {name: value for name, value in fields.items() if name in FIELDS and value is not None}
    _log.log(level, kind.replace("_", " "), extra=extra)


def write_after_commit(
    session: Session, kind: str, fields: Mapping[str, Any], *, who: str | None, incident_id: uuid.UUID | None = None
) -> None:
    """Write one line to the security log when the session's transaction commits, and nothing if it is rolled back."""
    if _WAITING not in session.info:
        session.info[_WAITING] = []
        event.listen(session, "after_commit", _write_waiting)
        event.listen(session, "after_rollback", _forget_waiting)
    session.info[_WAITING].append((kind, dict(fields), who, incident_id))


def _write_waiting(session: Session) -> None:
    if session.in_nested_transaction():
        return
    waiting = list(session.info[_WAITING])
    session.info[_WAITING].clear()
    for kind, fields, who, incident_id in waiting:
        write(kind, fields, who=who, incident_id=incident_id)


def _forget_waiting(session: Session) -> None:
    session.info[_WAITING].clear()

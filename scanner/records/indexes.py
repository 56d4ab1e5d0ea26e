"""The indexes that have a condition, several columns or an operator class. `index=True` at a column defines the others.

The migrations create all indexes. Only they import this module, because no query needs the definition of an index, and
conditions for PostgreSQL make SQLAlchemy import its PostgreSQL support, which the commands with SQLite do not need.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Index, text
from sqlalchemy.orm import InstrumentedAttribute

from scanner.records.audit_models import AuditEntry
from scanner.records.canary_models import Canary
from scanner.records.compromise_models import Report
from scanner.records.models import (
    ApiToken,
    Exposure,
    Incident,
    Notification,
    NotificationSubject,
    ScanJob,
    Sighting,
)


def _partial(name: str, *columns: InstrumentedAttribute[Any], where: str, unique: bool = False) -> None:
    """Define an index of the rows that meet the condition."""
    Index(name, *columns, unique=unique, postgresql_where=text(where), sqlite_where=text(where))


def _of_beginnings(name: str, column: InstrumentedAttribute[Any]) -> None:
    """Define an index for a search by the first characters, which PostgreSQL uses in each locale."""
    Index(name, column, postgresql_ops={column.key: "text_pattern_ops"})


_partial("ix_incidents_disabling", Incident.next_attempt_at, where="action = 'disabling'")
_partial("uq_incidents_open_digest", Incident.digest, where="state = 'open'", unique=True)
_partial(
    "uq_notifications_pending", Notification.channel, Notification.merge_key, where="state = 'pending'", unique=True
)
_partial(
    "uq_scan_jobs_waiting_dedupe_key", ScanJob.dedupe_key, where="state = 'queued' AND begun_at IS NULL", unique=True
)

# For the workers, which claim due rows and count them.
Index("ix_canaries_state_way", Canary.state, Canary.way)
Index("ix_notifications_state_next_attempt_at", Notification.state, Notification.next_attempt_at)
Index("ix_reports_decision_decided_at", Report.decision, Report.decided_at)
Index("ix_reports_state_next_check_at", Report.state, Report.next_check_at)
Index(
    "ix_scan_jobs_kind_state_priority_next_attempt_at",
    ScanJob.kind,
    ScanJob.state,
    ScanJob.priority,
    ScanJob.next_attempt_at,
)
Index("ix_scan_jobs_state", ScanJob.state)
Index("ix_sightings_state_next_check_at", Sighting.state, Sighting.next_check_at)

# For the console's search by the first characters of a token's hint or name, or of an account's name.
_of_beginnings("ix_api_tokens_hint", ApiToken.hint)
_of_beginnings("ix_api_tokens_name", ApiToken.name)
_of_beginnings("ix_incidents_account_name", Incident.account_name)
_of_beginnings("ix_incidents_token_name", Incident.token_name)
_of_beginnings("ix_incidents_hint", Incident.hint)

# For the console's list of protected or disabled tokens.
_partial("ix_api_tokens_protected", ApiToken.id, where="protected_at IS NOT NULL")
_partial("ix_api_tokens_disabled", ApiToken.id, where="disabled_at IS NOT NULL")

# For the console's filtered lists of incidents, which are sorted by time.
Index("ix_incidents_state_detected_at", Incident.state, Incident.detected_at)
Index("ix_incidents_action_detected_at", Incident.action, Incident.detected_at)
Index("ix_incidents_cause_detected_at", Incident.cause, Incident.detected_at)
_partial("ix_incidents_assignee_detected_at", Incident.assignee, Incident.detected_at, where="assignee IS NOT NULL")
Index(
    "ix_incidents_without_mail",
    Incident.detected_at,
    Incident.id,
    postgresql_where=text("NOT has_owner_mail"),
    sqlite_where=text("has_owner_mail = 0"),
)
Index("ix_exposures_source_list", Exposure.source, Exposure.detected_at, Exposure.incident_id)
Index("ix_exposures_repository_list", Exposure.repository_key, Exposure.detected_at, Exposure.incident_id)
_partial(
    "ix_notification_subjects_mail_list",
    NotificationSubject.mail_state,
    NotificationSubject.detected_at,
    NotificationSubject.incident_id,
    where="channel = 'email'",
)

# For reading the first few of possibly thousands of places of an incident.
Index("ix_exposures_incident_id_id", Exposure.incident_id, Exposure.id)

# For the console's lists of messages of one channel or recipient, and of all messages.
Index("ix_notifications_created_at", Notification.created_at)
Index("ix_notifications_channel_created_at", Notification.channel, Notification.created_at)
Index("ix_notifications_recipient_created_at", Notification.recipient, Notification.created_at)

# For the console's lists of jobs of one kind, source or parent job.
Index("ix_scan_jobs_kind_id", ScanJob.kind, ScanJob.id)
Index("ix_scan_jobs_source_id", ScanJob.source, ScanJob.id)
Index("ix_scan_jobs_parent_id_id", ScanJob.parent_id, ScanJob.id)

# For the console's list of actions by people, without the service's own entries.
_partial("ix_audit_people", AuditEntry.id, where="who <> 'r8scan'")

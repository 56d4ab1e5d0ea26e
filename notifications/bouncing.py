"""Mails that came back after a server had taken them: the sent row becomes failed, and the operator is told."""

from __future__ import annotations

import re
import uuid
from enum import Enum

from sqlalchemy import select, update

from notifications.claiming import CHANNELS, OPEN
from notifications.delivery import MAX_ERROR_LENGTH, audit_mail, tell_undeliverable
from notifications.email.bounces import Bounce
from notifications.email.render import MailIdentity
from notifications.email.wording import clean
from scanner.records.database import Database
from scanner.records.models import Notification
from scanner.records.states import NotificationState

# Every Message-ID of ours begins with the row's own id: no index is needed to find it.
_OURS = re.compile(r"<([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})@")


class Outcome(Enum):
    """What a bounce has changed."""

    FAILED = "recorded: the mail has failed"
    UNCHANGED = "nothing changed: the server has not given up, or the mail counts as failed already"
    UNKNOWN = "no mail of ours has this Message-ID"
    EARLY = "the mail is being sent at this moment: hand it over again later"


def record(database: Database, bounce: Bounce, identity: MailIdentity) -> Outcome:
    """Settle the sent mail as failed, and queue the operator's mail about an owner's, in one transaction."""
    own = _OURS.match(bounce.message_id)
    if own is None:
        return Outcome.UNKNOWN
    with database.write() as session:
        row = session.execute(
            select(Notification).where(
                Notification.id == uuid.UUID(own[1]),
                Notification.message_id == bounce.message_id,
                Notification.channel.in_(CHANNELS),
            )
        ).scalar_one_or_none()
        if row is None:
            return Outcome.UNKNOWN
        if not bounce.has_failed or row.state == NotificationState.FAILED:
            return Outcome.UNCHANGED
        if row.state in OPEN:
            return Outcome.EARLY
        # The condition again: two notifications about one mail may come at once, and tell the operator once.
        settled = session.execute(
            update(Notification)
            .where(Notification.id == row.id, Notification.state == NotificationState.SENT)
            .values(state=NotificationState.FAILED, error=clean(bounce.reason, MAX_ERROR_LENGTH))
            .execution_options(synchronize_session=False)
        )
        if not settled.rowcount:  # type: ignore[attr-defined]  # an UPDATE's result has it
            return Outcome.UNCHANGED
        audit_mail(session, row, "mail_bounced", error=clean(bounce.reason, MAX_ERROR_LENGTH))
        if row.channel == "email":
            tell_undeliverable(session, row.id, identity)
        return Outcome.FAILED

"""Records bounces: reports that a server could not deliver a mail."""

from __future__ import annotations

import re
import uuid
from enum import Enum

from sqlalchemy import select, update

from notifications.claiming import CHANNELS, OPEN
from notifications.delivery import MAX_ERROR_LENGTH, audit_mail, queue_undeliverable_notice
from notifications.email.bounces import Bounce
from notifications.email.render import MailIdentity
from notifications.email.wording import clean
from scanner.records.database import Database
from scanner.records.models import Notification
from scanner.records.states import Channel, NotificationState

# The Message-ID of a mail begins with the id of its database row. A bounce contains the Message-ID, so it leads to the
# row.
_MESSAGE_ID_OF_ROW = re.compile(r"<([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})@")


class BounceOutcome(Enum):
    """The result of recording a bounce. The value is the text that `r8scan email bounced` prints."""

    FAILED = "recorded: the mail has failed"
    UNCHANGED = "nothing changed: the server is still trying, or the mail was already recorded as failed"
    UNKNOWN = "no mail of this service has this Message-ID"
    EARLY = "the mail is still being sent: pass the bounce on again later"


def record(database: Database, bounce: Bounce, identity: MailIdentity) -> BounceOutcome:
    """If the bounce says that its mail has failed, record this, and tell the operator if the mail was for an owner."""
    found = _MESSAGE_ID_OF_ROW.match(bounce.message_id)
    if found is None:
        return BounceOutcome.UNKNOWN
    with database.write() as session:
        row = session.execute(
            select(Notification).where(
                Notification.id == uuid.UUID(found[1]),
                Notification.message_id == bounce.message_id,
                Notification.channel.in_(CHANNELS),
            )
        ).scalar_one_or_none()
        if row is None:
            return BounceOutcome.UNKNOWN
        if not bounce.has_failed or row.state == NotificationState.FAILED:
            return BounceOutcome.UNCHANGED
        if row.state in OPEN:
            return BounceOutcome.EARLY
        # Two workers may record bounces of the same mail at the same time, but the operator must get only one mail
        # about them.
        settled = session.execute(
            update(Notification)
            .where(Notification.id == row.id, Notification.state == NotificationState.SENT)
            .values(state=NotificationState.FAILED, error=clean(bounce.reason, MAX_ERROR_LENGTH))
            .execution_options(synchronize_session=False)
        )
        if not settled.rowcount:  # type: ignore[attr-defined]  # an UPDATE's result has it
            return BounceOutcome.UNCHANGED
        audit_mail(session, row, "mail_bounced", error=clean(bounce.reason, MAX_ERROR_LENGTH))
        if row.channel == Channel.EMAIL:
            queue_undeliverable_notice(session, row.id, identity)
        return BounceOutcome.FAILED

"""Operator actions on messages that could not be sent, except mails to owners."""

from __future__ import annotations

from sqlalchemy import update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from scanner.records import audit
from scanner.records.models import Notification, db_now
from scanner.records.states import Channel, NotificationState
from scanner.response.operator_actions import NotPossible


def retry(session: Session, message: Notification, *, who: str) -> None:
    """Queue a failed message to a gateway or to the operator again. It is retried for another three days.

    Raises:
        NotPossible: The message did not fail, is a mail to an owner, or has no recipient, or a newer message to the
            same recipient is waiting.
    """
    session.refresh(message, with_for_update=True)
    if message.state != NotificationState.FAILED:
        raise NotPossible("the message did not fail: there is nothing to try again")
    if message.channel == Channel.EMAIL:
        raise NotPossible("an owner's mail is sent again from the page of its incident")
    is_mail = message.channel == Channel.OPERATOR
    if message.recipient is None if is_mail else message.facts is None:
        raise NotPossible("the message has no address or no content: it cannot be sent")
    values = {"state": NotificationState.PENDING, "facts": None} if is_mail else {"state": NotificationState.FROZEN}
    try:
        session.execute(
            update(Notification)
            .where(Notification.id == message.id)
            .values(created_at=db_now(), next_attempt_at=db_now(), leased_until=None, error=None, **values)
            .execution_options(synchronize_session=False)
        )
    except IntegrityError as err:
        raise NotPossible("a newer mail with the same content is already waiting for the same address") from err
    evidence = {"notification": str(message.id), "channel": message.channel}
    audit.record(session, "message_retried", evidence, who=who)

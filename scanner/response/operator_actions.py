"""What operators decide by hand: tokens disabled and brought back, incidents closed, opened again, annotated, re-sent.

Each is one step in the caller's writing transaction, and leaves an entry in the audit with who and why.
"""

from __future__ import annotations

import uuid

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from scanner.detection import redact
from scanner.records import announcements, audit, outbox
from scanner.records.announcements import Stopped
from scanner.records.models import ApiToken, Incident, Notification, NotificationSubject
from scanner.records.states import Cause, Decision, IncidentState, NotificationState
from scanner.response import incidents
from scanner.response.policy import Policy
from scanner.tokens import sql
from scanner.tokens.protocol import TokenRecord

MAX_REASON_LENGTH = 500
TOLD_ACTIONS = (Decision.DISABLED, Decision.ALREADY_DISABLED)
"""Actions of which an owner can be told."""


class NotPossible(Exception):
    """The decision does not fit how things stand; the message is one line that says why."""


def cleaned(reason: str) -> str:
    """An operator's words as they are kept: one printable line without tokens. NotPossible when nothing is left."""
    kept = redact("".join(char if char.isprintable() else " " for char in reason)).strip()
    if not kept:
        raise NotPossible("say why: the reason is empty")
    return kept if len(kept) <= MAX_REASON_LENGTH else kept[: MAX_REASON_LENGTH - 1] + "…"


def disable_token(session: Session, token: TokenRecord, policy: Policy, *, who: str) -> bool:
    """Disable a token of the SQL store and tell gateways; its owner is not mailed. False: it was disabled already."""
    at = sql.disable(session, token.digest, "operator")
    if at is None:
        return False
    announcements.announce(session, [Stopped(token.digest, token.id, Cause.OPERATOR, at)], policy.announce)
    _audit(session, "token_disabled_by_hand", token.digest, who=who)
    return True


def enable_token(session: Session, digest: str, *, who: str, reason: str) -> bool:
    """Bring a disabled token of the SQL store back. False: it was not disabled.

    It is disabled again only by a new exposure or report: places where it was seen before do nothing.
    """
    words = cleaned(reason)
    result = session.execute(
        update(ApiToken)
        .where(ApiToken.digest == digest, ApiToken.disabled_at.is_not(None))
        .values(disabled_at=None, disabled_reason=None)
        .execution_options(synchronize_session=False)
    )
    if not result.rowcount:  # type: ignore[attr-defined]  # an UPDATE's result has it
        return False
    _audit(session, "token_enabled_by_hand", digest, who=who, reason=words)
    # Else an old place of it could be acted on again.
    incidents.close_over(session, incidents.opened(session, [digest]).values())
    return True


def protect_token(session: Session, digest: str, *, protected: bool, who: str) -> None:
    """Have finds of the token page the operator instead of disabling it, or no longer."""
    sql.protect(session, digest, protected=protected)
    _audit(session, "token_protected_by_hand" if protected else "token_unprotected", digest, who=who)


def annotate(session: Session, incident: Incident, *, who: str, text: str) -> None:
    """Add an operator's note to the incident's story."""
    audit.record(session, "note", {"text": cleaned(text)}, who=who, incident_id=incident.id)


def close(session: Session, incident: Incident, *, who: str, reason: str) -> None:
    """Close an incident: what is found of its token from now on is another one. NotPossible."""
    words = cleaned(reason)
    session.refresh(incident, with_for_update=True)
    if incident.state != IncidentState.OPEN:
        raise NotPossible("the incident is closed already")
    if incident.action == Decision.DISABLING:
        raise NotPossible("its token is being disabled at this moment: try again when that is done")
    incident.state = IncidentState.CLOSED
    audit.record(session, "incident_closed", {"reason": words}, who=who, incident_id=incident.id)


def reopen(session: Session, incident: Incident, *, who: str, reason: str) -> None:
    """Open a closed incident again; nothing is disabled and nobody is told by that. NotPossible."""
    words = cleaned(reason)
    session.refresh(incident, with_for_update=True)
    if incident.state == IncidentState.OPEN:
        raise NotPossible("the incident is open")
    other = session.execute(
        select(Incident.id).where(Incident.digest == incident.digest, Incident.state == IncidentState.OPEN)
    ).scalar_one_or_none()
    if other is not None:
        raise NotPossible(f"another incident of the same token is open: {other}")
    incident.state = IncidentState.OPEN
    try:
        session.flush()
    except IntegrityError as err:
        raise NotPossible("another incident of the same token was opened meanwhile: look again") from err
    audit.record(session, "incident_reopened", {"reason": words}, who=who, incident_id=incident.id)


def resend(
    session: Session, incident: Incident, token: TokenRecord, *, domain: str, who: str, reason: str
) -> list[uuid.UUID]:
    """Queue the incident's mail once more for whom the token's store names now; the new rows. NotPossible."""
    words = cleaned(reason)
    if incident.action not in TOLD_ACTIONS:
        raise NotPossible(f"there is no mail to an owner about it: its action is {incident.action}")
    if token.disabled_at is None:
        raise NotPossible("the token works again: its owner must not be told that it is disabled")
    if not token.recipients:
        raise NotPossible("the account has no mail address: add one in the token store first")
    # Two at once would both find that nothing waits.
    session.execute(select(Incident.id).where(Incident.id == incident.id).with_for_update())
    waiting = session.execute(
        select(Notification.recipient)
        .join(NotificationSubject)
        .where(
            NotificationSubject.incident_id == incident.id,
            Notification.channel == "email",
            Notification.state.in_((NotificationState.PENDING, NotificationState.FROZEN)),
        )
    ).scalars()
    known = {outbox.folded(recipient) for recipient in waiting if recipient}
    held = [recipient for recipient in outbox.distinct(token.recipients) if outbox.folded(recipient) in known]
    if held:
        raise NotPossible(f"a mail to {held[0]} waits already: see r8scan incidents show")
    rows = outbox.tell_again(
        session,
        incident.id,
        account_id=incident.account_id,
        recipients=token.recipients,
        occasion=incident.action,
        domain=domain,
    )
    evidence = {"reason": words, "recipients": len(rows), "notifications": [str(row) for row in rows]}
    audit.record(session, "mail_resent", evidence, who=who, incident_id=incident.id)
    return rows


def _audit(session: Session, what: str, digest: str, *, who: str, reason: str = "") -> None:
    """An entry about a token; its newest incident tells it too."""
    incident_id = session.execute(
        select(Incident.id).where(Incident.digest == digest).order_by(Incident.detected_at.desc()).limit(1)
    ).scalar_one_or_none()
    evidence = {"digest": digest, **({"reason": reason} if reason else {})}
    audit.record(session, what, evidence, who=who, incident_id=incident_id)

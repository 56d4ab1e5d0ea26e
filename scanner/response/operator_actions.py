"""Operator actions: disable, enable and protect tokens; close, reopen and annotate incidents; send a mail again.

Each action runs in the caller's writing transaction and records who did it and why in the audit.
"""

from __future__ import annotations

import uuid

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from scanner.detection import redact
from scanner.records import announcements, audit, outbox
from scanner.records.announcements import DisabledToken
from scanner.records.models import ApiToken, Incident, Notification, NotificationSubject
from scanner.records.states import Cause, Channel, Decision, IncidentState, NotificationState, Occasion
from scanner.response import incidents
from scanner.response.policy import Policy
from scanner.tokens import sql
from scanner.tokens.protocol import TokenRecord

MAX_REASON_LENGTH = 500
MAX_ASSIGNEE = 100
MAILED_ACTIONS = (Decision.DISABLED, Decision.ALREADY_DISABLED)
"""The owner can receive a mail about incidents with these actions."""


class NotPossible(Exception):
    """Raised if the action is not possible in the present state. The message is one line."""


def cleaned(reason: str) -> str:
    """Return an operator's text as one printable line, with tokens redacted, of at most `MAX_REASON_LENGTH` characters.

    Raises:
        NotPossible: The text is empty.
    """
    line = redact("".join(char if char.isprintable() else " " for char in reason)).strip()
    if not line:
        raise NotPossible("say why: the reason is empty")
    return line if len(line) <= MAX_REASON_LENGTH else line[: MAX_REASON_LENGTH - 1] + "…"


def disable_token(session: Session, token: TokenRecord, policy: Policy, *, who: str) -> bool:
    """Disable a token of the SQL token store and announce this to API gateways. The owner receives no mail.

    Return False if the token was already disabled.
    """
    at = sql.disable(session, token.digest, "operator")
    if at is None:
        return False
    announcements.announce(session, [DisabledToken(token.digest, token.id, Cause.OPERATOR, at)], policy.announce)
    _audit(session, "token_disabled_by_operator", token.digest, who=who)
    return True


def enable_token(session: Session, digest: str, *, who: str, reason: str) -> bool:
    """Enable a disabled token of the SQL token store. Return False if the token was not disabled.

    r8scan disables the token again if it is reported, or found in a new public place.

    Raises:
        NotPossible: The reason is empty.
    """
    cleaned_reason = cleaned(reason)
    result = session.execute(
        update(ApiToken)
        .where(ApiToken.digest == digest, ApiToken.disabled_at.is_not(None))
        .values(disabled_at=None, disabled_reason=None)
        .execution_options(synchronize_session=False)
    )
    if not result.rowcount:  # type: ignore[attr-defined]  # an UPDATE's result has it
        return False
    _audit(session, "token_enabled_by_operator", digest, who=who, reason=cleaned_reason)
    # Close the open incident. Otherwise `decide_again` could disable the token again for an old finding.
    incidents.close_reenabled(session, incidents.open_incidents(session, [digest]).values())
    return True


def protect_token(session: Session, digest: str, *, protected: bool, who: str) -> None:
    """Protect a token of the SQL token store, or remove its protection.

    If a protected token is found, only the operator is notified.
    """
    sql.protect(session, digest, protected=protected)
    _audit(session, "token_protected_by_operator" if protected else "token_unprotected", digest, who=who)


def annotate(session: Session, incident: Incident, *, who: str, text: str) -> None:
    """Add an operator's note to the incident's timeline.

    Raises:
        NotPossible: The text is empty.
    """
    audit.record(session, "note", {"text": cleaned(text)}, who=who, incident_id=incident.id)


def assign(session: Session, incident: Incident, *, who: str, to: str) -> None:
    """Record which person handles the incident. "" means nobody.

    Raises:
        NotPossible: The name is too long or not printable, or the person is already assigned.
    """
    name = redact(" ".join(to.split()))
    if len(name) > MAX_ASSIGNEE or not name.isprintable():
        raise NotPossible(f"a name has at most {MAX_ASSIGNEE} printable characters")
    if (incident.assignee or "") == name:
        raise NotPossible(f"{name or 'nobody'} is already assigned to the incident")
    incident.assignee = name or None
    audit.record(session, "incident_assigned", {"to": name or "nobody"}, who=who, incident_id=incident.id)


def close(session: Session, incident: Incident, *, who: str, reason: str) -> None:
    """Close an incident. If its token is found again later, a new incident is opened.

    Raises:
        NotPossible: The incident is already closed, its token is being disabled, or the reason is empty.
    """
    cleaned_reason = cleaned(reason)
    session.refresh(incident, with_for_update=True)
    if incident.state != IncidentState.OPEN:
        raise NotPossible("the incident is closed already")
    if incident.action == Decision.DISABLING:
        raise NotPossible("its token is being disabled at this moment: try again when that is done")
    incident.state = IncidentState.CLOSED
    audit.record(session, "incident_closed", {"reason": cleaned_reason}, who=who, incident_id=incident.id)


def reopen(session: Session, incident: Incident, *, who: str, reason: str) -> None:
    """Open a closed incident again. This disables no token and sends no mail.

    Raises:
        NotPossible: The incident is open, another incident of its token is open, or the reason is empty.
    """
    cleaned_reason = cleaned(reason)
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
    audit.record(session, "incident_reopened", {"reason": cleaned_reason}, who=who, incident_id=incident.id)


def resend(
    session: Session, incident: Incident, token: TokenRecord, *, domain: str, who: str, reason: str
) -> list[uuid.UUID]:
    """Queue the incident's mail again, for the recipients that the token store now returns.

    Returns:
        The ids of the new notifications.

    Raises:
        NotPossible: The owner must not or cannot receive a mail, a mail is still waiting, or the reason is empty.
    """
    cleaned_reason = cleaned(reason)
    if incident.action not in MAILED_ACTIONS:
        raise NotPossible(f"there is no mail to an owner about it: its action is {incident.action}")
    if token.disabled_at is None:
        raise NotPossible("the token works again: its owner must not be told that it is disabled")
    if not token.recipients:
        raise NotPossible(
            "the account has no mail address: add one first, in the token store or with r8scan tokens import, whose"
            " row names the token's sha256"
        )
    # Lock the incident. Otherwise two operators could both see that no mail is waiting, and queue two mails.
    session.execute(select(Incident.id).where(Incident.id == incident.id).with_for_update())
    waiting = session.execute(
        select(Notification.recipient)
        .join(NotificationSubject)
        .where(
            NotificationSubject.incident_id == incident.id,
            Notification.channel == Channel.EMAIL,
            Notification.state.in_((NotificationState.PENDING, NotificationState.FROZEN)),
        )
    ).scalars()
    known = {outbox.normalized_address(recipient) for recipient in waiting if recipient}
    held = [
        recipient
        for recipient in outbox.distinct_addresses(token.recipients)
        if outbox.normalized_address(recipient) in known
    ]
    if held:
        raise NotPossible(f"a mail to {held[0]} is already waiting: see r8scan incidents show")
    rows = outbox.notify_again(
        session,
        incident.id,
        account_id=incident.account_id,
        recipients=token.recipients,
        occasion=Occasion(incident.action),
        domain=domain,
    )
    evidence = {"reason": cleaned_reason, "recipients": len(rows), "notifications": [str(row) for row in rows]}
    audit.record(session, "mail_resent", evidence, who=who, incident_id=incident.id)
    return rows


def _audit(session: Session, what: str, digest: str, *, who: str, reason: str = "") -> None:
    """Add an audit entry about a token, and show it in its newest incident's timeline."""
    incident_id = session.execute(
        select(Incident.id).where(Incident.digest == digest).order_by(Incident.detected_at.desc()).limit(1)
    ).scalar_one_or_none()
    evidence = {"digest": digest, **({"reason": reason} if reason else {})}
    audit.record(session, what, evidence, who=who, incident_id=incident_id)

"""Queues notifications for owners, for the operator and for API gateways."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy.orm import Session

from scanner.records import announcements, outbox
from scanner.records.announcements import DisabledToken
from scanner.records.models import Incident
from scanner.records.outbox import OwnerNotice
from scanner.records.states import Cause, Decision, Occasion
from scanner.response.incidents import TokenIncident
from scanner.response.policy import Policy


def queue_notifications(session: Session, decided: Sequence[TokenIncident], policy: Policy) -> None:
    """Queue the notifications about the incidents, in the transaction that decided on them.

    Canaries (r8scan's own test tokens) cause no notification.
    """
    decided = [one for one in decided if one.incident.cause != Cause.CANARY]
    disabled = [_disabled_token(one.incident) for one in decided if one.incident.action == Decision.DISABLED]
    announcements.announce(session, disabled, policy.announce)
    owners: dict[tuple[str, tuple[str, ...], Occasion], list[uuid.UUID]] = defaultdict(list)
    operator: dict[Occasion, list[uuid.UUID]] = defaultdict(list)
    for one in decided:
        incident, token = one.incident, one.token
        occasion = Occasion(incident.action)
        if occasion not in (Occasion.DISABLED, Occasion.ALREADY_DISABLED):
            operator[occasion].append(incident.id)
        elif token.recipients or occasion == Occasion.DISABLED:
            owners[token.account_id or "", token.recipients, occasion].append(incident.id)
        if not token.recipients and occasion == Occasion.DISABLED:
            operator[Occasion.UNDELIVERABLE].append(incident.id)
    outbox.notify_owners(
        session,
        [
            OwnerNotice(account_id or None, recipients, occasion, tuple(incident_ids))
            for (account_id, recipients, occasion), incident_ids in sorted(owners.items())
        ],
        window=policy.mail_window,
        domain=policy.mail_domain,
    )
    for occasion, incident_ids in sorted(operator.items()):
        outbox.notify_operator(
            session,
            incident_ids,
            occasion,
            policy.operator_email,
            window=policy.mail_window,
            domain=policy.mail_domain,
        )


def _disabled_token(incident: Incident) -> DisabledToken:
    assert incident.disabled_at is not None  # noqa: S101 - every incident with the action `disabled` has it
    return DisabledToken(incident.digest, incident.token_id, incident.cause, incident.disabled_at, incident.id)

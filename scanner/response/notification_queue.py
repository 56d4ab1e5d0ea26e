"""Who has to be told of what was decided: rows of the outbox, for owners, for the operator and for gateways."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy.orm import Session

from scanner.records import announcements, outbox
from scanner.records.announcements import Stopped
from scanner.records.models import Incident
from scanner.records.outbox import OwnerNews
from scanner.records.states import Decision
from scanner.response.policy import Policy
from scanner.tokens.protocol import TokenRecord


def queue_notifications(session: Session, news: Sequence[tuple[Incident, TokenRecord]], policy: Policy) -> None:
    """Write the rows in the transaction that decided; accounts in one order, as every transaction takes them."""
    stopped = [_stopped(incident) for incident, _ in news if incident.action == Decision.DISABLED]
    announcements.announce(session, stopped, policy.announce)
    owners: dict[tuple[str, tuple[str, ...], str], list[uuid.UUID]] = defaultdict(list)
    operator: dict[str, list[uuid.UUID]] = defaultdict(list)
    for incident, token in news:
        if incident.action not in (Decision.DISABLED, Decision.ALREADY_DISABLED):
            operator[incident.action].append(incident.id)
        elif token.recipients or incident.action == Decision.DISABLED:
            owners[token.account_id or "", token.recipients, incident.action].append(incident.id)
        if not token.recipients and incident.action == Decision.DISABLED:
            operator[outbox.UNDELIVERABLE].append(incident.id)
    outbox.tell_owners(
        session,
        [
            OwnerNews(account_id or None, recipients, occasion, tuple(incident_ids))
            for (account_id, recipients, occasion), incident_ids in sorted(owners.items())
        ],
        window=policy.mail_window,
        domain=policy.mail_domain,
    )
    for occasion, incident_ids in sorted(operator.items()):
        outbox.tell_operator(
            session,
            incident_ids,
            occasion,
            policy.operator_email,
            window=policy.mail_window,
            domain=policy.mail_domain,
        )


def _stopped(incident: Incident) -> Stopped:
    assert incident.disabled_at is not None  # noqa: S101 - its action says so
    return Stopped(incident.digest, incident.token_id, incident.cause, incident.disabled_at, incident.id)

"""What is done about confirmed tokens: each is disabled, or the disable is planned, or the policy lets it live."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from scanner.records.models import Incident
from scanner.records.states import Decision
from scanner.response.policy import Policy
from scanner.response.store_access import Act
from scanner.tokens.protocol import TokenRecord


def enforce(session: Session, confirmed: Sequence[tuple[TokenRecord, Incident]], policy: Policy) -> list[Act]:
    """Disable each token unless its state, its protection or the policy says otherwise.

    Args:
        confirmed: tokens with their incidents; no token twice.

    Returns:
        What was done about each, in the same order.
    """
    let_be = {token.digest: _let_be(token, policy) for token, _ in confirmed}
    due = {token.digest: f"incident {incident.id}" for token, incident in confirmed if let_be[token.digest] is None}
    done = policy.access.disable(session, due)
    return [let_be[token.digest] or done[token.digest] for token, _ in confirmed]


def _let_be(token: TokenRecord, policy: Policy) -> Act | None:
    """Return why the token is not disabled now, or None if it is to be."""
    if token.disabled_at is not None:
        return Act(Decision.ALREADY_DISABLED, token.disabled_at)
    if token.is_protected:
        return Act(Decision.PROTECTED)
    if policy.enforce == "observe":
        return Act(Decision.OBSERVED)
    return None

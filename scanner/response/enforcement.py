"""Disables tokens that the token store has confirmed, unless the operator's policy exempts them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from scanner.records.states import Decision, EnforceMode
from scanner.response.incidents import TokenIncident
from scanner.response.policy import Policy
from scanner.response.store_access import TakenAction
from scanner.tokens.protocol import TokenRecord


def enforce(session: Session, confirmed: Sequence[TokenIncident], policy: Policy) -> list[TakenAction]:
    """Disable each token, unless it is disabled, protected, or the policy says only to observe.

    Args:
        confirmed: Tokens with their incidents. A token must not occur twice.

    Returns:
        The action taken for each token, in the same order.
    """
    exemptions = {one.token.digest: _exemption(one.token, policy) for one in confirmed}
    reasons = {
        one.token.digest: f"incident {one.incident.id}" for one in confirmed if exemptions[one.token.digest] is None
    }
    disabled = policy.access.disable(session, reasons)
    return [exemptions[one.token.digest] or disabled[one.token.digest] for one in confirmed]


def _exemption(token: TokenRecord, policy: Policy) -> TakenAction | None:
    """Return the action to take instead of disabling the token, or None if the token must be disabled."""
    if token.disabled_at is not None:
        return TakenAction(Decision.ALREADY_DISABLED, token.disabled_at)
    if token.is_protected:
        return TakenAction(Decision.PROTECTED)
    if policy.enforce == EnforceMode.OBSERVE:
        return TakenAction(Decision.OBSERVED)
    return None

"""What is done about confirmed tokens: disabled in our database, planned for another store, or let be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from scanner.records.models import Incident
from scanner.response.policy import Policy
from scanner.tokens import sql
from scanner.tokens.protocol import TokenRecord


@dataclass(frozen=True, slots=True)
class Act:
    """What came of a token, in a word (`Incident.action`); `at`: when it was disabled, by whomever."""

    action: str
    at: datetime | None = None


def act(session: Session, confirmed: Sequence[tuple[TokenRecord, Incident]], policy: Policy) -> list[Act]:
    """Disable each unless somebody decided otherwise; what came of it, in the same order. One token stands once."""
    live = {token.digest: f"incident {incident.id}" for token, incident in confirmed if _is_ours(token, policy)}
    disabled = sql.disable_all(session, live)
    return [_act(token, policy, disabled) for token, _ in confirmed]


def _is_ours(token: TokenRecord, policy: Policy) -> bool:
    """Whether it is disabled in our own database, here and now."""
    is_live = token.disabled_at is None and not token.is_protected
    return is_live and policy.enforce == "disable" and policy.store is None


def _act(token: TokenRecord, policy: Policy, disabled: dict[str, datetime]) -> Act:
    if token.disabled_at is not None:
        return Act("already_disabled", token.disabled_at)
    if token.is_protected:
        return Act("protected")
    if policy.enforce == "observe":
        return Act("observed")
    if policy.store is not None:
        return Act("disabling")
    at = disabled.get(token.digest)
    return Act("disabled", at) if at is not None else Act("already_disabled")

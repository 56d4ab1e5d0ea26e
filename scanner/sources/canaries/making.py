"""Creates canaries (test tokens) and registers their digests in the token store."""

from __future__ import annotations

from scanner.detection.canaries import CanaryContent, fresh_canary
from scanner.detection.digests import Digester
from scanner.records.canary_models import Canary
from scanner.records.database import Database
from scanner.records.states import CanaryState
from scanner.response.policy import Policy
from scanner.tokens.protocol import StoreUnavailable


def make(database: Database, policy: Policy, digester: Digester, canary_id: int) -> CanaryContent | None:
    """Make and register the token of a canary. Return None if the canary has ended or is gone.

    A second call for the same canary makes a new token.

    Raises:
        StoreUnavailable: The token store refuses the token.
    """
    content = fresh_canary(digester)
    # Store the digest before the token works, so that r8scan recognizes its own test token.
    if not _write(database, policy, canary_id, content.digest, None):
        return None
    try:
        policy.access.register_canary(database, content.digest, content.hint)
    except StoreUnavailable as err:
        _write(database, policy, canary_id, None, str(err))
        raise
    return content


def _write(database: Database, policy: Policy, canary_id: int, digest: str | None, error: str | None) -> bool:
    with database.write() as session:
        canary = session.get(Canary, canary_id, with_for_update=True)
        if canary is None or canary.state != CanaryState.PLANTED:
            return False
        if canary.digest is not None:
            policy.access.forget_canaries(session, [canary.digest])
        canary.digest, canary.error = digest, error
        return True

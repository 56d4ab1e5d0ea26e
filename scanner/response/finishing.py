"""Disables tokens in an external token store: claims incidents, calls the store and records the results.

Each call that disables a token has the incident's id as its idempotency key, so it can be repeated after a crash.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from scanner.records import audit, leases
from scanner.records.audit import Entry
from scanner.records.compromise_models import Report
from scanner.records.database import Database, is_conflict, is_unavailable
from scanner.records.leases import Lease, LeaseLost
from scanner.records.models import Incident, db_now
from scanner.records.states import Decision, EnforceMode
from scanner.response.incidents import TokenIncident, done
from scanner.response.notification_queue import queue_notifications
from scanner.response.policy import Policy
from scanner.response.respond import Response
from scanner.tokens.protocol import Disabled, LookUp, RemoteStore, StoreUnavailable, TokenRecord

BACKOFF_SECONDS = (5, 15, 30, 60, 120, 300)
MAX_DUE_INCIDENTS = 100
"""The number of due incidents that one run processes."""
FINISH_SECONDS = 20.0
"""After this time, a call leaves its remaining incidents to a later call."""
MAX_DOUBTFUL_ANSWERS = 10
"""After this many 'unknown' answers, accept that the store no longer has a token that it returned earlier."""
GROUP_SIZE = 20
FAILURES_OF_UNAVAILABLE_STORE = 2
"""If the first look-ups of single tokens fail this many times in a row, the store counts as unavailable."""
CALLS_AT_ONCE = 4
"""The number of concurrent calls for one group of incidents."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _ClaimedIncident:
    """An incident that this worker has claimed."""

    lease: Lease
    incident: Incident


@dataclass(frozen=True, slots=True)
class _CallResult:
    """A claimed incident and the external token store's answers about its token.

    `record` is the result of the look-up, and `disabled` the result of disabling. Each is None if there is no result.
    """

    lease: Lease
    incident: Incident
    record: TokenRecord | None
    disabled: Disabled | None

    @property
    def is_doubtful(self) -> bool:
        """Return whether the store says, perhaps wrongly, that it does not know the token."""
        return self.disabled is not None and (self.record is None or self.disabled.result == Decision.UNKNOWN)

    @property
    def doubtful_answers(self) -> int:
        """Return how often the token store has said that it does not know this token."""
        return int((self.incident.evidence or {}).get("doubts", 0)) + self.is_doubtful

    @property
    def is_final(self) -> bool:
        """Return whether the token store's answer can be recorded as final."""
        return self.disabled is not None and (not self.is_doubtful or self.doubtful_answers >= MAX_DOUBTFUL_ANSWERS)


def finish_due(database: Database, policy: Policy, store: RemoteStore) -> Response:
    """Disable the tokens of incidents that a crash or an outage left in the state `disabling`."""
    with database.read() as session:
        ids = leases.due_keys(session, Incident, Incident.action == Decision.DISABLING, limit=MAX_DUE_INCIDENTS)
    return finish(database, policy, store, ids)


def finish(database: Database, policy: Policy, store: RemoteStore, ids: Collection[uuid.UUID]) -> Response:
    """Disable the tokens of these incidents, whose state is `disabling`.

    Skip incidents that another worker has claimed. After `FINISH_SECONDS`, leave the remaining incidents to a later
    call of `finish_due`.
    """
    total = Response()
    ordered = list(ids)
    deadline = time.monotonic() + FINISH_SECONDS
    groups = [ordered[:1], *(ordered[start : start + GROUP_SIZE] for start in range(1, len(ordered), GROUP_SIZE))]
    for group in groups if ordered else ():
        try:
            total.add(_finish_group(database, policy, store, group, deadline))
        except StoreUnavailable as err:
            _log.error("the token store is unavailable: %s; r8scan will disable the tokens when it is back", err)
            break
        if time.monotonic() > deadline:
            break
    return total


def _finish_group(
    database: Database, policy: Policy, store: RemoteStore, ids: Sequence[uuid.UUID], deadline: float
) -> Response:
    """Claim one group of incidents, disable their tokens, and record what was done."""
    claimed = _claim(database, ids)
    if not claimed:
        return Response()
    with leases.keep_renewed(database, *(one.lease for one in claimed)):
        try:
            # Get the tokens again, because they may have changed and only the store has the mail addresses.
            found = _look_up(store, [one.incident.digest for one in claimed], deadline)
            results = _disable_all(store, policy, claimed, found, deadline)
            error = None
        except StoreUnavailable as err:
            results, error = [_CallResult(one.lease, one.incident, None, None) for one in claimed], err
    response = _complete_all(database, policy, [result for result in results if result.is_final])
    _defer(database, [result for result in results if not result.is_final])
    if error is not None:
        raise error
    return response


def _look_up(store: RemoteStore, digests: Sequence[str], deadline: float) -> LookUp:
    """Look up all tokens with one call. If it fails, look up each token separately.

    Returns:
        The store's answer. `not_checked` includes tokens whose look-up failed or was not tried before the deadline.
    """
    try:
        return store.look_up(digests)
    except StoreUnavailable:
        if len(digests) == 1:
            raise
    records: dict[str, TokenRecord] = {}
    failed: set[str] = set()
    for number, digest in enumerate(digests):
        if time.monotonic() > deadline:
            failed.update(digests[number:])
            break
        try:
            found = store.look_up([digest])
        except StoreUnavailable:
            failed.add(digest)
            if len(failed) == number + 1 >= FAILURES_OF_UNAVAILABLE_STORE:
                raise
        else:
            records.update(found.records)
            failed.update(found.not_checked)
    return LookUp(records, frozenset(failed))


def _claim(database: Database, ids: Sequence[uuid.UUID]) -> list[_ClaimedIncident]:
    """Claim the due incidents. Return them in the order of digests."""
    with database.write() as session:
        held = leases.claim_all(session, Incident, ids, Incident.action == Decision.DISABLING)
        by_delay: dict[float, list[Lease]] = defaultdict(list)
        for lease in held:
            by_delay[_backoff(lease.attempts)].append(lease)
        for delay, planned in by_delay.items():
            leases.write_all(session, planned, next_attempt_at=db_now(delay))
        by_key = {lease.key: lease for lease in held}
        rows = session.execute(select(Incident).where(Incident.id.in_(by_key)).order_by(Incident.digest)).scalars()
        return [_ClaimedIncident(by_key[incident.id], incident) for incident in rows]


def _defer(database: Database, results: Sequence[_CallResult]) -> None:
    """Give up the claims on these incidents, and count how often the store said that it does not know their tokens."""
    if not results:
        return
    with database.write() as session:
        written = leases.write_all(session, [result.lease for result in results], leased_until=None)
        doubtful = {
            result.lease.key: result.doubtful_answers
            for result in results
            if result.is_doubtful and result.lease.key in written
        }
        rows = session.execute(
            select(Incident).where(Incident.id.in_(doubtful)).execution_options(populate_existing=True)
        ).scalars()
        for incident in rows:  # `write_all` has locked these rows
            incident.evidence = {**(incident.evidence or {}), "doubts": doubtful[incident.id]}


def _disable_all(
    store: RemoteStore, policy: Policy, claimed: Sequence[_ClaimedIncident], found: LookUp, deadline: float
) -> list[_CallResult]:
    """Disable the incidents' tokens in the token store, in several threads. Return the answers."""
    errors: list[StoreUnavailable] = []

    def call(incident: Incident) -> Disabled | None:
        if time.monotonic() > deadline and len(claimed) > 1:
            return None
        try:
            return _disable(store, policy, incident, found)
        except StoreUnavailable as err:
            errors.append(err)
        except Exception:  # noqa: BLE001 - an unexpected answer for one token must not hold up the others
            _log.exception(
                "a token could not be disabled and will be tried again", extra={"incident": str(incident.id)}
            )
        return None

    with ThreadPoolExecutor(min(CALLS_AT_ONCE, len(claimed)), thread_name_prefix="disable") as pool:
        answers = list(pool.map(call, [one.incident for one in claimed]))
    if errors and not any(answers):
        raise errors[0]
    return [
        _CallResult(one.lease, one.incident, found.records.get(one.incident.digest), answer)
        for one, answer in zip(claimed, answers, strict=True)
    ]


def _disable(store: RemoteStore, policy: Policy, incident: Incident, found: LookUp) -> Disabled | None:
    """Disable the incident's token, unless the policy or a protection forbids it. Return None if the look-up failed."""
    record = found.records.get(incident.digest)
    if incident.digest in found.not_checked:
        return None
    # Call the store even if the token is disabled: its answer shows whether r8scan disabled it before a crash.
    is_disabled = record is not None and record.disabled_at is not None
    if policy.enforce == EnforceMode.OBSERVE and not is_disabled:
        return Disabled(Decision.OBSERVED)
    if record is not None and record.is_protected and not is_disabled:
        return Disabled(Decision.PROTECTED)
    key = str(incident.id)
    answer = store.disable(incident.digest, key=key, reason=f"incident {key}", cause=incident.cause)
    if answer.result == Decision.ALREADY_DISABLED and answer.key == key:
        return Disabled(Decision.DISABLED, answer.disabled_at, key)
    return answer


def _record_from_incident(incident: Incident) -> TokenRecord:
    """Return a record, without recipients, of a token that is no longer in the token store."""
    return TokenRecord(
        id=incident.token_id,
        digest=incident.digest,
        name=incident.token_name,
        hint=incident.hint,
        account_id=incident.account_id,
        account_name=incident.account_name,
        recipients=(),
        created_at=incident.token_created_at,
        last_used_at=incident.token_last_used_at,
        disabled_at=None,
        disabled_reason=None,
        is_protected=False,
    )


def _complete_all(database: Database, policy: Policy, results: Sequence[_CallResult]) -> Response:
    """Record the results in one transaction. If it fails, record each result separately."""
    try:
        return _complete(database, policy, results)
    except Exception as err:
        if is_unavailable(err) and not is_conflict(err):
            raise
        extra = {"incidents": [str(result.incident.id) for result in results]}
        _log.exception("the results of disables could not be recorded", extra=extra)
    total = Response()
    for result in results if len(results) > 1 else ():
        total.add(_complete_all(database, policy, [result]))
    return total


def _complete(database: Database, policy: Policy, results: Sequence[_CallResult]) -> Response:
    """Record which tokens were disabled and queue the notifications, in one transaction."""
    response = Response()
    if not results:
        return response
    to_notify: list[TokenIncident] = []
    with database.write() as session:
        now = session.execute(select(db_now())).scalar_one()
        for result in results:
            assert result.disabled is not None  # noqa: S101 - the result is final
            action = result.disabled.result
            record = result.record or _record_from_incident(result.incident)
            values: dict[str, Any] = {"action": action, "leased_until": None, "next_attempt_at": None}
            if action in (Decision.DISABLED, Decision.ALREADY_DISABLED):
                values["disabled_at"] = result.disabled.disabled_at or now
            try:
                result.lease.write(session, token_last_used_at=record.last_used_at, **values)
            except LeaseLost as err:
                _log.warning("%s", err)
                continue
            incident = _record_result(session, result.lease, result.disabled)
            if action == Decision.DISABLED:
                response.disabled.append(incident.id)
            elif action in (Decision.OBSERVED, Decision.PROTECTED):
                response.other_incidents.append(incident.id)
            is_mailed = action == Decision.ALREADY_DISABLED and policy.mail_already_disabled
            if action in (Decision.DISABLED, Decision.OBSERVED, Decision.PROTECTED) or is_mailed:
                to_notify.append(TokenIncident(record, incident))
        if to_notify:
            queue_notifications(session, to_notify, policy)
    return response


def _record_result(session: Session, lease: Lease, disabled: Disabled) -> Incident:
    """Record the result of disabling a token in its incident, its reports and the audit."""
    incident = session.execute(
        select(Incident).where(Incident.id == lease.key).execution_options(populate_existing=True)
    ).scalar_one()
    evidence = {"digest": incident.digest, "key": disabled.key, "attempts": lease.attempts}
    audit.record_all(session, [Entry(done(incident.cause, disabled.result), evidence, incident.id)])
    session.execute(
        update(Report)
        .where(Report.incident_id == incident.id, Report.decision == Decision.DISABLING)
        .values(decision=disabled.result)
        .execution_options(synchronize_session=False)
    )
    return incident


def _backoff(attempts: int) -> float:
    return float(BACKOFF_SECONDS[min(max(attempts, 1), len(BACKOFF_SECONDS)) - 1])

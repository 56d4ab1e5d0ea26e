"""Disables that a store which is not our database has still to be called for: claimed, called, completed.

A few together: asked about in one call, disabled by several at a time, and completed in one transaction. The incident's
id goes along as the key, so that a call that is repeated after a crash is known for ours.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from scanner.records import audit, leases
from scanner.records.audit import Entry
from scanner.records.database import Database
from scanner.records.leases import Lease, LeaseLost
from scanner.records.models import Incident, db_now
from scanner.records.sign_models import Report
from scanner.response.policy import Policy
from scanner.response.respond import Response
from scanner.response.telling import tell
from scanner.tokens.protocol import Disabled, LookUp, RemoteStore, StoreUnavailable, TokenRecord

BACKOFF_SECONDS = (5, 15, 30, 60, 120, 300)
FINISHED_AT_ONCE = 100
FINISH_SECONDS = 20.0
DOUBTS = 10
"""Attempts after which a store is believed that it does not know a token which it knew when it was found."""
TOGETHER = 20
CALLS_AT_ONCE = 4
"""To the vendor's API, by one process that finishes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Finished:
    """An incident in hand, and what came of the call; `done` is None where nobody can say yet."""

    lease: Lease
    incident: Incident
    record: TokenRecord | None
    done: Disabled | None


def finish_due(database: Database, policy: Policy, store: RemoteStore) -> Response:
    """Do what a crash or an outage left half-done."""
    with database.read() as session:
        ids = leases.due_keys(session, Incident, Incident.action == "disabling", limit=FINISHED_AT_ONCE)
    return finish(database, policy, store, ids)


def finish(database: Database, policy: Policy, store: RemoteStore, ids: Collection[uuid.UUID]) -> Response:
    """Call the store for incidents that are `disabling`, and complete them; those that somebody else holds are left.

    A store that is away is asked for the first of them, not for each; what does not fit into `FINISH_SECONDS` is left
    to the sweeper, which comes every two seconds: it must not hold up everything else.
    """
    total = Response()
    deadline = time.monotonic() + FINISH_SECONDS
    ordered = list(ids)
    groups = [ordered[:1], *(ordered[start : start + TOGETHER] for start in range(1, len(ordered), TOGETHER))]
    for group in groups:
        try:
            total.add(_finish_together(database, policy, store, group))
        except StoreUnavailable as err:
            _log.error("the token store is away: %s; tokens will be disabled when it is back", err)
            break
        if time.monotonic() > deadline:
            break
    return total


def _finish_together(database: Database, policy: Policy, store: RemoteStore, ids: Sequence[uuid.UUID]) -> Response:
    """From claim to outcome. StoreUnavailable after what was answered is completed and the rest put off."""
    claimed = _claim(database, ids)
    if not claimed:
        return Response()
    held = [lease for lease, _ in claimed]
    try:
        with leases.kept(database, *held):
            # Asked again, since owners may have done something since, and recipients are not ours to keep.
            found = store.look_up([incident.digest for _, incident in claimed])
            finished, trouble = _disable_all(store, policy, claimed, found)
    except StoreUnavailable:
        _put_off(database, held)
        raise
    decided = [one for one in finished if _is_decided(one)]
    answered = {one.lease for one in decided}
    _put_off(database, [lease for lease in held if lease not in answered])
    response = _complete(database, policy, decided)
    if trouble is not None:
        raise trouble
    return response


def _claim(database: Database, ids: Sequence[uuid.UUID]) -> list[tuple[Lease, Incident]]:
    """Those of the incidents that are due, in the order of digests, with the next attempt planned.

    Should this worker die, the next one comes when the lease has ended, and no sooner.
    """
    with database.write() as session:
        held = leases.claim_all(session, Incident, ids, Incident.action == "disabling")
        by_delay: dict[float, list[Lease]] = defaultdict(list)
        for lease in held:
            by_delay[_backoff(lease.attempts)].append(lease)
        for delay, planned in by_delay.items():
            leases.write_all(session, planned, next_attempt_at=db_now(delay))
        by_key = {lease.key: lease for lease in held}
        rows = session.execute(select(Incident).where(Incident.id.in_(by_key)).order_by(Incident.digest)).scalars()
        return [(by_key[incident.id], incident) for incident in rows]


def _put_off(database: Database, held: Sequence[Lease]) -> None:
    if held:
        with database.write() as session:
            leases.write_all(session, held, leased_until=None)


def _disable_all(
    store: RemoteStore, policy: Policy, claimed: Sequence[tuple[Lease, Incident]], found: LookUp
) -> tuple[list[_Finished], StoreUnavailable | None]:
    """What came of each that was answered; and why the others were not."""
    finished: list[_Finished] = []
    trouble: StoreUnavailable | None = None

    def call(incident: Incident) -> Disabled | None:
        return _disable(store, policy, incident, found)

    if len(claimed) == 1:
        lease, incident = claimed[0]
        return [_Finished(lease, incident, found.records.get(incident.digest), call(incident))], None
    with ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="disable") as pool:
        calls = [(lease, incident, pool.submit(call, incident)) for lease, incident in claimed]
        for lease, incident, future in calls:
            try:
                done = future.result()
            except StoreUnavailable as err:
                trouble = err
                for _, _, other in calls:
                    other.cancel()  # those that have not begun: it is away for all of them
            except CancelledError:
                continue
            else:
                finished.append(_Finished(lease, incident, found.records.get(incident.digest), done))
    return finished, trouble


def _disable(store: RemoteStore, policy: Policy, incident: Incident, found: LookUp) -> Disabled | None:
    """What came of the call, or of what was decided since it was planned; None where nobody can say yet."""
    record = found.records.get(incident.digest)
    if incident.digest in found.not_checked:
        return None
    if policy.enforce == "observe":
        return Disabled("observed")
    if record is not None and record.is_protected:
        return Disabled("protected")
    key = str(incident.id)
    done = store.disable(incident.digest, key=key, reason=f"incident {key}", cause=incident.cause)
    if done.result == "already_disabled" and done.key == key:
        return Disabled("disabled", done.disabled_at, key)
    return done


def _remembered(incident: Incident) -> TokenRecord:
    """What we know of a token that its store does not describe any more; nobody can be told but the operator."""
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


def _is_decided(one: _Finished) -> bool:
    """What a store knew a moment ago it knows: a copy that lags must not make it forget. But not for ever."""
    if one.done is None:
        return False
    is_in_doubt = one.record is None or one.done.result == "unknown"
    return not is_in_doubt or one.lease.attempts >= DOUBTS


def _complete(database: Database, policy: Policy, decided: Sequence[_Finished]) -> Response:
    """Write what came of the calls, and tell who has to be told, in one transaction."""
    response = Response()
    if not decided:
        return response
    news: list[tuple[Incident, TokenRecord]] = []
    with database.write() as session:
        now = session.execute(select(db_now())).scalar_one()
        for one in decided:
            assert one.done is not None  # noqa: S101 - it is decided
            record = one.record or _remembered(one.incident)
            values: dict[str, Any] = {"action": one.done.result, "leased_until": None, "next_attempt_at": None}
            if one.done.result in ("disabled", "already_disabled"):
                values["disabled_at"] = one.done.disabled_at or now
            try:
                one.lease.write(session, token_last_used_at=record.last_used_at, **values)
            except LeaseLost as err:
                _log.warning("%s", err)
                continue
            incident = _recorded(session, one, one.done)
            if one.done.result == "disabled":
                response.disabled.append(incident.id)
            elif one.done.result in ("observed", "protected"):
                response.other_incidents.append(incident.id)
            is_mailed = one.done.result == "already_disabled" and policy.mail_already_disabled
            if one.done.result in ("disabled", "observed", "protected") or is_mailed:
                news.append((incident, record))
        if news:
            tell(session, news, policy)
    return response


def _recorded(session: Session, one: _Finished, done: Disabled) -> Incident:
    """The incident as it stands now, with the entry in the audit, and the reports that waited for it."""
    incident = session.execute(
        select(Incident).where(Incident.id == one.lease.key).execution_options(populate_existing=True)
    ).scalar_one()
    evidence = {"digest": incident.digest, "key": done.key, "attempts": one.lease.attempts}
    audit.record_all(session, [Entry(f"token_{done.result}", evidence, incident.id)])
    session.execute(
        update(Report)
        .where(Report.incident_id == incident.id, Report.decision == "disabling")
        .values(decision=done.result)
        .execution_options(synchronize_session=False)
    )
    return incident


def _backoff(attempts: int) -> float:
    return float(BACKOFF_SECONDS[min(max(attempts, 1), len(BACKOFF_SECONDS)) - 1])

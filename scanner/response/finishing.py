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
from scanner.records.states import Decision
from scanner.response.notification_queue import queue_notifications
from scanner.response.policy import Policy
from scanner.response.respond import Response
from scanner.tokens.protocol import Disabled, LookUp, RemoteStore, StoreUnavailable, TokenRecord

BACKOFF_SECONDS = (5, 15, 30, 60, 120, 300)
FINISHED_AT_ONCE = 100
FINISH_SECONDS = 20.0
DOUBTS = 10
"""Answers after which a store is believed that it does not know a token which it knew when it was found."""
TOGETHER = 20
SURELY_AWAY = 2
"""Requests for single tokens that fail before any is answered: it is the store then, not a token."""
CALLS_AT_ONCE = 4
"""For tokens that were found together; each thread of a scanning process has finds of its own."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Finished:
    """An incident in hand, and what came of the call; `done` is None where nobody can say yet."""

    lease: Lease
    incident: Incident
    record: TokenRecord | None
    done: Disabled | None

    @property
    def is_in_doubt(self) -> bool:
        """The store does not know what it knew a moment ago: a copy that lags must not make it forget."""
        return self.done is not None and (self.record is None or self.done.result == Decision.UNKNOWN)

    @property
    def doubts(self) -> int:
        """How often that was the answer, this one counted."""
        return int((self.incident.evidence or {}).get("doubts", 0)) + self.is_in_doubt

    @property
    def is_decided(self) -> bool:
        """Whether the answer counts. One in doubt does, but not before it was given often."""
        return self.done is not None and (not self.is_in_doubt or self.doubts >= DOUBTS)


def finish_due(database: Database, policy: Policy, store: RemoteStore) -> Response:
    """Do what a crash or an outage left half-done."""
    with database.read() as session:
        ids = leases.due_keys(session, Incident, Incident.action == Decision.DISABLING, limit=FINISHED_AT_ONCE)
    return finish(database, policy, store, ids)


def finish(database: Database, policy: Policy, store: RemoteStore, ids: Collection[uuid.UUID]) -> Response:
    """Call the store for incidents that are `disabling`, and complete them; those that somebody else holds are left.

    A store that is away is asked for the first of them, not for each; what does not fit into `FINISH_SECONDS` is left
    to the sweeper, which comes every two seconds: it must not hold up everything else.
    """
    total = Response()
    ordered = list(ids)
    deadline = time.monotonic() + FINISH_SECONDS
    groups = [ordered[:1], *(ordered[start : start + TOGETHER] for start in range(1, len(ordered), TOGETHER))]
    for group in groups if ordered else ():
        try:
            total.add(_finish_together(database, policy, store, group, deadline))
        except StoreUnavailable as err:
            _log.error("the token store is away: %s; tokens will be disabled when it is back", err)
            break
        if time.monotonic() > deadline:
            break
    return total


def _finish_together(
    database: Database, policy: Policy, store: RemoteStore, ids: Sequence[uuid.UUID], deadline: float
) -> Response:
    """From claim to outcome, of each by itself where one spoils it for all. StoreUnavailable when none was answered."""
    claimed = _claim(database, ids)
    if not claimed:
        return Response()
    with leases.kept(database, *(lease for lease, _ in claimed)):
        try:
            # Asked again, since owners may have done something since, and recipients are not ours to keep.
            found = _look_up(store, [incident.digest for _, incident in claimed], deadline)
            finished = _disable_all(store, policy, claimed, found, deadline)
            trouble = None
        except StoreUnavailable as err:
            finished, trouble = [_Finished(lease, incident, None, None) for lease, incident in claimed], err
    response = _complete_all(database, policy, [one for one in finished if one.is_decided])
    _defer(database, [one for one in finished if not one.is_decided])
    if trouble is not None:
        raise trouble
    return response


def _look_up(store: RemoteStore, digests: Sequence[str], deadline: float) -> LookUp:
    """What the store says of them; `not_checked` holds also those of which it would say nothing.

    Asked one by one where an answer about all of them cannot be had: one of them may be what spoils it.
    StoreUnavailable when the first two are not answered either.
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
            if len(failed) == number + 1 >= SURELY_AWAY:
                raise
        else:
            records.update(found.records)
            failed.update(found.not_checked)
    return LookUp(records, frozenset(failed))


def _claim(database: Database, ids: Sequence[uuid.UUID]) -> list[tuple[Lease, Incident]]:
    """Those of the incidents that are due, in the order of digests, with the next attempt planned.

    Should this worker die, the next one comes when the lease has ended, and no sooner.
    """
    with database.write() as session:
        held = leases.claim_all(session, Incident, ids, Incident.action == Decision.DISABLING)
        by_delay: dict[float, list[Lease]] = defaultdict(list)
        for lease in held:
            by_delay[_backoff(lease.attempts)].append(lease)
        for delay, planned in by_delay.items():
            leases.write_all(session, planned, next_attempt_at=db_now(delay))
        by_key = {lease.key: lease for lease in held}
        rows = session.execute(select(Incident).where(Incident.id.in_(by_key)).order_by(Incident.digest)).scalars()
        return [(by_key[incident.id], incident) for incident in rows]


def _defer(database: Database, undecided: Sequence[_Finished]) -> None:
    """Let go of them until their next attempt; what was in doubt once more is counted."""
    if not undecided:
        return
    with database.write() as session:
        ours = leases.write_all(session, [one.lease for one in undecided], leased_until=None)
        doubted = {one.lease.key: one.doubts for one in undecided if one.is_in_doubt and one.lease.key in ours}
        rows = session.execute(
            select(Incident).where(Incident.id.in_(doubted)).execution_options(populate_existing=True)
        ).scalars()
        for incident in rows:  # locked by the write
            incident.evidence = {**(incident.evidence or {}), "doubts": doubted[incident.id]}


def _disable_all(
    store: RemoteStore, policy: Policy, claimed: Sequence[tuple[Lease, Incident]], found: LookUp, deadline: float
) -> list[_Finished]:
    """What came of each. StoreUnavailable when none of them was answered."""
    troubles: list[StoreUnavailable] = []

    def call(incident: Incident) -> Disabled | None:
        if time.monotonic() > deadline and len(claimed) > 1:
            return None
        try:
            return _disable(store, policy, incident, found)
        except StoreUnavailable as err:
            troubles.append(err)
        except Exception:  # noqa: BLE001 - whatever one token does must not hold up the others
            _log.exception("a token cannot be disabled now", extra={"incident": str(incident.id)})
        return None

    with ThreadPoolExecutor(min(CALLS_AT_ONCE, len(claimed)), thread_name_prefix="disable") as pool:
        done = list(pool.map(call, [incident for _, incident in claimed]))
    if troubles and not any(done):
        raise troubles[0]
    return [
        _Finished(lease, incident, found.records.get(incident.digest), one)
        for (lease, incident), one in zip(claimed, done, strict=True)
    ]


def _disable(store: RemoteStore, policy: Policy, incident: Incident, found: LookUp) -> Disabled | None:
    """What came of the call, or of what was decided since it was planned; None where nobody can say yet."""
    record = found.records.get(incident.digest)
    if incident.digest in found.not_checked:
        return None
    is_dead = record is not None and record.disabled_at is not None  # perhaps by us: only the call can tell
    if policy.enforce == "observe" and not is_dead:
        return Disabled(Decision.OBSERVED)
    if record is not None and record.is_protected and not is_dead:
        return Disabled(Decision.PROTECTED)
    key = str(incident.id)
    done = store.disable(incident.digest, key=key, reason=f"incident {key}", cause=incident.cause)
    if done.result == Decision.ALREADY_DISABLED and done.key == key:
        return Disabled(Decision.DISABLED, done.disabled_at, key)
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


def _complete_all(database: Database, policy: Policy, decided: Sequence[_Finished]) -> Response:
    """All in one transaction; where that fails, each in its own: one that cannot be written must not hold up others."""
    try:
        return _complete(database, policy, decided)
    except Exception as err:
        if is_unavailable(err) and not is_conflict(err):
            raise
        _log.exception("disables cannot be written", extra={"incidents": [str(one.incident.id) for one in decided]})
    total = Response()
    for one in decided if len(decided) > 1 else ():
        total.add(_complete_all(database, policy, [one]))
    return total


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
            if one.done.result in (Decision.DISABLED, Decision.ALREADY_DISABLED):
                values["disabled_at"] = one.done.disabled_at or now
            try:
                one.lease.write(session, token_last_used_at=record.last_used_at, **values)
            except LeaseLost as err:
                _log.warning("%s", err)
                continue
            incident = _recorded(session, one, one.done)
            if one.done.result == Decision.DISABLED:
                response.disabled.append(incident.id)
            elif one.done.result in (Decision.OBSERVED, Decision.PROTECTED):
                response.other_incidents.append(incident.id)
            is_mailed = one.done.result == Decision.ALREADY_DISABLED and policy.mail_already_disabled
            if one.done.result in (Decision.DISABLED, Decision.OBSERVED, Decision.PROTECTED) or is_mailed:
                news.append((incident, record))
        if news:
            queue_notifications(session, news, policy)
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
        .where(Report.incident_id == incident.id, Report.decision == Decision.DISABLING)
        .values(decision=done.result)
        .execution_options(synchronize_session=False)
    )
    return incident


def _backoff(attempts: int) -> float:
    return float(BACKOFF_SECONDS[min(max(attempts, 1), len(BACKOFF_SECONDS)) - 1])

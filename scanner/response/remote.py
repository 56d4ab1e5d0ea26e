"""The same response where the tokens are in a store that is not our database, and a call cannot join a transaction.

The incident is recorded as `disabling` before the store is called, and completed after it; whatever a crash or an
outage leaves in between is due again. The incident's id goes along as the key: a token that was disabled under our
own key was disabled by us, also when we never heard the answer.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from scanner.detection import Candidate
from scanner.records import audit, leases
from scanner.records.database import Database, is_conflict
from scanner.records.leases import Lease, LeaseLost
from scanner.records.models import Incident, db_now
from scanner.records.sign_models import Report
from scanner.response import sightings
from scanner.response.policy import Cause, Policy
from scanner.response.respond import CANDIDATES_A_TRANSACTION, Response, respond_within
from scanner.response.telling import tell
from scanner.tokens.protocol import Disabled, LookUp, RemoteStore, StoreUnavailable, TokenRecord

COMMIT_TRIES = 3
BACKOFF_SECONDS = (5, 15, 30, 60, 120, 300)
FINISHED_AT_ONCE = 100
FINISH_SECONDS = 20.0
DOUBTS = 10
"""Attempts after which a store is believed that it does not know a token which it knew when it was found."""
SETTLING_SECONDS = 120
"""Longer than an answer of the store can be under way: younger disables are newer than what it says."""

_log = logging.getLogger(__name__)


def respond_remotely(
    database: Database,
    candidates: Sequence[Candidate],
    *,
    source: str,
    policy: Policy,
    store: RemoteStore,
    cause: Cause = "public_repository",
) -> Response:
    """Look up, record, disable, complete. What the store could not be asked about is kept as `unchecked`."""
    found = _ask(store, {candidate.digest for candidate in candidates})
    response = _commit(database, candidates, source, policy, cause, found)
    response.add(finish(database, policy, store, response.disabling))
    return response


def look_up_again_remotely(
    database: Database, *, policy: Policy, store: RemoteStore, limit: int = CANDIDATES_A_TRANSACTION
) -> tuple[int, Response]:
    """Look up the sightings that are due; those that the store could not be asked about stay as they are."""
    with database.read() as session:
        rows = sightings.due(session, limit=limit)
        listed = [(row.id, row.source, candidate) for row, candidate in rows]
    if not listed:
        return 0, Response()
    found = _ask(store, {candidate.digest for _, _, candidate in listed})
    by_source: dict[str, list[Candidate]] = defaultdict(list)
    for _, source, candidate in listed:
        if candidate.digest not in found.not_checked:
            by_source[source].append(candidate)
    total = Response()
    for source in sorted(by_source):
        total.add(_commit(database, by_source[source], source, policy, "public_repository", found))
    told = total.known_digests | total.unknown_digests
    asked = [row_id for row_id, _, candidate in listed if candidate.digest in told]
    with database.write() as session:
        sightings.settle(session, asked, known=total.known_digests)
        put_off = [row_id for row_id, _, candidate in listed if candidate.digest not in told]
        sightings.put_off(session, put_off, seconds=BACKOFF_SECONDS[1])
    total.add(finish(database, policy, store, total.disabling))
    return len(asked), total


def finish(database: Database, policy: Policy, store: RemoteStore, ids: Collection[uuid.UUID]) -> Response:
    """Call the store for incidents that are `disabling`, and complete them; those that somebody else holds are left.

    A store that is away is asked once, not for each of them; what does not fit into `FINISH_SECONDS` is left to the
    sweeper, which comes every two seconds: it must not hold up everything else.
    """
    total = Response()
    deadline = time.monotonic() + FINISH_SECONDS
    for incident_id in ids:
        try:
            total.add(_finish_one(database, policy, store, incident_id))
        except LeaseLost as err:
            _log.warning("%s", err)
        except StoreUnavailable as err:
            _log.error("the token store is away: %s; tokens will be disabled when it is back", err)
            break
        if time.monotonic() > deadline:
            break
    return total


def believed(session: Session, found: LookUp, digests: Collection[str]) -> LookUp:
    """The answer without what it says of tokens that were disabled while it was under way: they are asked for again.

    Taken at its word it would say that somebody has brought them back.
    """
    live = [digest for digest in digests if digest in found.records and found.records[digest].disabled_at is None]
    statement = select(Incident.digest).where(
        Incident.digest.in_(live), Incident.state == "open", Incident.disabled_at > db_now(-SETTLING_SECONDS)
    )
    stale = set(session.execute(statement).scalars())
    if not stale:
        return found
    records = {digest: record for digest, record in found.records.items() if digest not in stale}
    return LookUp(records, found.not_checked | stale, found.complaint)


def finish_due(database: Database, policy: Policy, store: RemoteStore) -> Response:
    """Do what a crash or an outage left half-done."""
    with database.read() as session:
        ids = leases.due_keys(session, Incident, Incident.action == "disabling", limit=FINISHED_AT_ONCE)
    return finish(database, policy, store, ids)


def _ask(store: RemoteStore, digests: Collection[str]) -> LookUp:
    try:
        return store.look_up(digests)
    except StoreUnavailable as err:
        _log.error("the token store is away: %s; what was found is kept and looked up when it is back", err)
        return LookUp({}, frozenset(digests))


def _commit(
    database: Database,
    candidates: Sequence[Candidate],
    source: str,
    policy: Policy,
    cause: Cause,
    found: LookUp,
) -> Response:
    """One transaction a batch. No row of the store's can be locked: who comes second meets the first one's incident."""
    total = Response()
    ordered = sorted(candidates, key=lambda candidate: candidate.digest)
    for start in range(0, len(ordered), CANDIDATES_A_TRANSACTION):
        batch = ordered[start : start + CANDIDATES_A_TRANSACTION]
        for tries_left in reversed(range(COMMIT_TRIES)):
            try:
                with database.write() as session:
                    known = believed(session, found, {candidate.digest for candidate in batch})
                    part = respond_within(session, batch, source=source, policy=policy, cause=cause, found=known)
            except DBAPIError as err:
                if not tries_left or not is_conflict(err):
                    raise
            else:
                total.add(part)
                break
    return total


def _finish_one(database: Database, policy: Policy, store: RemoteStore, incident_id: uuid.UUID) -> Response:
    """One incident, from claim to outcome; nothing when it has to wait. StoreUnavailable after it was put off."""
    with database.write() as session:
        lease = leases.claim(session, Incident, incident_id, Incident.action == "disabling")
        if lease is None:
            return Response()
        incident = session.execute(select(Incident).where(Incident.id == incident_id)).scalar_one()
        # Should this worker die, the next one comes when the lease has ended, and no sooner.
        lease.write(session, next_attempt_at=db_now(_backoff(lease.attempts)))
    try:
        with leases.kept(database, lease):
            # Asked again, since its owner may have done something since, and recipients are not ours to keep.
            found = store.look_up([incident.digest])
            record = found.records.get(incident.digest)
            done = _disable(store, policy, incident, found)
    except StoreUnavailable:
        _put_off(database, lease)
        raise
    # What a store knew a moment ago it knows: a copy that lags must not make it forget. But not for ever.
    is_in_doubt = done is None or record is None or done.result == "unknown"
    if done is None or (is_in_doubt and lease.attempts < DOUBTS):
        _put_off(database, lease)
        return Response()
    return _complete(database, policy, lease, record or _remembered(incident), done)


def _put_off(database: Database, lease: Lease) -> None:
    with database.write() as session:
        lease.write(session, leased_until=None)


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


def _complete(database: Database, policy: Policy, lease: Lease, record: TokenRecord, done: Disabled) -> Response:
    """Write what came of the call, and tell who has to be told, in one transaction."""
    response = Response()
    with database.write() as session:
        now = session.execute(select(db_now())).scalar_one()
        values: dict[str, Any] = {"action": done.result, "leased_until": None, "next_attempt_at": None}
        if done.result in ("disabled", "already_disabled"):
            values["disabled_at"] = done.disabled_at or now
        lease.write(session, token_last_used_at=record.last_used_at, **values)
        incident = session.execute(
            select(Incident).where(Incident.id == lease.key).execution_options(populate_existing=True)
        ).scalar_one()
        evidence = {"digest": incident.digest, "key": done.key, "attempts": lease.attempts}
        audit.record(session, f"token_{done.result}", evidence, incident_id=incident.id)
        session.execute(
            update(Report)
            .where(Report.incident_id == incident.id, Report.decision == "disabling")
            .values(decision=done.result)
        )
        if done.result == "disabled":
            response.disabled.append(incident.id)
        elif done.result in ("observed", "protected"):
            response.other_incidents.append(incident.id)
        if response.has_news or (done.result == "already_disabled" and policy.mail_already_disabled):
            tell(session, [(incident, record)], policy)
    return response


def _backoff(attempts: int) -> float:
    return float(BACKOFF_SECONDS[min(max(attempts, 1), len(BACKOFF_SECONDS)) - 1])

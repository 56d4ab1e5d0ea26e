"""The same response where the tokens are in a store that is not our database, and a call cannot join a transaction.

The incident is recorded as `disabling` before the store is called, and completed after it; whatever a crash or an
outage leaves in between is due again. The incident's id goes along as the key: a token that was disabled under our
own key was disabled by us, also when we never heard the answer.
"""

from __future__ import annotations

import logging
import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from scanner.detection import Candidate
from scanner.records import audit, leases
from scanner.records.database import Database
from scanner.records.leases import Lease, LeaseLost
from scanner.records.models import Incident, db_now
from scanner.records.sign_models import Report
from scanner.response import sightings

# The steps that all responses have in common; they stay private to this room.
from scanner.response.respond import CANDIDATES_A_TRANSACTION, Cause, Policy, Response, _tell, respond_within
from scanner.tokens.protocol import Disabled, LookUp, RemoteStore, StoreUnavailable, TokenRecord

COMMIT_TRIES = 3
BACKOFF_SECONDS = (5, 15, 30, 60, 120, 300)
FINISHED_AT_ONCE = 100

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
    asked = [row_id for row_id, _, candidate in listed if candidate.digest not in found.not_checked]
    put_off = [row_id for row_id, _, candidate in listed if candidate.digest in found.not_checked]
    by_source: dict[str, list[Candidate]] = defaultdict(list)
    for _, source, candidate in listed:
        if candidate.digest not in found.not_checked:
            by_source[source].append(candidate)
    total = Response()
    for source in sorted(by_source):
        total.add(_commit(database, by_source[source], source, policy, "public_repository", found))
    with database.write() as session:
        sightings.settle(session, asked, known=found.records.keys())
        sightings.put_off(session, put_off, seconds=BACKOFF_SECONDS[1])
    total.add(finish(database, policy, store, total.disabling))
    return len(asked), total


def finish(database: Database, policy: Policy, store: RemoteStore, ids: Collection[uuid.UUID]) -> Response:
    """Call the store for incidents that are `disabling`, and complete them; those that somebody else holds are left."""
    total = Response()
    for incident_id in ids:
        try:
            total.add(_finish_one(database, policy, store, incident_id))
        except LeaseLost as err:
            _log.warning("%s", err)
    return total


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
                    part = respond_within(session, batch, source=source, policy=policy, cause=cause, found=found)
            except IntegrityError:
                if not tries_left:
                    raise
            else:
                total.add(part)
                break
    return total


def _finish_one(database: Database, policy: Policy, store: RemoteStore, incident_id: uuid.UUID) -> Response:
    with database.write() as session:
        lease = leases.claim(session, Incident, incident_id, Incident.action == "disabling", Incident.state == "open")
        if lease is None:
            return Response()
        incident = session.execute(select(Incident).where(Incident.id == incident_id)).scalar_one()
        digest, cause = incident.digest, incident.cause
        # Should this worker die, the next one comes when the lease has ended, and no sooner.
        lease.write(session, next_attempt_at=db_now(_backoff(lease.attempts)))
    try:
        # Asked again, since its owner may have done something since, and recipients are not ours to keep.
        record = store.look_up([digest]).records.get(digest)
        done = _disable(store, record, digest, incident_id, cause)
    except StoreUnavailable as err:
        _log.error("the token store is away: %s; the token will be disabled when it is back", err)
        with database.write() as session:
            lease.write(session, leased_until=None)
        return Response()
    return _complete(database, policy, lease, record, done)


def _disable(
    store: RemoteStore, record: TokenRecord | None, digest: str, incident_id: uuid.UUID, cause: str
) -> Disabled:
    if record is None:
        return Disabled("unknown")
    key = str(incident_id)
    done = store.disable(digest, key=key, reason=f"incident {key}", cause=cause)
    if done.result == "already_disabled" and done.key == key:
        return Disabled("disabled", done.disabled_at, key)
    return done


def _complete(database: Database, policy: Policy, lease: Lease, record: TokenRecord | None, done: Disabled) -> Response:
    """Write what came of the call, and tell who has to be told, in one transaction."""
    response = Response()
    with database.write() as session:
        now = session.execute(select(db_now())).scalar_one()
        values: dict[str, Any] = {"action": done.result, "leased_until": None, "next_attempt_at": None}
        if done.result != "unknown":
            values["disabled_at"] = done.disabled_at or now
        if record is not None:
            values["token_last_used_at"] = record.last_used_at
        lease.write(session, **values)
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
        if done.result == "disabled" and record is not None:
            _tell(session, [(incident, record)], policy)
            response.disabled.append(incident.id)
    return response


def _backoff(attempts: int) -> float:
    return float(BACKOFF_SECONDS[min(max(attempts, 1), len(BACKOFF_SECONDS)) - 1])

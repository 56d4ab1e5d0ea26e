"""Tests that a failing remote token store is called seldom and does not delay other tokens."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Collection
from dataclasses import replace

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.orm import Session

from scanner.detection import Candidate, Place
from scanner.records.database import Database
from scanner.records.leases import Lease
from scanner.records.models import Incident, db_now
from scanner.records.states import Channel
from scanner.response import finishing, responder, store_access
from scanner.response.policy import Policy
from scanner.response.responder import decide_again, finish_due, respond_to
from scanner.response.store_access import RemoteAccess
from scanner.tokens.http import HttpStore
from scanner.tokens.protocol import Disabled, LookUp, StoreUnavailable, TokenRecord
from tests.fault_injection import Crash
from tests.scanner.response.remote_store import DIGEST, Away, candidate, due_now, incidents, mails
from workers.sandbox.token_store import ReferenceStore


def test_a_failed_disable_is_retried_and_notified_when_it_succeeds(
    database: Database, policy: Policy, store: Away, reference: ReferenceStore
) -> None:
    store.away = {"disable"}
    respond_to(database, [candidate()], source="public_events", policy=policy)
    assert [incident.action for incident in incidents(database)] == ["disabling"]
    assert mails(database) == []
    finish_due(database, policy=policy)
    assert [incident.action for incident in incidents(database)] == ["disabling"], "the incident is not due yet"
    store.away = set()
    due_now(database)
    finish_due(database, policy=policy)
    assert [incident.action for incident in incidents(database)] == ["disabled"]
    assert mails(database) == [("email", "ana@example.com")]
    assert reference.calls.count("disable") == 1


def test_an_unavailable_store_is_asked_once_and_not_for_every_token(
    database: Database, policy: Policy, store: Away, reference: ReferenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = [f"{number:064x}" for number in range(20)]
    for digest in digests:
        reference.add(digest)
    store.away = {"disable"}
    calls: list[str] = []
    real = store.disable

    def disable(digest: str, *, key: str, reason: str, cause: str) -> Disabled:
        calls.append(digest)
        return real(digest, key=key, reason=reason, cause=cause)

    monkeypatch.setattr(store, "disable", disable)
    places = Place("file", url="https://github.com/ana/app", repository="ana/app", path="a.py")
    found = [Candidate(digest, "r8_Ab1…xyz9", places) for digest in digests]
    respond_to(database, found, source="public_events", policy=policy)
    assert len(calls) == 1
    store.away = set()
    due_now(database)
    finish_due(database, policy=policy)
    assert {incident.action for incident in incidents(database)} == {"disabled"}


class Failing(HttpStore):
    """A client of the remote token store. After disabling a token, it raises the exception in `failures` for its
    digest.
    """

    def __init__(self, url: str, secret: str) -> None:
        super().__init__(url, secret)
        self.failures: dict[str, BaseException] = {}

    def disable(self, digest: str, *, key: str, reason: str, cause: str) -> Disabled:
        done = super().disable(digest, key=key, reason=reason, cause=cause)
        if digest in self.failures:
            raise self.failures[digest]  # the store has disabled the token, but its answer is lost
        return done


@pytest.mark.parametrize("failure", [StoreUnavailable("the token store did not answer"), ValueError("a bug"), Crash()])
def test_one_failing_disable_does_not_affect_others_and_is_attributed_to_r8scan_later(
    database: Database, reference: ReferenceStore, failure: BaseException
) -> None:
    digests = sorted(f"{number:064x}" for number in range(1, 31))
    for number, digest in enumerate(digests):
        reference.add(digest, recipients=(f"owner{number}@example.com",))
    store = Failing(reference.url, "the-secret")
    policy = Policy(operator_email="op@example.com", access=RemoteAccess(store), announce=(Channel.STREAM,))
    # Let later tokens fail, because r8scan processes the first one alone.
    store.failures = {digests[7]: failure, digests[20]: failure}
    found = [
        Candidate(digest, "r8_Ab1…xyz9", Place("file", url="https://github.com/a/b", path="a")) for digest in digests
    ]
    if isinstance(failure, Crash):
        with pytest.raises(Crash):
            respond_to(database, found, source="public_events", policy=policy)
    else:
        respond_to(database, found, source="public_events", policy=policy)
        waiting = {incident.digest for incident in incidents(database) if incident.action == "disabling"}
        assert waiting == set(store.failures)
    store.failures = {}
    due_now(database)
    finish_due(database, policy=policy)
    assert {incident.action for incident in incidents(database)} == {"disabled"}
    assert reference.keys == {incident.digest: str(incident.id) for incident in incidents(database)}
    owners = [("email", f"owner{number}@example.com") for number in range(30)]
    assert sorted(mails(database)) == sorted([*owners, *[("stream", None)] * 30])
    store.close()


def test_an_unavailable_store_is_asked_only_for_the_first_of_many(
    database: Database, policy: Policy, store: Away, reference: ReferenceStore
) -> None:
    digests = [f"{number:064x}" for number in range(1, 31)]
    for digest in digests:
        reference.add(digest)
    found = [
        Candidate(digest, "r8_Ab1…xyz9", Place("file", url="https://github.com/a/b", path="a")) for digest in digests
    ]
    store.away = {"disable"}
    respond_to(database, found, source="public_events", policy=policy)
    assert sorted(incident.attempts for incident in incidents(database)) == [0] * 29 + [1]


def many(reference: ReferenceStore, count: int = 12) -> list[str]:
    """Add `count` tokens to the store, and return their digests."""
    digests = [f"{number:064x}" for number in range(1, count + 1)]
    for digest in digests:
        reference.add(digest)
    return digests


def test_a_token_that_breaks_each_answer_does_not_block_the_others(
    database: Database, reference: ReferenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = many(reference)
    spoilt = digests[5]
    store = Away(reference.url, "the-secret")
    policy = Policy(operator_email="op@example.com", access=RemoteAccess(store))
    store.away = {"disable"}
    respond_to(database, [replace(candidate(), digest=digest) for digest in digests], source="x", policy=policy)
    store.away = set()
    real = HttpStore.look_up

    def look_up(self: HttpStore, asked: Collection[str]) -> LookUp:
        if spoilt in asked:
            raise StoreUnavailable("the token store answered 503")
        return real(self, asked)

    monkeypatch.setattr(HttpStore, "look_up", look_up)
    due_now(database)
    finish_due(database, policy=policy)
    waiting = [incident.digest for incident in incidents(database) if incident.action == "disabling"]
    assert waiting == [spoilt]
    monkeypatch.undo()
    due_now(database)
    finish_due(database, policy=policy)
    assert {incident.action for incident in incidents(database)} == {"disabled"}
    store.close()


def test_a_result_that_cannot_be_written_does_not_block_the_others(
    database: Database, policy: Policy, reference: ReferenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = many(reference)
    real = finishing._record_result

    def recorded(session: Session, lease: Lease, disabled: Disabled) -> Incident:
        if session.get_one(Incident, lease.key).digest == digests[5]:
            raise ValueError("spoilt")
        return real(session, lease, disabled)

    monkeypatch.setattr(finishing, "_record_result", recorded)
    found = [replace(candidate(), digest=digest) for digest in digests]
    respond_to(database, found, source="x", policy=policy)
    waiting = [incident.digest for incident in incidents(database) if incident.action == "disabling"]
    assert waiting == [digests[5]]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite allows only one writer at a time
def test_a_disable_that_is_being_written_does_not_count_as_enabled_again(database: Database) -> None:
    with database.write() as session:
        session.add(
            Incident(
                id=uuid.uuid4(), digest=DIGEST, hint="", token_id="7", token_name="ci", cause="public_repository",
                action="disabling", state="open", detected_at=session.execute(select(db_now())).scalar_one(),
            )
        )  # fmt: skip
    live = TokenRecord("7", DIGEST, "ci", "", None, None, (), None, None, None, None, is_protected=False)
    answer = LookUp({DIGEST: live})
    found: list[LookUp] = []

    def ask() -> None:
        with database.write() as session:
            found.append(store_access.without_stale(session, answer, {DIGEST}))

    with database.write() as session:
        session.execute(update(Incident).values(action="disabled", disabled_at=db_now()))
        session.flush()
        asking = threading.Thread(target=ask)
        asking.start()
        until_somebody_waits(database)
    asking.join()
    assert not found[0].records
    assert found[0].not_checked == {DIGEST}


def until_somebody_waits(database: Database) -> None:
    """Wait until a transaction waits for a lock that another transaction holds."""
    while True:
        with database.read() as session:
            if session.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar_one():
                return


def test_tokens_that_stay_protected_do_not_hide_one_that_may_be_disabled_now(
    database: Database, policy: Policy, reference: ReferenceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(responder, "EXPOSURES_PER_PAGE", 2)
    digests = many(reference, 5)
    for digest in digests:
        reference.tokens[digest]["protected"] = True
    respond_to(database, [replace(candidate(), digest=digest) for digest in digests], source="x", policy=policy)
    assert {incident.action for incident in incidents(database)} == {"protected"}
    reference.tokens[digests[4]]["protected"] = False
    assert len(decide_again(database, policy=policy).disabled) == 1

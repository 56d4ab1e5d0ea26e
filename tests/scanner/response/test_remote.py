"""Responses with a store behind HTTP: outages lose nothing, several workers disable a token once, and a disable by its
owner is respected.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.orm import Session

from scanner.compromise import reports, settling
from scanner.compromise.reports import Subject, new_report
from scanner.detection import Candidate, Place
from scanner.records.database import Database
from scanner.records.leases import Lease
from scanner.records.models import Exposure, Incident, Notification, Sighting, db_now
from scanner.records.states import Channel, EnforceMode
from scanner.response import finishing, responder, store_access
from scanner.response.policy import Policy
from scanner.response.responder import decide_again, finish_due, look_up_due, respond_to
from scanner.response.store_access import RemoteAccess
from scanner.tokens.http import HttpStore
from scanner.tokens.protocol import Disabled, LookUp, StoreUnavailable, TokenRecord
from tests.fault_injection import Crash
from workers.sandbox import token_store
from workers.sandbox.token_store import ReferenceStore

DIGEST = "a" * 64


class Away(HttpStore):
    """A store that is unavailable for a given number of calls, by the call's name."""

    def __init__(self, url: str, secret: str) -> None:
        super().__init__(url, secret)
        self.away: set[str] = set()

    def look_up(self, digests: Collection[str]) -> LookUp:
        if "look_up" in self.away:
            raise StoreUnavailable("the token store answered 503")
        return super().look_up(digests)

    def disable(self, digest: str, *, key: str, reason: str, cause: str) -> Disabled:
        if "disable" in self.away:
            raise StoreUnavailable("the token store answered 503")
        return super().disable(digest, key=key, reason=reason, cause=cause)


@pytest.fixture
def reference() -> Iterator[ReferenceStore]:
    reference_store = ReferenceStore("the-secret")
    reference_store.add(DIGEST)
    with token_store.running(reference_store):
        yield reference_store


@pytest.fixture
def store(reference: ReferenceStore) -> Iterator[Away]:
    store = Away(reference.url, "the-secret")
    yield store
    store.close()


@pytest.fixture
def policy(store: Away) -> Policy:
    return Policy(operator_email="op@example.com", access=RemoteAccess(store))


def candidate(path: str = "a.py") -> Candidate:
    place = Place("file", url="https://github.com/ana/app", repository="ana/app", path=path)
    return Candidate(DIGEST, "r8_Ab1…xyz9", place)


def incidents(database: Database) -> list[Incident]:
    with database.read() as session:
        return list(session.execute(select(Incident)).scalars())


def mails(database: Database) -> list[Any]:
    with database.read() as session:
        return list(session.execute(select(Notification.channel, Notification.recipient)))


def due_now(database: Database) -> None:
    with database.write() as session:
        session.execute(update(Incident).values(next_attempt_at=db_now(), leased_until=None))
        session.execute(update(Sighting).values(next_check_at=db_now()))


def test_a_found_token_is_disabled_and_its_owner_notified(
    database: Database, policy: Policy, reference: ReferenceStore
) -> None:
    done = respond_to(database, [candidate()], source="public_events", policy=policy)
    (incident,) = incidents(database)
    assert done.disabled == [incident.id]
    assert (incident.action, incident.token_name, incident.account_name) == ("disabled", "training", "Ana")
    assert reference.keys == {DIGEST: str(incident.id)}
    assert mails(database) == [("email", "ana@example.com")]
    assert reference.calls == ["lookup", "lookup", "disable"]


def test_an_unavailable_store_never_means_unknown(
    database: Database, policy: Policy, store: Away, reference: ReferenceStore
) -> None:
    store.away = {"look_up"}
    done = respond_to(database, [candidate()], source="public_events", policy=policy)
    assert done.known_digests | done.unknown_digests == set()
    with database.read() as session:
        assert session.execute(select(Sighting.state)).scalar_one() == "unchecked"
    due_now(database)
    assert look_up_due(database, policy=policy).sightings == 0
    store.away = set()
    due_now(database)
    look_up_due(database, policy=policy)
    assert [incident.action for incident in incidents(database)] == ["disabled"]
    with database.read() as session:
        assert session.execute(select(Sighting)).first() is None


def test_a_failed_disable_is_retried_and_notified_when_it_succeeds(
    database: Database, policy: Policy, store: Away, reference: ReferenceStore
) -> None:
    store.away = {"disable"}
    respond_to(database, [candidate()], source="public_events", policy=policy)
    assert [incident.action for incident in incidents(database)] == ["disabling"]
    assert mails(database) == []
    finish_due(database, policy=policy)
    assert [incident.action for incident in incidents(database)] == ["disabling"], "it is not due yet"
    store.away = set()
    due_now(database)
    finish_due(database, policy=policy)
    assert [incident.action for incident in incidents(database)] == ["disabled"]
    assert mails(database) == [("email", "ana@example.com")]
    assert reference.calls.count("disable") == 1


def test_two_workers_with_the_same_find_disable_and_notify_once(
    database: Database, policy: Policy, reference: ReferenceStore
) -> None:
    barrier = threading.Barrier(4)

    def work(number: int) -> None:
        barrier.wait()
        respond_to(database, [candidate(f"{number}.py")], source="public_events", policy=policy)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    due_now(database)
    finish_due(database, policy=policy)
    (incident,) = incidents(database)
    assert incident.action == "disabled"
    assert mails(database) == [("email", "ana@example.com")]
    assert reference.keys == {DIGEST: str(incident.id)}


def test_a_token_that_its_owner_disabled_before_queues_no_mail(
    database: Database, policy: Policy, reference: ReferenceStore
) -> None:
    reference.disable(DIGEST, "the owner", "")
    respond_to(database, [candidate()], source="public_events", policy=policy)
    assert [incident.action for incident in incidents(database)] == ["already_disabled"]
    assert mails(database) == []


def test_a_disable_by_the_owner_between_look_up_and_call_is_not_attributed_to_r8scan(
    database: Database, policy: Policy, store: Away, reference: ReferenceStore
) -> None:
    store.away = {"disable"}
    respond_to(database, [candidate()], source="public_events", policy=policy)
    reference.disable(DIGEST, "the owner", "")
    store.away = set()
    due_now(database)
    finish_due(database, policy=policy)
    assert [incident.action for incident in incidents(database)] == ["already_disabled"]
    assert mails(database) == []


def test_a_token_that_the_store_no_longer_has_ends_visibly(
    database: Database, policy: Policy, store: Away, reference: ReferenceStore
) -> None:
    store.away = {"disable"}
    respond_to(database, [candidate()], source="public_events", policy=policy)
    known = reference.tokens.pop(DIGEST)
    store.away = set()
    for _ in range(finishing.MAX_DOUBTFUL_ANSWERS - 1):  # the outage itself does not count as an answer
        due_now(database)
        finish_due(database, policy=policy)
        assert [incident.action for incident in incidents(database)] == ["disabling"], "a copy may lag"
    due_now(database)
    finish_due(database, policy=policy)
    assert [incident.action for incident in incidents(database)] == ["unknown"]
    reference.tokens[DIGEST] = known
    respond_to(database, [candidate()], source="public_events", policy=policy)
    assert reference.tokens[DIGEST]["disabled_at"], "what is known again is disabled where it stands"


def test_a_token_that_cannot_be_checked_now_does_not_count_as_unknown(
    database: Database, policy: Policy, store: Away, reference: ReferenceStore
) -> None:
    store.away = {"disable"}
    respond_to(database, [candidate()], source="public_events", policy=policy)
    store.away = set()
    with reference.unsure():
        for _ in range(finishing.MAX_DOUBTFUL_ANSWERS + 2):
            due_now(database)
            finish_due(database, policy=policy)
            assert [incident.action for incident in incidents(database)] == ["disabling"]
    due_now(database)
    finish_due(database, policy=policy)
    assert [incident.action for incident in incidents(database)] == ["disabled"]


def test_a_missing_record_does_not_prevent_the_disable(
    database: Database, policy: Policy, store: Away, monkeypatch: pytest.MonkeyPatch, reference: ReferenceStore
) -> None:
    store.away = {"disable"}
    respond_to(database, [candidate()], source="public_events", policy=policy)
    store.away = set()
    with monkeypatch.context() as patch:
        patch.setattr(store, "look_up", lambda digests: LookUp())
        due_now(database)
        finish_due(database, policy=policy)
    assert reference.tokens[DIGEST]["disabled_at"], "disabled although nobody says whose it is"
    assert mails(database) == []
    due_now(database)
    finish_due(database, policy=policy)
    assert mails(database) == [("email", "ana@example.com")]


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


@pytest.mark.parametrize("decided", ["observe", "protect"])
def test_a_decision_of_the_operator_before_the_call_is_obeyed(
    database: Database, policy: Policy, store: Away, reference: ReferenceStore, decided: str
) -> None:
    store.away = {"disable"}
    respond_to(database, [candidate()], source="public_events", policy=policy)
    store.away = set()
    if decided == "observe":
        policy = replace(policy, enforce=EnforceMode.OBSERVE)
    else:
        reference.tokens[DIGEST]["protected"] = True
    due_now(database)
    finish_due(database, policy=policy)
    assert [incident.action for incident in incidents(database)] == [
        "protected" if decided == "protect" else "observed"
    ]
    assert reference.tokens[DIGEST]["disabled_at"] is None
    assert mails(database) == [("operator", "op@example.com")]


def test_the_brake_does_not_hold_an_unfinished_public_find(
    database: Database, policy: Policy, store: Away, reference: ReferenceStore
) -> None:
    store.away = {"disable"}
    respond_to(database, [candidate()], source="public_events", policy=policy)
    for sign in ("abuse", "usage"):
        report = new_report(Subject(DIGEST), sign=sign, note="", reporter="cli", key="1")
        settling.settle(database, reports.record(database, [report]), policy=policy, per_minute=0)
        assert [incident.action for incident in incidents(database)] == ["disabling"]
    store.away = set()
    due_now(database)
    finish_due(database, policy=policy)
    assert reference.tokens[DIGEST]["disabled_at"]


def test_an_answer_older_than_the_disable_does_not_count_as_enabled_again(
    database: Database, policy: Policy, store: Away
) -> None:
    stale = store.look_up([DIGEST])
    respond_to(database, [candidate()], source="public_events", policy=policy)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "look_up", lambda digests: stale)
        respond_to(database, [candidate("other.py")], source="public_events", policy=policy)
    assert [(one.state, one.action) for one in incidents(database)] == [("open", "disabled")]
    due_now(database)
    look_up_due(database, policy=policy)
    with database.read() as session:
        assert session.execute(select(func.count()).select_from(Exposure)).scalar_one() == 2
        assert session.execute(select(func.count()).select_from(Sighting)).scalar_one() == 0
    assert [(one.state, one.action) for one in incidents(database)] == [("open", "disabled")]


def test_protected_and_observed_tokens_notify_the_operator(
    database: Database, policy: Policy, store: Away, reference: ReferenceStore
) -> None:
    reference.tokens[DIGEST]["protected"] = True
    respond_to(database, [candidate()], source="public_events", policy=policy)
    assert [incident.action for incident in incidents(database)] == ["protected"]
    assert mails(database) == [("operator", "op@example.com")]
    assert "disable" not in reference.calls


def test_an_enabled_token_found_elsewhere_is_another_incident(
    database: Database, policy: Policy, reference: ReferenceStore
) -> None:
    respond_to(database, [candidate()], source="public_events", policy=policy)
    reference.tokens[DIGEST]["disabled_at"] = None
    with database.write() as session:
        session.execute(update(Incident).values(disabled_at=db_now(-store_access.SETTLING_SECONDS - 1)))
    respond_to(database, [candidate()], source="public_events", policy=policy)
    assert reference.tokens[DIGEST]["disabled_at"] is None, "this place is known"
    respond_to(database, [candidate("other.py")], source="public_events", policy=policy)
    assert sorted(incident.state for incident in incidents(database)) == ["closed", "open"]
    assert reference.tokens[DIGEST]["disabled_at"] is not None
    assert len(mails(database)) == 1, "both incidents share the mail that still waits"


def test_reports_go_to_the_same_store(
    database: Database, policy: Policy, store: Away, reference: ReferenceStore
) -> None:
    report = new_report(Subject(DIGEST), sign="abuse", note="", reporter="cli", key="1")
    ids = reports.record(database, [report])
    store.away = {"look_up"}
    settling.settle(database, ids, policy=policy, per_minute=60)
    assert incidents(database) == []
    store.away = {"disable"}
    settling.settle(database, ids, policy=policy, per_minute=60)
    assert settling.decisions(database, ids) == {"disabling": 1}
    store.away = set()
    due_now(database)
    finish_due(database, policy=policy)
    assert settling.decisions(database, ids) == {"disabled": 1}
    assert [(incident.action, incident.cause) for incident in incidents(database)] == [("disabled", "compromise_signs")]
    assert mails(database) == [("email", "ana@example.com")]


class Failing(HttpStore):
    """A store that raises a given exception when it should disable certain tokens."""

    def __init__(self, url: str, secret: str) -> None:
        super().__init__(url, secret)
        self.failures: dict[str, BaseException] = {}

    def disable(self, digest: str, *, key: str, reason: str, cause: str) -> Disabled:
        done = super().disable(digest, key=key, reason=reason, cause=cause)
        if digest in self.failures:
            raise self.failures[digest]  # the answer never arrived
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
    # Do not choose the first incident, because the first one is always processed alone.
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
    """Add further tokens to the store, and return their digests."""
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


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)  # SQLite has one writer at a time
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
    """Wait until one transaction is waiting for a lock that another one holds."""
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

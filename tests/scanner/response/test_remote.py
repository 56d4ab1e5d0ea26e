"""Tests of what r8scan does about found tokens if the vendor's token store is remote (HTTP)."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest
from sqlalchemy import func, select, update

from scanner.compromise import reports, settling
from scanner.compromise.reports import Subject, new_report
from scanner.records.database import Database
from scanner.records.models import Exposure, Incident, Sighting, db_now
from scanner.records.states import EnforceMode
from scanner.response import finishing, store_access
from scanner.response.policy import Policy
from scanner.response.responder import finish_due, look_up_due, respond_to
from scanner.tokens.protocol import LookUp
from tests.scanner.response.remote_store import DIGEST, Away, candidate, due_now, incidents, mails
from workers.sandbox.token_store import ReferenceStore


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


def test_the_incident_of_a_token_that_the_store_no_longer_has_ends_visibly(
    database: Database, policy: Policy, store: Away, reference: ReferenceStore
) -> None:
    store.away = {"disable"}
    respond_to(database, [candidate()], source="public_events", policy=policy)
    known = reference.tokens.pop(DIGEST)
    store.away = set()
    for _ in range(finishing.MAX_DOUBTFUL_ANSWERS - 1):  # the request that failed in the outage does not count
        due_now(database)
        finish_due(database, policy=policy)
        assert [incident.action for incident in incidents(database)] == ["disabling"], (
            "the answer may come from a replica that lags"
        )
    due_now(database)
    finish_due(database, policy=policy)
    assert [incident.action for incident in incidents(database)] == ["unknown"]
    reference.tokens[DIGEST] = known
    respond_to(database, [candidate()], source="public_events", policy=policy)
    assert reference.tokens[DIGEST]["disabled_at"], "the store knows the token again, so it is disabled"


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
    assert reference.tokens[DIGEST]["disabled_at"], "disabled although the store names no owner"
    assert mails(database) == []
    due_now(database)
    finish_due(database, policy=policy)
    assert mails(database) == [("email", "ana@example.com")]


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
    assert reference.tokens[DIGEST]["disabled_at"] is None, (
        "the place was known before, so the enabled token stays enabled"
    )
    respond_to(database, [candidate("other.py")], source="public_events", policy=policy)
    assert sorted(incident.state for incident in incidents(database)) == ["closed", "open"]
    assert reference.tokens[DIGEST]["disabled_at"] is not None
    assert len(mails(database)) == 1, "both incidents share the mail that still waits"


def test_reported_tokens_are_disabled_in_the_same_store(
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

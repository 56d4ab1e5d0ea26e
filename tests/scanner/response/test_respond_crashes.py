"""Tests that recovery after a crash leads to the same result as without the crash."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import func, select, update

from scanner.compromise import reports, settling
from scanner.compromise.reports import Subject
from scanner.detection import Candidate, Place
from scanner.records.announcement_models import Announcement
from scanner.records.announcements import CHANNELS
from scanner.records.compromise_models import Report
from scanner.records.database import Database
from scanner.records.models import ApiToken, Exposure, Incident, Notification, NotificationSubject, Sighting, db_now
from scanner.response.policy import Policy
from scanner.response.responder import finish_due, look_up_due, respond_to
from scanner.response.store_access import TRANSACTIONAL, RemoteAccess
from scanner.tokens.imports import ImportedToken
from scanner.tokens.protocol import Disabled, LookUp, RemoteStore
from scanner.tokens.registry import ImportRun
from tests.fault_injection import Injected, crashes
from workers.sandbox import token_store
from workers.sandbox.token_store import ReferenceStore

DIGESTS = ("a" * 64, "b" * 64)
STRANGER = "c" * 64
RECIPIENTS = ("ana@example.com", "ben@example.com")


@dataclass
class Remote:
    """A client of the remote token store that can crash before and after each call."""

    inner: ReferenceStore
    injected: Injected
    store: Any = field(default=None)

    def look_up(self, digests: Collection[str]) -> LookUp:
        self.injected.point()
        found: LookUp = self.store.look_up(digests)
        self.injected.point()
        return found

    def disable(self, digest: str, *, key: str, reason: str, cause: str) -> Disabled:
        self.injected.point()
        done: Disabled = self.store.disable(digest, key=key, reason=reason, cause=cause)
        self.injected.point()
        return done

    def register_canary(self, digest: str, *, hint: str) -> None:
        raise AssertionError(f"nobody plants {digest} {hint}")


@pytest.fixture(params=["sql", "http"])
def make_policy(
    request: pytest.FixtureRequest, database: Database
) -> Iterator[Callable[[Injected], tuple[Policy, ReferenceStore | None]]]:
    """Yield a function that empties the tables. It returns a policy, and its remote token store or None."""
    from scanner.tokens.http import HttpStore

    reference = ReferenceStore("the-secret")
    with token_store.running(reference):
        http = HttpStore(reference.url, "the-secret")

        def make(injected: Injected) -> tuple[Policy, ReferenceStore | None]:
            reference.tokens.clear()
            reference.keys.clear()
            with database.write() as session:
                for model in (
                    NotificationSubject,
                    Notification,
                    Announcement,
                    Exposure,
                    Sighting,
                    Incident,
                    Report,
                    ApiToken,
                ):
                    session.query(model).delete()
            if request.param == "sql":
                rows = [ImportedToken(digest, "r8_Ab1…xyz9", "ci", "ana", RECIPIENTS) for digest in DIGESTS]
                with database.write() as session:
                    ImportRun.begin().write(session, rows)
                return Policy(operator_email="op@example.com", announce=CHANNELS), None
            for digest in DIGESTS:
                reference.add(digest, recipients=RECIPIENTS)
            remote: RemoteStore = Remote(reference, injected, http)
            return Policy(operator_email="op@example.com", announce=CHANNELS, access=RemoteAccess(remote)), reference

        yield make
        http.close()


def known(policy: Policy) -> tuple[str, ...]:
    """Return the digests of the tokens that are leaked in the test."""
    # Each call of a remote token store is tested with two crashes. A second token would make the tests much longer.
    return DIGESTS if policy.access is TRANSACTIONAL else DIGESTS[:1]


def found(policy: Policy) -> list[Candidate]:
    places = [Place("file", url=f"https://github.com/ana/app/{n}", repository="ana/app", path=str(n)) for n in range(2)]
    return [Candidate(digest, "r8_Ab1…xyz9", place) for digest in (*known(policy), STRANGER) for place in places]


def run(database: Database, policy: Policy) -> None:
    respond_to(database, found(policy), source="public_events", policy=policy)


def recover(database: Database, policy: Policy) -> None:
    """Do what other workers do after a crash, for example repeat the crashed worker's job."""
    with database.write() as session:
        session.execute(update(Incident).values(leased_until=None, next_attempt_at=db_now()))
        session.execute(update(Sighting).values(next_check_at=db_now()))
    run(database, policy)
    look_up_due(database, policy=policy)
    finish_due(database, policy=policy)


def report(database: Database, policy: Policy) -> None:
    given = [reports.new_report(Subject(digest), sign="stolen", note="", reporter="ana") for digest in known(policy)]
    ids = reports.record(database, given)
    settling.settle(database, ids, policy=policy, per_minute=60)


def recover_report(database: Database, policy: Policy) -> None:
    """Do what other workers do after a crash during a report."""
    with database.write() as session:
        session.execute(update(Incident).values(leased_until=None, next_attempt_at=db_now()))
        session.execute(update(Report).values(next_check_at=db_now()))
    report(database, policy)
    settling.settle_due(database, policy=policy, per_minute=60)
    finish_due(database, policy=policy)


def assert_all_is_well(database: Database, reference: ReferenceStore | None, *, with_places: bool = True) -> None:
    """Assert that each token is disabled, and that its incident was mailed and announced once.

    If `with_places` is true, each token must have two public places, otherwise none.
    """
    with database.read() as session:
        incidents = session.execute(select(Incident)).scalars().all()
        told = session.execute(
            select(NotificationSubject.incident_id, Notification.recipient)
            .join(Notification)
            .where(Notification.channel == "email")
        ).all()
        announced = session.execute(
            select(Notification.channel, NotificationSubject.incident_id)
            .join(NotificationSubject)
            .where(Notification.channel.in_(CHANNELS))
        ).all()
        listed = session.execute(select(Announcement.incident_id)).scalars().all()
        places = session.execute(select(func.count()).select_from(Exposure)).scalar_one()
        strangers = session.execute(select(func.count()).select_from(Sighting)).scalar_one()
        live = session.execute(select(func.count()).where(ApiToken.disabled_at.is_(None))).scalar_one()
    digests = DIGESTS if reference is None else DIGESTS[:1]
    assert sorted(incident.digest for incident in incidents) == sorted(digests)
    assert {incident.action for incident in incidents} == {"disabled"}
    assert all(incident.disabled_at for incident in incidents)
    assert sorted(told) == sorted((incident.id, one) for incident in incidents for one in RECIPIENTS)
    assert sorted(announced) == sorted((channel, incident.id) for incident in incidents for channel in CHANNELS)
    assert sorted(map(str, listed)) == sorted(str(incident.id) for incident in incidents)
    assert (places, strangers, live) == ((2 * len(digests), 2, 0) if with_places else (0, 0, 0))
    if reference is not None:
        assert all(reference.tokens[digest]["disabled_at"] for digest in digests)
        assert reference.keys == {incident.digest: str(incident.id) for incident in incidents}


@pytest.mark.timeout(400)
def test_a_crash_at_any_point_does_not_change_the_result(
    database: Database, make_policy: Callable[[Injected], tuple[Policy, ReferenceStore | None]]
) -> None:
    counting = Injected()
    policy, reference = make_policy(counting)
    assert not crashes(database, counting, lambda: run(database, policy))
    assert_all_is_well(database, reference)
    assert counting.points > 10
    for number in range(counting.points):
        injected = Injected(at=number)
        policy, reference = make_policy(injected)
        assert crashes(database, injected, lambda: run(database, policy)), number  # noqa: B023 - called at once
        recover(database, policy)
        assert_all_is_well(database, reference)
    recover(database, policy)
    assert_all_is_well(database, reference)


@pytest.mark.timeout(400)
def test_a_crash_at_any_point_of_a_report_does_not_change_the_result(
    database: Database, make_policy: Callable[[Injected], tuple[Policy, ReferenceStore | None]]
) -> None:
    counting = Injected()
    policy, reference = make_policy(counting)
    assert not crashes(database, counting, lambda: report(database, policy))
    assert_all_is_well(database, reference, with_places=False)
    assert counting.points > 10
    for number in range(counting.points):
        injected = Injected(at=number)
        policy, reference = make_policy(injected)
        assert crashes(database, injected, lambda: report(database, policy)), number  # noqa: B023 - called at once
        recover_report(database, policy)
        assert_all_is_well(database, reference, with_places=False)
        with database.read() as session:
            assert set(session.execute(select(Report.decision)).scalars()) == {"disabled"}, number

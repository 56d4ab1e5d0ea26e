"""Tests of the quota for disabling reported tokens. Tokens that r8scan found in public need no quota."""

from __future__ import annotations

import threading
from collections.abc import Callable

from sqlalchemy import func, select, update

from notifications.email.gathering import gather
from notifications.email.render import MailIdentity, render_strictly
from scanner.compromise import brake, brake_status, reports
from scanner.compromise.reports import NewReport, new_report, subject_of
from scanner.compromise.settling import Settled, settle, settle_due
from scanner.detection import Candidate, Place, sha256_digest
from scanner.detection.patterns.token_formats import hint_of
from scanner.records.audit_models import AuditEntry
from scanner.records.compromise_models import Report
from scanner.records.database import Database
from scanner.records.models import ApiToken, Incident, Notification, NotificationSubject, db_now
from scanner.response.policy import Policy
from scanner.response.respond import respond
from scanner.tokens import sql
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun

POLICY = Policy(operator_email="ops@vendor.example", mail_domain="vendor.example")
IDENTITY = MailIdentity(
    sender="r8scan <security@vendor.example>",
    vendor_name="Replicate",
    account_tokens_url="https://vendor.example/account/api-tokens",
)


def store(database: Database, make: Callable[[], str], number: int) -> list[str]:
    tokens = [make() for _ in range(number)]
    rows = [
        ImportedToken(sha256_digest(t.encode()), hint_of(t.encode()), "ci", "ana", ("ana@example.com",)) for t in tokens
    ]
    with database.write() as session:
        ImportRun.begin().write(session, rows)
    return tokens


def reported(token: str, key: str = "1") -> NewReport:
    return new_report(subject_of(token, sha256_digest), sign="abuse_report", note="", reporter="soc", key=key)


def submit(database: Database, tokens: list[str], *, per_minute: int = 60, key: str = "1") -> Settled:
    ids = reports.record(database, [reported(token, key) for token in tokens])
    return settle(database, ids, policy=POLICY, per_minute=per_minute)


def live(database: Database) -> int:
    with database.read() as session:
        return session.execute(
            select(func.count()).select_from(ApiToken).where(ApiToken.disabled_at.is_(None))
        ).scalar_one()


def status(database: Database) -> brake_status.BrakeStatus:
    with database.read() as session:
        return brake_status.read(session)


def test_of_a_thousand_reports_those_above_the_limit_are_held_and_released_without_loss(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    tokens = store(database, fresh_token, 1000)
    settled = submit(database, tokens)
    assert settled.counts == {"disabled": 60, "held": 940}
    assert live(database) == 940
    assert (status(database).closed_at is not None, status(database).held) == (True, 940)
    assert settle_due(database, policy=POLICY, per_minute=60).due == 0
    with database.write() as session:
        ids = brake.release(session, who="operator")
    assert settle(database, ids, policy=POLICY, per_minute=60).counts == {"disabled": 940}
    assert live(database) == 0
    assert (status(database).closed_at, status(database).held) == (None, 0)
    with database.read() as session:
        actions = session.execute(select(Incident.action, func.count()).group_by(Incident.action)).all()
        assert [tuple(row) for row in actions] == [("disabled", 1000)]


def test_the_sweeper_finishes_an_interrupted_release(database: Database, fresh_token: Callable[[], str]) -> None:
    submit(database, store(database, fresh_token, 5), per_minute=0)
    with database.write() as session:
        brake.release(session, who="operator")
    assert settle_due(database, policy=POLICY, per_minute=0).settled.counts == {"disabled": 5}


def test_the_operator_is_notified_once_when_the_brake_closes(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    submit(database, store(database, fresh_token, 5), per_minute=3)
    submit(database, store(database, fresh_token, 5), per_minute=3)
    with database.read() as session:
        occasions = session.execute(
            select(NotificationSubject.occasion).where(NotificationSubject.channel == "operator")
        ).scalars()
        assert list(occasions) == ["brake_closed"]
        closed = session.execute(select(AuditEntry).where(AuditEntry.what == "brake_closed")).scalars().all()
        assert len(closed) == 1


def test_the_brake_stays_closed_until_an_operator_opens_it(database: Database, fresh_token: Callable[[], str]) -> None:
    submit(database, store(database, fresh_token, 5), per_minute=3)
    with database.write() as session:
        session.execute(update(Report).values(decided_at=db_now(-3600)))
    assert submit(database, store(database, fresh_token, 1), per_minute=3).counts == {"held": 1}


def test_only_disables_of_the_last_minute_count(database: Database, fresh_token: Callable[[], str]) -> None:
    submit(database, store(database, fresh_token, 3), per_minute=3)
    with database.write() as session:
        session.execute(update(Report).values(decided_at=db_now(-61)))
    assert submit(database, store(database, fresh_token, 3), per_minute=3).counts == {"disabled": 3}


def test_rejected_reports_disable_nothing_and_a_new_report_counts(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    tokens = store(database, fresh_token, 5)
    submit(database, tokens, per_minute=0)
    with database.write() as session:
        assert brake.reject(session, who="operator") == 5
    assert live(database) == 5
    assert status(database).closed_at is None
    with database.read() as session:
        assert set(session.execute(select(Incident.state, Incident.action))) == {("closed", "rejected")}
    assert submit(database, tokens, key="2").counts == {"disabled": 5}


def test_a_report_that_disables_nothing_is_not_held(database: Database, fresh_token: Callable[[], str]) -> None:
    tokens = store(database, fresh_token, 4)
    submit(database, tokens[:1])
    submit(database, tokens[1:2], per_minute=0)
    settled = submit(database, [tokens[0], fresh_token()], per_minute=0, key="2")
    assert settled.counts == {"already_disabled": 1, "unknown": 1}


def test_a_public_find_is_never_held(database: Database, fresh_token: Callable[[], str]) -> None:
    tokens = store(database, fresh_token, 2)
    submit(database, tokens, per_minute=0)
    place = Place("file", "https://github.example/a/b", "a/b", 1, path="x", commit="a" * 40)
    candidates = [Candidate(sha256_digest(token.encode()), "", place) for token in tokens]
    assert len(respond(database, candidates, source="public_events", policy=POLICY).disabled) == 2
    with database.write() as session:
        ids = brake.release(session, who="operator")
    assert settle(database, ids, policy=POLICY, per_minute=0).counts == {"already_disabled": 2}


def test_reports_at_the_same_time_do_not_get_past_the_limit(database: Database, fresh_token: Callable[[], str]) -> None:
    tokens = store(database, fresh_token, 40)
    results: list[Settled] = []

    def one(part: list[str]) -> None:
        results.append(submit(database, part, per_minute=10))

    threads = [threading.Thread(target=one, args=(tokens[start : start + 10],)) for start in range(0, 40, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result.counts["disabled"] for result in results) == 10
    assert sum(result.counts["held"] for result in results) == 30
    assert live(database) == 30


def test_the_mail_says_what_the_brake_holds(database: Database, fresh_token: Callable[[], str]) -> None:
    token = store(database, fresh_token, 1)[0]
    report = new_report(subject_of(token, sha256_digest), sign="abuse_report", note="from a chat", reporter="soc")
    settle(database, reports.record(database, [report]), policy=POLICY, per_minute=0)
    with database.read() as session:
        notification = session.execute(select(Notification).where(Notification.channel == "operator")).scalar_one()
        mail = render_strictly(gather(session, notification), IDENTITY)
    assert "brake" in mail.subject
    assert "r8scan brake release" in mail.text
    assert "abuse_report by soc: from a chat" in mail.text
    assert "NO, it still works" in mail.text


def test_a_held_token_that_its_owner_disabled_is_no_longer_held(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    token = store(database, fresh_token, 1)[0]
    submit(database, [token], per_minute=0)
    with database.write() as session:
        assert sql.disable(session, sha256_digest(token.encode()), "by its owner")
        ids = brake.release(session, who="operator")
    assert settle(database, ids, policy=POLICY, per_minute=0).counts == {"already_disabled": 1}
    with database.read() as session:
        incident = session.execute(select(Incident)).scalar_one()
        assert (incident.action, incident.disabled_at is not None) == ("already_disabled", True)
        assert not session.execute(select(Notification).where(Notification.channel == "email")).scalars().all()

"""Tests that operators' actions are audited, and stay in force until the token is reported or found elsewhere."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from scanner.compromise import reports, settling
from scanner.detection import Candidate, Place, sha256_digest
from scanner.detection.patterns.token_formats import hint_of
from scanner.records import schema
from scanner.records.announcement_models import Announcement
from scanner.records.audit_models import AuditEntry
from scanner.records.database import Database
from scanner.records.models import Incident, Notification, NotificationSubject
from scanner.records.states import Channel, EnforceMode
from scanner.response import operator_actions
from scanner.response.operator_actions import NotPossible
from scanner.response.policy import Policy
from scanner.response.respond import respond
from scanner.response.responder import decide_again
from scanner.response.timeline import MAX_PLACES, timeline
from scanner.tokens import sql
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from tests.notifications.outbox_rows import incident as incident_row

POLICY = Policy(operator_email="ops@vendor.example", mail_domain="vendor.example", announce=(Channel.STREAM,))
WHO = "operator:ana"


@pytest.fixture
def token(database: Database, fresh_token: Callable[[], str]) -> str:
    """Return a raw token that is registered in the store."""
    raw = fresh_token()
    row = ImportedToken(sha256_digest(raw.encode()), hint_of(raw.encode()), "ci", "acme", ("a@acme.example",))
    with database.write() as session:
        ImportRun.begin().write(session, [row])
    return raw


def find(database: Database, token: str, *paths: str) -> list[Incident]:
    """Respond to the token as if it was found in files at these paths. Return all incidents, oldest first."""
    candidates = [
        Candidate(
            sha256_digest(token.encode()),
            hint_of(token.encode()),
            Place("file", f"https://github.example/ana/app/{path}", "ana/app", 1, path=path, commit="a" * 40),
            3,
            7,
        )
        for path in paths
    ]
    respond(database, candidates, source="public_events", policy=POLICY)
    return incidents(database)


def incidents(database: Database) -> list[Incident]:
    with database.read() as session:
        return list(session.execute(select(Incident).order_by(Incident.detected_at)).scalars())


def is_live(database: Database, token: str) -> bool:
    digest = sha256_digest(token.encode())
    with database.read() as session:
        return sql.look_up(session, [digest])[digest].disabled_at is None


def enable(database: Database, token: str, reason: str = "a mistake of ours") -> bool:
    with database.write() as session:
        return operator_actions.enable_token(session, sha256_digest(token.encode()), who=WHO, reason=reason)


def decide(database: Database, step: Callable[[Session, Incident], object], at: int = -1) -> None:
    """Run an operator's action on an incident, in its own transaction.

    `at` is the incident's index in the list of all incidents, oldest first.
    """
    with database.write() as session:
        rows = list(session.execute(select(Incident).order_by(Incident.detected_at)).scalars())
        step(session, rows[at])


def entries(database: Database, what: str) -> list[AuditEntry]:
    with database.read() as session:
        return list(session.execute(select(AuditEntry).where(AuditEntry.what == what)).scalars())


def send_again(session: Session, incident: Incident, *recipients: str) -> list[uuid.UUID]:
    record = replace(sql.look_up(session, [incident.digest])[incident.digest], recipients=recipients)
    return operator_actions.resend(session, incident, record, domain="vendor.example", who=WHO, reason="mended")


def mails(database: Database) -> list[tuple[str | None, str, str]]:
    with database.read() as session:
        statement = (
            select(Notification.recipient, Notification.state, NotificationSubject.occasion)
            .join(NotificationSubject)
            .where(Notification.channel == "email")
            .order_by(Notification.created_at)
        )
        return [(row[0], row[1], row[2]) for row in session.execute(statement)]


def test_an_enabled_token_stays_live_when_it_is_seen_in_a_known_place(database: Database, token: str) -> None:
    find(database, token, "app.py")
    assert enable(database, token)
    find(database, token, "app.py")
    assert is_live(database, token)


def test_an_observed_and_then_enabled_token_stays_live(database: Database, token: str) -> None:
    digest = sha256_digest(token.encode())
    observe = replace(POLICY, enforce=EnforceMode.OBSERVE)
    place = Place("file", "https://github.example/ana/app/blob/app.py", "ana/app", 1, path="app.py", commit="a" * 40)
    respond(database, [Candidate(digest, "", place, 3, 7)], source="public_events", policy=observe)
    with database.write() as session:
        operator_actions.disable_token(session, sql.look_up(session, [digest])[digest], POLICY, who=WHO)
    enable(database, token)
    find(database, token, "app.py")
    assert is_live(database, token)


@pytest.mark.parametrize("let_pass", ["observed", "protected"])
def test_a_token_that_stayed_live_is_decided_again_without_a_new_find(
    database: Database, token: str, let_pass: str
) -> None:
    digest = sha256_digest(token.encode())
    place = Place("file", "https://github.example/ana/app/blob/app.py", "ana/app", 1, path="app.py", commit="a" * 40)
    policy = replace(POLICY, enforce=EnforceMode.OBSERVE if let_pass == "observed" else EnforceMode.DISABLE)
    with database.write() as session:
        operator_actions.protect_token(session, digest, protected=let_pass == "protected", who=WHO)
    respond(database, [Candidate(digest, "", place, 3, 7)], source="public_events", policy=policy)
    assert [incident.action for incident in incidents(database)] == [let_pass]
    assert not decide_again(database, policy=policy).has_notifications, "nothing has changed"
    with database.write() as session:
        operator_actions.protect_token(session, digest, protected=False, who=WHO)
    assert len(decide_again(database, policy=POLICY).disabled) == 1
    assert not is_live(database, token)
    assert not decide_again(database, policy=POLICY).has_notifications


def test_an_incident_cannot_be_closed_during_a_disable(postgresql_url: str) -> None:
    database = Database(postgresql_url)
    schema.upgrade(database)
    key = incident_row(database, action="protected")
    with database.write() as closing:
        seen = closing.get(Incident, key)
        assert seen is not None
        with database.write() as other:
            other.execute(update(Incident).values(action="disabling"))
        with pytest.raises(NotPossible, match="being disabled"):
            operator_actions.close(closing, seen, who=WHO, reason="a sample")
    database.close()


def test_an_enabled_token_is_disabled_again_by_a_new_place(database: Database, token: str) -> None:
    find(database, token, "app.py")
    enable(database, token)
    first, second = find(database, token, "app.py", "other.py")
    assert not is_live(database, token)
    assert (first.state, second.state, second.action) == ("closed", "open", "disabled")
    assert [recipient for recipient, _, _ in mails(database)] == ["a@acme.example"] * 2


def test_an_enabled_token_is_disabled_again_by_a_report(database: Database, token: str) -> None:
    find(database, token, "app.py")
    enable(database, token)
    subject = reports.Subject(sha256_digest(token.encode()))
    ids = reports.record(database, [reports.new_report(subject, sign="stolen", note="", reporter="ana")])
    settling.settle(database, ids, policy=POLICY, per_minute=60)
    assert not is_live(database, token)


def test_enabling_is_audited_with_the_reason_and_repeating_it_changes_nothing(database: Database, token: str) -> None:
    find(database, token, "app.py")
    assert enable(database, token, "a test token")
    assert not enable(database, token, "again")
    (entry,) = entries(database, "token_enabled_by_operator")
    assert (entry.who, entry.evidence["reason"]) == (WHO, "a test token")
    assert entry.incident_id == incidents(database)[0].id


@pytest.mark.parametrize("reason", ["", "  ", "\n\t"])
def test_a_decision_needs_a_reason(database: Database, token: str, reason: str) -> None:
    find(database, token, "app.py")
    with pytest.raises(NotPossible, match="say why"):
        enable(database, token, reason)
    assert not is_live(database, token)


def test_a_stored_reason_contains_no_token_and_no_line_breaks(database: Database, token: str) -> None:
    find(database, token, "app.py")
    enable(database, token, f"it was\n{token}\nafter all" + "x" * 900)
    (entry,) = entries(database, "token_enabled_by_operator")
    kept = entry.evidence["reason"]
    assert token not in kept
    assert "\n" not in kept
    assert len(kept) <= operator_actions.MAX_REASON_LENGTH


def test_a_token_disabled_by_an_operator_is_announced_and_nobody_is_mailed(database: Database, token: str) -> None:
    digest = sha256_digest(token.encode())
    for expected in (True, False):
        with database.write() as session:
            record = sql.look_up(session, [digest])[digest]
            assert operator_actions.disable_token(session, record, POLICY, who=WHO) is expected
    with database.read() as session:
        announced = session.execute(select(Announcement.digest, Announcement.cause)).all()
        channels = session.execute(select(Notification.channel)).scalars().all()
    assert [tuple(row) for row in announced] == [(digest, "operator")]
    assert channels == [Channel.STREAM]
    assert not is_live(database, token)


def test_a_closed_incident_can_be_opened_again(database: Database, token: str) -> None:
    find(database, token, "app.py")
    decide(database, lambda session, one: operator_actions.close(session, one, who=WHO, reason="a sample"))
    assert incidents(database)[0].state == "closed"
    with pytest.raises(NotPossible, match="closed already"):
        decide(database, lambda session, one: operator_actions.close(session, one, who=WHO, reason="a sample"))
    decide(database, lambda session, one: operator_actions.reopen(session, one, who=WHO, reason="no sample"))
    assert incidents(database)[0].state == "open"
    assert [entry.evidence["reason"] for entry in entries(database, "incident_reopened")] == ["no sample"]


def test_a_token_has_one_open_incident(database: Database, token: str) -> None:
    find(database, token, "app.py")
    enable(database, token)
    _, second = find(database, token, "other.py")
    with pytest.raises(NotPossible, match=f"another incident of the same token is open: {second.id}"):
        decide(database, lambda session, one: operator_actions.reopen(session, one, who=WHO, reason="why not"), at=0)


def test_a_mail_can_be_sent_again_to_the_accounts_current_addresses(database: Database, token: str) -> None:
    find(database, token, "app.py")

    def resend(session: Session, incident: Incident) -> None:
        assert len(send_again(session, incident, "A@acme.example", "b@acme.example", "b@Acme.example")) == 2

    with pytest.raises(NotPossible, match=r"a mail to A@acme\.example is already waiting"):
        decide(database, resend)
    with database.write() as session:
        session.execute(text("UPDATE notifications SET state = 'failed' WHERE channel = 'email'"))
    decide(database, resend)
    assert mails(database)[0] == ("a@acme.example", "failed", "disabled")
    assert sorted(mails(database)[1:]) == [
        ("A@acme.example", "pending", "disabled"),
        ("b@Acme.example", "pending", "disabled"),
    ]
    with database.read() as session:
        ids = session.execute(select(Notification.message_id)).scalars().all()
    assert len(set(ids)) == len(ids)


def test_no_mail_is_sent_again_about_a_token_that_was_not_disabled(database: Database, token: str) -> None:
    with database.write() as session:
        sql.protect(session, sha256_digest(token.encode()), protected=True)
    find(database, token, "app.py")
    with pytest.raises(NotPossible, match="its action is protected"):
        decide(database, lambda session, one: send_again(session, one, "a@acme.example"))


def test_a_mail_cannot_be_sent_again_without_an_address(database: Database, token: str) -> None:
    find(database, token, "app.py")
    with pytest.raises(NotPossible, match="no mail address"):
        decide(database, send_again)


def test_a_mail_that_says_disabled_is_not_sent_again_about_a_live_token(database: Database, token: str) -> None:
    find(database, token, "app.py")
    enable(database, token)
    with pytest.raises(NotPossible, match="the token works again"):
        decide(database, lambda session, one: send_again(session, one, "a@acme.example"))


def test_concurrent_resends_queue_one_mail(database: Database, token: str) -> None:
    find(database, token, "app.py")
    with database.write() as session:
        session.execute(text("UPDATE notifications SET state = 'sent' WHERE channel = 'email'"))
    start, refused = threading.Barrier(4), list[str]()

    def resend() -> None:
        start.wait(30)
        try:
            decide(database, lambda session, one: send_again(session, one, "a@acme.example"))
        except NotPossible as err:
            refused.append(str(err))

    threads = [threading.Thread(target=resend) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert [state for _, state, _ in mails(database)] == ["sent", "pending"]


@pytest.mark.parametrize("statement", ["UPDATE audit SET who = 'nobody'", "UPDATE audit SET evidence = '{}'"])
def test_an_entry_of_the_audit_cannot_be_changed(database: Database, token: str, statement: str) -> None:
    find(database, token, "app.py")
    with pytest.raises(DBAPIError, match="cannot be changed"), database.write() as session:
        session.execute(text(statement))
    assert [entry.who for entry in entries(database, "token_disabled")] == ["r8scan"]


def test_the_timeline_lists_all_events_in_order(database: Database, token: str) -> None:
    find(database, token, "app.py")
    decide(database, lambda session, one: operator_actions.annotate(session, one, who=WHO, text="called the owner"))
    enable(database, token)
    with database.read() as session:
        story = timeline(session, session.execute(select(Incident)).scalar_one())
    words = [moment.what for moment in story]
    assert [moment.at for moment in story] == sorted(moment.at for moment in story)
    for earlier, later in (("token disabled", "note"), ("note", "token enabled by operator"), ("seen", "note")):
        assert words.index(earlier) < words.index(later)
    assert {"incident opened", "mail queued", "listed for gateways"} <= set(words)
    note = next(moment for moment in story if moment.what == "note")
    assert (note.who, note.detail) == (WHO, "text called the owner")


def test_the_timeline_of_many_places_stays_short(database: Database, token: str) -> None:
    find(database, token, *(f"{number}.py" for number in range(MAX_PLACES + 7)))
    with database.read() as session:
        story = timeline(session, session.execute(select(Incident)).scalar_one())
    seen = [moment.detail for moment in story if moment.what == "seen"]
    assert len(seen) == MAX_PLACES + 1
    assert "7 more places until then" in seen

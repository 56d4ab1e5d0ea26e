"""Tests that the actions in the console have the same effects as the commands."""

from __future__ import annotations

import re
import uuid

import httpx
from sqlalchemy import func, select

from scanner.records.audit_models import AuditEntry
from scanner.records.compromise_models import Brake, Report
from scanner.records.database import Database
from scanner.records.models import ApiToken, Incident, Notification, NotificationSubject, db_now
from scanner.records.states import Channel, Decision, IncidentState, NotificationState, ReportState
from tests.workers.web.console.conftest import newest_incident
from tests.workers.web.console.test_pages import whole
from workers.context import Context
from workers.health.overview import overview


def entry(database: Database, what: str) -> AuditEntry:
    with database.read() as session:
        statement = select(AuditEntry).where(AuditEntry.what == what).order_by(AuditEntry.id.desc()).limit(1)
        return session.execute(statement).scalar_one()


def state_of(database: Database, incident: uuid.UUID) -> IncidentState:
    with database.read() as session:
        return session.execute(select(Incident.state).where(Incident.id == incident)).scalar_one()


def test_closing_reopening_and_a_note_are_in_the_audit_with_the_person(
    operator: httpx.Client, context: Context, own_database: Database
) -> None:
    one = newest_incident(context, action=Decision.DISABLED, state=IncidentState.OPEN)
    address = f"/console/incidents/{one}"
    for name, what in (("close", "incident_closed"), ("reopen", "incident_reopened"), ("note", "note")):
        answer = operator.post(f"{address}/{name}", data={"reason": f"to see {name}"})
        assert answer.status_code == 303, answer.text
        page = operator.get(answer.headers["Location"]).text
        assert f"to see {name}" in page
        found = entry(own_database, what)
        assert (found.who, found.incident_id) == ("console:ana", one)


def test_an_impossible_action_is_refused_with_a_reason(
    operator: httpx.Client, context: Context, own_database: Database
) -> None:
    one = newest_incident(context, action=Decision.DISABLED, state=IncidentState.OPEN)
    refused = operator.post(f"/console/incidents/{one}/reopen", data={"reason": "again"})
    assert (refused.status_code, "The incident is open" in refused.text) == (409, True)
    empty = operator.post(f"/console/incidents/{one}/close", data={"reason": "  "})
    assert (empty.status_code, "Say why" in empty.text) == (409, True)
    assert state_of(own_database, one) == IncidentState.OPEN


def test_a_mail_is_sent_again_to_the_current_addresses(
    operator: httpx.Client, context: Context, own_database: Database, woken: list[str]
) -> None:
    with own_database.read() as session:
        sent = select(Notification).where(Notification.state == NotificationState.SENT, Notification.channel == "email")
        one = session.execute(sent.limit(1)).scalar_one().subjects[0].incident_id
    answer = operator.post(f"/console/incidents/{one}/resend", data={"reason": "the address was mended"})
    assert answer.headers["Location"].endswith("?said=resent"), answer.text
    assert entry(own_database, "mail_resent").who == "console:ana"
    assert woken == ["outbox"]


def test_a_token_is_enabled_and_disabled_with_an_address_as_evidence(
    operator: httpx.Client, context: Context, own_database: Database
) -> None:
    one = newest_incident(context, action=Decision.DISABLED, state=IncidentState.OPEN)
    address = f"/console/incidents/{one}"
    assert operator.post(f"{address}/enable", data={"reason": "a sample"}).headers["Location"].endswith("said=enabled")
    assert entry(own_database, "token_enabled_by_operator").who == "console:ana"
    for bad in ("", "javascript:alert(1)", "ftp://x.example", "https://user:pass@x.example/", "https://x/" + "y" * 600):
        assert operator.post(f"{address}/disable", data={"reason": "no sample", "url": bad}).status_code == 409
    given = {"reason": "no sample", "url": "https://paste.example/1234"}
    answer = operator.post(f"{address}/disable", data=given)
    assert answer.headers["Location"].endswith("said=disabled"), answer.text
    decided = entry(own_database, "disable_decided")
    assert (decided.who, decided.evidence["url"]) == ("console:ana", given["url"])
    with own_database.read() as session:
        digest = session.execute(select(Incident.digest).where(Incident.id == one)).scalar_one()
        token = session.execute(select(ApiToken).where(ApiToken.digest == digest)).scalar_one()
        assert token.disabled_at is not None


def test_the_brake_does_not_hold_a_disable_by_a_person(
    operator: httpx.Client, context: Context, own_database: Database
) -> None:
    one = newest_incident(context, action=Decision.FLAGGED)
    data = {"reason": "it is abused", "url": "https://tickets.example/7"}
    answer = operator.post(f"/console/incidents/{one}/disable", data=data)
    assert answer.headers["Location"].endswith("said=disabled"), answer.text
    with own_database.read() as session:
        assert session.execute(select(Incident.action).where(Incident.id == one)).scalar_one() == Decision.DISABLED
        assert session.execute(select(Brake.closed_at)).scalar_one() is not None


def test_a_protected_token_is_not_disabled_before_its_protection_is_removed(
    operator: httpx.Client, context: Context, own_database: Database
) -> None:
    one = newest_incident(context, action=Decision.PROTECTED)
    data = {"reason": "it is abused", "url": "https://tickets.example/7"}
    refused = operator.post(f"/console/incidents/{one}/disable", data=data)
    assert (refused.status_code, "protected" in refused.text) == (409, True)
    taken = operator.post(f"/console/incidents/{one}/unprotect", data={"reason": "agreed with the owner"})
    assert taken.headers["Location"].endswith("said=unprotected")
    assert entry(own_database, "token_unprotected").who == "console:ana"
    answer = operator.post(f"/console/incidents/{one}/disable", data=data)
    assert answer.headers["Location"].endswith("said=disabled"), answer.text


def test_the_brake_is_released_and_names_the_person(
    operator: httpx.Client, own_database: Database, woken: list[str]
) -> None:
    answer = operator.post("/console/decisions/release", data={"held": "9", "reason": "all are real"})
    assert answer.headers["Location"] == "/console/decisions?said=released", answer.text
    kept = entry(own_database, "brake_released")
    assert (kept.who, kept.evidence["reason"]) == ("console:ana", "all are real")
    page = whole(operator.get("/console/decisions").text)
    assert re.search(r"Last decision: released by console:ana [\w ]+ , 9 reports: all are real", page)
    with own_database.read() as session:
        held = select(func.count()).where(Report.state == ReportState.HELD)
        assert session.execute(held).scalar_one() == 0
    assert woken == ["outbox"]


def test_the_brake_asks_for_confirmation_with_number_reporters_and_notes(
    operator: httpx.Client, own_database: Database
) -> None:
    for act, button in (("release", "Disable 9 tokens"), ("reject", "Reject 9 reports")):
        page = operator.get(f"/console/decisions/confirm?act={act}").text
        for part in ("operator:deploy", "seen in a paste", "stolen laptop", button):
            assert part in page
        refused = operator.post(f"/console/decisions/{act}", data={"held": "9"})
        assert refused.status_code == 409, "a reason is required"
    with own_database.read() as session:
        assert session.execute(select(Brake.closed_at)).scalar_one() is not None


def test_the_brake_is_not_released_when_it_holds_more_than_the_page_said(
    operator: httpx.Client, own_database: Database
) -> None:
    for name in ("release", "reject"):
        answer = operator.post(f"/console/decisions/{name}", data={"held": "3", "reason": "seen"})
        assert (answer.status_code, "9 reports by now" in answer.text) == (409, True)
    with own_database.read() as session:
        assert session.execute(select(Brake.closed_at)).scalar_one() is not None


def test_a_bulk_action_asks_for_confirmation_and_leaves_out_later_incidents(
    operator: httpx.Client, context: Context, own_database: Database
) -> None:
    data = {"act": "close", "action": "disabled", "state": "open", "account": "ana"}
    asked = operator.post("/console/incidents/bulk", data=data)
    assert asked.status_code == 200
    with own_database.read() as session:
        matching = (Incident.action == "disabled", Incident.state == "open", Incident.account_name == "ana")
        before = session.execute(select(func.count()).where(*matching)).scalar_one()
        newest = session.execute(select(func.max(Incident.detected_at)).where(*matching)).scalar_one()
        oldest = session.execute(select(func.min(Incident.detected_at)).where(*matching)).scalar_one()
    assert before > 1
    assert f"Close incidents: {before} incidents" in asked.text
    early = operator.post(
        "/console/incidents/bulk/confirmed", data={**data, "moment": oldest.isoformat(), "reason": "a sample"}
    )
    assert "1 done" in early.text
    late = operator.post(
        "/console/incidents/bulk/confirmed", data={**data, "moment": newest.isoformat(), "reason": "samples"}
    )
    assert f"{before - 1} done" in late.text
    with own_database.read() as session:
        closed = select(func.count()).where(AuditEntry.what == "incident_closed", AuditEntry.who == "console:ana")
        assert session.execute(closed).scalar_one() == before
        others = select(func.count()).where(Incident.state == "open", Incident.account_name != "ana")
        assert session.execute(others).scalar_one() > 0


def test_a_bulk_action_reports_refused_incidents_with_the_reason(operator: httpx.Client, context: Context) -> None:
    data = {"act": "close", "account": "ana", "moment": context_now(context), "reason": "samples"}
    first = operator.post("/console/incidents/bulk/confirmed", data=data)
    again = operator.post("/console/incidents/bulk/confirmed", data=data)
    assert "the incident is closed already" in again.text
    assert "0 done" in again.text
    assert "done" in first.text


def test_a_bulk_action_with_a_filter_that_cannot_be_understood_does_nothing(
    operator: httpx.Client, context: Context, own_database: Database
) -> None:
    good = {"act": "close", "moment": context_now(context), "reason": "x"}
    for bad in (
        {"state": "nonsense"},
        {"since": "yesterday"},
        {"mail": "lost"},
        {"act": "enable"},
        {"moment": ""},
        {"moment": "2026-11-01T00:00:00"},
        {"account": "x" * 300},
    ):
        assert operator.post("/console/incidents/bulk/confirmed", data={**good, **bad}).status_code == 400, bad
    with own_database.read() as session:
        assert session.execute(select(func.count()).where(AuditEntry.what == "incident_closed")).scalar_one() == 0


def context_now(context: Context) -> str:
    return overview(context.database, context.settings).at.isoformat()


def test_an_incident_is_assigned_reassigned_and_found_by_its_assignee(
    operator: httpx.Client, context: Context, own_database: Database
) -> None:
    one = newest_incident(context, state=IncidentState.OPEN)
    address = f"/console/incidents/{one}"
    taken = operator.post(f"{address}/assign", data={"to": "ana"})
    assert taken.headers["Location"].endswith("?said=assigned"), taken.text
    found = entry(own_database, "incident_assigned")
    assert (found.who, found.incident_id, found.evidence) == ("console:ana", one, {"to": "ana"})
    assert str(one) in operator.get("/console/incidents?assignee=ana").text
    assert operator.post(f"{address}/assign", data={"to": "ana"}).status_code == 409
    assert operator.post(f"{address}/assign", data={"to": "x" * 101}).status_code == 409
    assert operator.post(f"{address}/assign", data={"to": ""}).status_code == 303
    assert str(one) not in operator.get("/console/incidents?assignee=ana").text


def failed_message(database: Database, channel: Channel, **values: object) -> uuid.UUID:
    with database.write() as session:
        sent = select(Notification).where(Notification.state == NotificationState.SENT, Notification.channel == "email")
        like = session.execute(sent.limit(1)).scalar_one()
        message = Notification(
            **{"merge_key": "again", "recipient": like.recipient, "facts": {"digest": "d"}, **values},
            channel=channel,
            account_id=like.account_id,
            state=NotificationState.FAILED,
            attempts=9,
            next_attempt_at=db_now(),
            message_id=f"<{uuid.uuid4()}@r8scan>",
            created_at=db_now(-5 * 86400),
            error="gave up after 3 days",
        )
        session.add(message)
        session.flush()
        if channel == Channel.EMAIL:
            link = NotificationSubject(
                notification_id=message.id,
                incident_id=like.subjects[0].incident_id,
                channel=channel,
                merge_key="again",
                occasion=like.subjects[0].occasion,
            )
            session.add(link)
        return message.id


def test_failed_messages_are_tried_again_from_the_outbox(
    operator: httpx.Client, own_database: Database, woken: list[str]
) -> None:
    expected = {
        Channel.WEBHOOK: (NotificationState.FROZEN, {"digest": "d"}),
        Channel.OPERATOR: (NotificationState.PENDING, None),
    }
    for channel, (state, facts) in expected.items():
        one = failed_message(own_database, channel)
        answer = operator.post(f"/console/outbox/{one}/retry")
        assert answer.headers["Location"] == "/console/outbox?said=retried", answer.text
        with own_database.read() as session:
            row = session.get_one(Notification, one)
            age = session.execute(select(db_now())).scalar_one() - row.created_at
            assert (row.state, row.facts, row.error, age.days) == (state, facts, None, 0)
        assert entry(own_database, "message_retried").who == "console:ana"
        assert operator.post(f"/console/outbox/{one}/retry").status_code == 409
    assert woken == ["outbox", "outbox"]


def test_a_failed_mail_to_an_owner_is_sent_again_to_the_current_addresses(
    operator: httpx.Client, own_database: Database, woken: list[str]
) -> None:
    one = failed_message(own_database, Channel.EMAIL)
    assert operator.post(f"/console/outbox/{one}/retry").headers["Location"] == "/console/outbox?said=retried"
    assert entry(own_database, "mail_resent").evidence["reason"] == "tried again from the outbox"
    again = operator.post(f"/console/outbox/{one}/retry")
    assert (again.status_code, "is already waiting" in again.text) == (409, True)
    assert woken == ["outbox"]


def test_a_message_that_has_nowhere_to_go_is_not_tried_again(operator: httpx.Client, own_database: Database) -> None:
    for channel, values in ((Channel.WEBHOOK, {"facts": None}), (Channel.OPERATOR, {"recipient": None})):
        one = failed_message(own_database, channel, **values)
        assert operator.post(f"/console/outbox/{one}/retry").status_code == 409
    assert operator.post(f"/console/outbox/{uuid.uuid4()}/retry").status_code == 404

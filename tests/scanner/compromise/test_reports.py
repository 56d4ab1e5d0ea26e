"""Tests that a reported token is disabled at once, and that no raw token is stored or logged."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Collection
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select, update

from notifications.email.gathering import gather
from scanner.compromise import reports, settling
from scanner.compromise.reports import BadReport, NewReport, Subject, new_report, read_lines, subject_of
from scanner.compromise.settling import Settled, decide_again, decisions, settle, settle_due
from scanner.detection import Candidate, Place, sha256_digest
from scanner.records.audit_models import AuditEntry
from scanner.records.compromise_models import Report
from scanner.records.database import Database
from scanner.records.models import ApiToken, Exposure, Incident, Notification, NotificationSubject, db_now
from scanner.records.states import EnforceMode
from scanner.response import operator_actions
from scanner.response.policy import Policy
from scanner.response.respond import respond
from scanner.response.store_access import RemoteAccess
from scanner.tokens import sql
from scanner.tokens.imports import ImportedToken
from scanner.tokens.protocol import Disabled, LookUp
from scanner.tokens.registry import ImportRun

POLICY = Policy(operator_email="ops@vendor.example", mail_domain="vendor.example")


def reported(token: str, sign: str = "abuse_report", note: str = "seen in a chat", key: str | None = None) -> NewReport:
    return new_report(subject_of(token, sha256_digest), sign=sign, note=note, reporter="soc", key=key)


def submit(database: Database, *given_reports: NewReport, policy: Policy = POLICY, per_minute: int = 60) -> Settled:
    ids = reports.record(database, given_reports)
    return settle(database, ids, policy=policy, per_minute=per_minute)


def disabled_at(database: Database, token: str) -> object:
    digest = sha256_digest(token.encode())
    with database.read() as session:
        return sql.look_up(session, [digest])[digest].disabled_at


def count(database: Database, model: type, *conditions: object) -> int:
    with database.read() as session:
        return session.execute(select(func.count()).select_from(model).where(*conditions)).scalar_one()  # type: ignore[arg-type]


def enable_again(database: Database, token: str) -> None:
    with database.write() as session:
        session.execute(
            update(ApiToken).where(ApiToken.digest == sha256_digest(token.encode())).values(disabled_at=None)
        )


def test_a_report_disables_the_token_and_its_owner_learns_why(database: Database, known: Callable[..., str]) -> None:
    token = known()
    settled = submit(database, reported(token))
    assert settled.counts == {"disabled": 1}
    assert disabled_at(database, token)
    with database.read() as session:
        incident = session.execute(select(Incident)).scalar_one()
        assert (incident.cause, incident.action) == ("compromise_signs", "disabled")
        sign = incident.evidence["signs"][0]
        assert (sign["sign"], sign["note"], sign["reporter"]) == ("abuse_report", "seen in a chat", "soc")
        notification = session.execute(select(Notification)).scalar_one()
        assert notification.recipient == "ana@example.com"
        assert gather(session, notification).variant == "compromise_signs"
        entry = session.execute(select(AuditEntry).where(AuditEntry.what == "token_disabled")).scalar_one()
        assert (entry.incident_id, entry.evidence["sign"]) == (incident.id, "abuse_report")
        row = session.execute(select(Report)).scalar_one()
        assert (row.state, row.decision, row.incident_id) == ("settled", "disabled", incident.id)
    assert count(database, Exposure) == 0


def test_a_repeated_report_does_nothing_even_if_the_token_was_enabled_again(
    database: Database, known: Callable[..., str]
) -> None:
    token = known()
    submit(database, reported(token))
    enable_again(database, token)
    again = submit(database, reported(token))
    assert not again.counts
    assert disabled_at(database, token) is None
    assert (count(database, Report), count(database, Incident), count(database, NotificationSubject)) == (1, 1, 1)


def test_a_new_report_disables_an_enabled_token_again_and_notifies_its_owner(
    database: Database, known: Callable[..., str]
) -> None:
    token = known()
    submit(database, reported(token, key="case-1"))
    enable_again(database, token)
    assert submit(database, reported(token, key="case-2")).counts == {"disabled": 1}
    assert disabled_at(database, token)
    assert count(database, Incident, Incident.state == "open") == 1
    assert (count(database, Incident), count(database, NotificationSubject)) == (2, 2)


def test_a_report_of_many_tokens_is_one_audit_entry_of_its_reporter(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    many = [reported(fresh_token()) for _ in range(80)]
    submit(database, *many)
    submit(database, *many)
    submit(database, *many, reported(fresh_token()))
    with database.read() as session:
        kept = session.query(AuditEntry).filter_by(what="reports_received").order_by(AuditEntry.id).all()
        found = [(one.who, one.incident_id, one.evidence) for one in kept]
    seen = {"sign": "abuse_report", "note": "seen in a chat"}
    assert found == [
        ("soc", None, {"tokens": 80, **seen}),
        ("soc", None, {"tokens": 1, "reported_before": 80, **seen}),
    ]


def test_several_reports_of_one_token_disable_it_once(database: Database, known: Callable[..., str]) -> None:
    token = known()
    settled = submit(database, reported(token), reported(token, sign="stolen_laptop"), reported(token, key="x"))
    assert settled.counts == {"disabled": 1, "already_disabled": 2}
    assert (count(database, Incident), count(database, NotificationSubject)) == (1, 1)


def test_simultaneous_reports_disable_a_token_once(database: Database, known: Callable[..., str]) -> None:
    tokens = [known() for _ in range(5)]
    results: list[Settled] = []

    def one(number: int) -> None:
        results.append(submit(database, *(reported(token, key=str(number)) for token in tokens)))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(result.counts["disabled"] for result in results) == 5
    assert sum(result.counts["already_disabled"] for result in results) == 25
    assert (count(database, Incident), count(database, Report)) == (5, 30)


def test_reports_left_undecided_by_a_crash_are_decided_later(database: Database, known: Callable[..., str]) -> None:
    token = known()
    ids = reports.record(database, [reported(token)])
    assert disabled_at(database, token) is None
    assert decisions(database, ids) == {"received": 1}
    result = settle_due(database, policy=POLICY, per_minute=60)
    assert (result.due, result.settled.counts) == (1, {"disabled": 1})
    assert settle_due(database, policy=POLICY, per_minute=60).due == 0
    assert decisions(database, ids) == {"disabled": 1}


def test_an_unknown_token_is_disabled_when_it_is_imported(database: Database, fresh_token: Callable[[], str]) -> None:
    token = fresh_token()
    assert submit(database, reported(token)).counts == {"unknown": 1}
    assert settle_due(database, policy=POLICY, per_minute=60).due == 0
    with database.write() as session:
        row = ImportedToken(sha256_digest(token.encode()), "", "ci", "ana", ("ana@example.com",))
        ImportRun.begin().write(session, [row])
        assert reports.make_due_after_import(session) == 1
    assert settle_due(database, policy=POLICY, per_minute=60).settled.counts == {"disabled": 1}


def test_old_unknown_reports_are_deleted_and_held_ones_never(
    database: Database, known: Callable[..., str], fresh_token: Callable[[], str]
) -> None:
    submit(database, reported(fresh_token()), reported(known()))
    submit(database, reported(known()), per_minute=0)
    with database.write() as session:
        assert reports.purge_expired(session) == 0
        session.execute(update(Report).values(received_at=db_now(-31 * 86400)))
        assert reports.purge_expired(session) == 1
        session.execute(update(Report).values(received_at=db_now(-4000 * 86400)))
        assert reports.purge_expired(session) == 1
    assert count(database, Report, Report.state == "held") == 1


def test_a_report_of_a_protected_token_and_the_mode_observe_only_notify_the_operator(
    database: Database, known: Callable[..., str]
) -> None:
    first, second = known(), known()
    with database.write() as session:
        sql.protect(session, sha256_digest(first.encode()), protected=True)
    assert submit(database, reported(first)).counts == {"protected": 1}
    observing = Policy(enforce=EnforceMode.OBSERVE, operator_email="ops@vendor.example")
    assert submit(database, reported(second), policy=observing).counts == {"observed": 1}
    assert disabled_at(database, first) is None
    assert disabled_at(database, second) is None
    assert count(database, Notification, Notification.channel == "email") == 0
    assert count(database, NotificationSubject, NotificationSubject.occasion.in_(("protected", "observed"))) == 2


def test_a_report_after_a_public_find_does_not_change_the_cause(database: Database, known: Callable[..., str]) -> None:
    token = known()
    place = Place("file", "https://github.example/a/b", "a/b", 1, path="x", commit="a" * 40)
    respond(database, [Candidate(sha256_digest(token.encode()), "", place)], source="public_events", policy=POLICY)
    assert submit(database, reported(token)).counts == {"already_disabled": 1}
    with database.read() as session:
        incident = session.execute(select(Incident)).scalar_one()
        assert (incident.cause, incident.action) == ("public_repository", "disabled")
        assert incident.evidence["signs"]


def test_no_raw_token_is_stored_or_logged(
    database: Database, known: Callable[..., str], dump: Callable[[], str], logged: io.StringIO
) -> None:
    token, other = known(), known()
    file = io.StringIO(f"{token}\n{other[:-1]}\n")
    lines = list(read_lines(file, sha256_digest))
    assert isinstance(lines[1][1], BadReport)
    assert not isinstance(lines[0][1], BadReport)
    ((subject, _),) = lines[0][1]
    submit(database, new_report(subject, sign="abuse_report", note=f"it is {other}, see {token}", reporter="soc"))
    everywhere = dump() + logged.getvalue() + str(lines)
    assert sha256_digest(token.encode()) in everywhere
    for raw in (token, other):
        assert raw[3:-1] not in everywhere
        assert raw[8:30] not in everywhere


@pytest.mark.parametrize("sign", ["", "Abuse", "a b", "x" * 41, None, 3, "a\n"])
def test_a_wrong_sign_is_refused(sign: object) -> None:
    with pytest.raises(BadReport, match="wrong sign"):
        new_report(Subject("a" * 64), sign=sign, note="", reporter="soc")


@pytest.mark.parametrize("values", [{"note": 3}, {"key": "x" * 201}, {"key": 3}, {"reporter": "a b"}, {"reporter": ""}])
def test_wrong_fields_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(BadReport):
        new_report(Subject("a" * 64), **{"sign": "x", "note": "", "reporter": "soc", **values})  # type: ignore[arg-type]


@given(st.text(max_size=2000))
def test_any_note_becomes_printable_and_has_a_limited_length(note: str) -> None:
    kept = new_report(Subject("a" * 64), sign="x", note=note, reporter="soc").note
    assert len(kept) <= reports.MAX_NOTE_LENGTH
    assert kept.isprintable()


@given(st.text(max_size=3000))
def test_any_line_is_read_or_refused_with_its_number(text: str) -> None:
    for number, line in read_lines(io.StringIO(text), sha256_digest):
        assert 1 <= number <= text.count("\n") + text.count("\r") + 1
        if isinstance(line, BadReport):
            assert "\n" not in str(line)


@given(
    st.lists(
        st.one_of(st.binary(min_size=32, max_size=32).map(bytes.hex), st.just("x" * 5000), st.just("")), max_size=20
    )
)
def test_valid_lines_are_read_between_invalid_ones(given_lines: list[str]) -> None:
    text = "\n".join(line.upper() for line in given_lines)
    found = dict(read_lines(io.StringIO(text), sha256_digest))
    for number, line in enumerate(given_lines, 1):
        if len(line) == 64:
            assert found[number] == [(Subject(line), "digest")]
        elif line:
            assert isinstance(found[number], BadReport)
        else:
            assert number not in found


def set_protected(database: Database, token: str, *, protected: bool) -> None:
    with database.write() as session:
        operator_actions.protect_token(session, sha256_digest(token.encode()), protected=protected, who="operator:ana")


@pytest.mark.parametrize("let_live", ["observed", "protected"])
def test_a_token_that_stayed_live_is_decided_again_without_a_new_report(
    database: Database, known: Callable[..., str], let_live: str
) -> None:
    token = known()
    policy = replace(POLICY, enforce=EnforceMode.OBSERVE if let_live == "observed" else EnforceMode.DISABLE)
    set_protected(database, token, protected=let_live == "protected")
    assert submit(database, reported(token), reported(token, "stolen"), policy=policy).counts == {let_live: 2}
    assert not decide_again(database, policy=policy, per_minute=60).counts, "nothing has changed"
    set_protected(database, token, protected=False)
    assert decide_again(database, policy=POLICY, per_minute=60).counts == {"disabled": 1}
    assert disabled_at(database, token)
    assert not decide_again(database, policy=POLICY, per_minute=60).counts
    with database.read() as session:
        incident = session.execute(select(Incident)).scalar_one()
        recipients = session.execute(select(Notification.recipient).order_by(Notification.recipient)).scalars().all()
    assert [sign["sign"] for sign in incident.evidence["signs"]] == ["abuse_report", "stolen"]
    assert recipients == ["ana@example.com", "ops@vendor.example"]


def test_the_brake_also_holds_reports_that_are_decided_again(database: Database, known: Callable[..., str]) -> None:
    tokens = [known(name) for name in ("one", "two", "three")]
    submit(database, *[reported(token) for token in tokens], policy=replace(POLICY, enforce=EnforceMode.OBSERVE))
    assert decide_again(database, policy=POLICY, per_minute=2).counts == {"disabled": 2, "held": 1}


class _Answering:
    """A token store that calls a function after each look-up."""

    def __init__(self, database: Database, do: Callable[[], None]) -> None:
        self._database, self._do = database, do

    def look_up(self, digests: Collection[str]) -> LookUp:
        with self._database.read() as session:
            found = LookUp(sql.look_up(session, digests))
        self._do()
        return found

    def disable(self, digest: str, *, key: str, reason: str, cause: str) -> Disabled:
        raise AssertionError(f"nobody wants {digest} disabled: {key} {reason} {cause}")

    def register_canary(self, digest: str, *, hint: str) -> None:
        raise AssertionError(f"nobody plants {digest} {hint}")


@pytest.mark.parametrize("values", [{"state": "closed"}, {"action": "disabled"}])
def test_a_decision_made_meanwhile_is_not_repeated(
    database: Database, known: Callable[..., str], values: dict[str, str]
) -> None:
    submit(database, reported(known()), policy=replace(POLICY, enforce=EnforceMode.OBSERVE))

    def decide() -> None:
        with database.write() as session:
            session.execute(update(Incident).values(**values))

    policy = replace(POLICY, access=RemoteAccess(_Answering(database, decide)))
    assert not decide_again(database, policy=policy, per_minute=60).counts
    with database.read() as session:
        report = session.execute(select(Report)).scalar_one()
    assert (report.state, report.decision) == ("settled", "observed")


def test_tokens_that_stay_protected_do_not_hide_changed_ones(
    database: Database, known: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settling, "REPORTS_PER_PAGE", 1)
    tokens = [known("one"), known("two")]
    for token in tokens:
        set_protected(database, token, protected=True)
        submit(database, reported(token))
    set_protected(database, tokens[1], protected=False)
    assert decide_again(database, policy=POLICY, per_minute=60).counts == {"disabled": 1}
    assert disabled_at(database, tokens[1])

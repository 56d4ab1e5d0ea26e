"""Tests that a leaked token is disabled once, and that each recipient is notified once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import event, func, select, update

from scanner.detection import Candidate, Place, sha256_digest
from scanner.detection.patterns.token_formats import hint_of
from scanner.records import tallies
from scanner.records.audit_models import AuditEntry
from scanner.records.database import Database
from scanner.records.models import ApiToken, Exposure, Incident, Notification, NotificationSubject, Sighting, db_now
from scanner.records.states import EnforceMode, SightingState
from scanner.response import respond as respond_module
from scanner.response import sightings
from scanner.response.policy import Policy
from scanner.response.respond import look_up_again, respond
from scanner.tokens import sql
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun

POLICY = Policy(operator_email="ops@vendor.example", mail_domain="vendor.example")


def known(
    database: Database, token: str, *, account: str | None = "ana", emails: tuple[str, ...] = ("ana@example.com",)
) -> str:
    digest = sha256_digest(token.encode())
    with database.write() as session:
        row = ImportedToken(digest, hint_of(token.encode()), "ci", account, emails if account else ())
        ImportRun.begin().write(session, [row])
    return digest


def found(token: str, path: str = "app.py", repository_id: int = 1, line: int = 3) -> Candidate:
    url = f"https://github.example/ana/app/blob/{'a' * 40}/{path}"
    place = Place("file", url, "ana/app", repository_id, path=path, commit="a" * 40)
    return Candidate(sha256_digest(token.encode()), hint_of(token.encode()), place, line, 7)


def count(database: Database, model: type, *conditions: object) -> int:
    with database.read() as session:
        return session.execute(select(func.count()).select_from(model).where(*conditions)).scalar_one()  # type: ignore[arg-type]


def test_a_live_token_is_disabled_and_recorded_and_its_owner_notified(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    token = fresh_token()
    digest = known(database, token)
    response = respond(database, [found(token)], source="public_events", policy=POLICY)
    assert len(response.disabled) == 1
    with database.read() as session:
        record = sql.look_up(session, [digest])[digest]
        assert record.disabled_at is not None
        incident = session.execute(select(Incident)).scalar_one()
        assert (incident.action, incident.cause, incident.token_name) == ("disabled", "public_repository", "ci")
        assert incident.disabled_at is not None
        exposure = session.execute(select(Exposure)).scalar_one()
        assert (exposure.path, exposure.line, exposure.commit) == ("app.py", 3, "a" * 40)
        notification = session.execute(select(Notification)).scalar_one()
        assert (notification.channel, notification.recipient, notification.state) == (
            "email",
            "ana@example.com",
            "pending",
        )
        assert session.execute(select(AuditEntry.what)).scalars().all() == ["token_disabled"]


def test_the_same_find_again_changes_nothing(database: Database, fresh_token: Callable[[], str]) -> None:
    token = fresh_token()
    known(database, token)
    respond(database, [found(token)], source="public_events", policy=POLICY)
    again = respond(database, [found(token)], source="rescan", policy=POLICY)
    assert (again.disabled, again.exposures) == ([], 0)
    assert (count(database, Incident), count(database, Exposure), count(database, NotificationSubject)) == (1, 1, 1)


def test_another_place_adds_an_exposure_and_no_mail(database: Database, fresh_token: Callable[[], str]) -> None:
    token = fresh_token()
    known(database, token)
    respond(database, [found(token)], source="public_events", policy=POLICY)
    again = respond(database, [found(token, path="other.py")], source="public_events", policy=POLICY)
    assert (again.disabled, again.exposures) == ([], 1)
    assert (count(database, Incident), count(database, Exposure), count(database, NotificationSubject)) == (1, 2, 1)


def test_a_token_that_its_owner_had_disabled_gets_its_exposure_and_no_mail(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    token = fresh_token()
    digest = known(database, token)
    with database.write() as session:
        assert sql.disable(session, digest, "by its owner")
    response = respond(database, [found(token)], source="public_events", policy=POLICY)
    assert not response.has_notifications
    assert (count(database, Exposure), count(database, Notification)) == (1, 0)
    assert count(database, Incident, Incident.action == "already_disabled") == 1


def test_several_tokens_of_one_account_make_one_mail(database: Database, fresh_token: Callable[[], str]) -> None:
    tokens = [fresh_token() for _ in range(3)]
    for token in tokens:
        known(database, token)
    respond(database, [found(token) for token in tokens], source="public_events", policy=POLICY)
    assert (count(database, Incident), count(database, Notification), count(database, NotificationSubject)) == (3, 1, 3)


def test_every_recipient_of_an_account_is_notified(database: Database, fresh_token: Callable[[], str]) -> None:
    token = fresh_token()
    known(database, token, emails=("ana@example.com", "bo@example.com"))
    respond(database, [found(token)], source="public_events", policy=POLICY)
    with database.read() as session:
        recipients = session.execute(select(Notification.recipient)).scalars().all()
    assert sorted(map(str, recipients)) == ["ana@example.com", "bo@example.com"]


def test_a_recipient_written_in_two_ways_is_notified_once(database: Database, fresh_token: Callable[[], str]) -> None:
    for emails in (("Ana@example.com", "ana@example.com"), ("ana@Example.com",)):
        token = fresh_token()
        known(database, token, emails=emails)
        respond(database, [found(token)], source="public_events", policy=POLICY)
    with database.read() as session:
        assert session.execute(select(Notification.recipient)).scalars().all() == ["Ana@example.com"]


def test_a_token_without_account_is_disabled_and_the_operator_notified(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    token = fresh_token()
    digest = known(database, token, account=None)
    respond(database, [found(token)], source="public_events", policy=POLICY)
    with database.read() as session:
        assert sql.look_up(session, [digest])[digest].disabled_at is not None
        rows = session.execute(select(Notification.channel, Notification.state).order_by(Notification.channel)).all()
        assert [tuple(row) for row in rows] == [("email", "failed"), ("operator", "pending")]


def test_without_an_operator_address_the_row_says_so(database: Database, fresh_token: Callable[[], str]) -> None:
    token = fresh_token()
    known(database, token, account=None)
    respond(database, [found(token)], source="public_events", policy=Policy())
    with database.read() as session:
        errors = session.execute(select(Notification.error).where(Notification.channel == "operator")).scalars().all()
    assert errors == ["no recipient: R8SCAN_OPERATOR_EMAIL is not set"]


def test_a_protected_token_stays_live_and_the_operator_is_notified(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    token = fresh_token()
    digest = known(database, token)
    with database.write() as session:
        sql.protect(session, digest, protected=True)
    respond(database, [found(token)], source="public_events", policy=POLICY)
    with database.read() as session:
        assert sql.look_up(session, [digest])[digest].disabled_at is None
        assert session.execute(select(NotificationSubject.occasion)).scalars().all() == ["protected"]


def test_the_mode_observe_notifies_only_the_operator_and_enforcing_later_disables(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    token = fresh_token()
    digest = known(database, token)
    observe = Policy(enforce=EnforceMode.OBSERVE, operator_email="ops@vendor.example")
    respond(database, [found(token)], source="public_events", policy=observe)
    with database.read() as session:
        assert sql.look_up(session, [digest])[digest].disabled_at is None
        assert session.execute(select(Notification.channel)).scalars().all() == ["operator"]
    respond(database, [found(token)], source="rescan", policy=POLICY)
    with database.read() as session:
        assert sql.look_up(session, [digest])[digest].disabled_at is not None
    assert count(database, Notification, Notification.channel == "email") == 1


def test_a_token_unknown_to_the_store_is_kept_and_found_after_an_import(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    token = fresh_token()
    response = respond(database, [found(token)], source="public_events", policy=POLICY)
    assert (response.unknown, response.has_notifications) == (1, False)
    assert look_up_again(database, policy=POLICY).sightings == 0
    digest = known(database, token)
    with database.write() as session:
        assert sightings.make_due_after_import(session) == 1
    looked_up = look_up_again(database, policy=POLICY)
    assert (looked_up.sightings, len(looked_up.response.disabled)) == (1, 1)
    with database.read() as session:
        assert sql.look_up(session, [digest])[digest].disabled_at is not None
        exposure = session.execute(select(Exposure)).scalar_one()
        assert (exposure.path, exposure.line, exposure.source) == ("app.py", 3, "public_events")
    assert count(database, Sighting) == 0


def test_an_unknown_sighting_is_deleted_after_thirty_days_and_an_unchecked_one_is_not(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    with database.write() as session:
        sightings.record(session, [found(fresh_token())], source="x", state=SightingState.UNKNOWN)
        sightings.record(session, [found(fresh_token())], source="x", state=SightingState.UNCHECKED)
        session.execute(update(Sighting).values(seen_at=db_now(-31 * 86400)))
    with database.write() as session:
        assert sightings.purge_expired(session) == 1
    assert count(database, Sighting, Sighting.state == "unchecked") == 1


def test_a_failed_transaction_leaves_no_rows(
    database: Database, fresh_token: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    token = fresh_token()
    digest = known(database, token)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(respond_module, "queue_notifications", crash)
    with pytest.raises(KeyboardInterrupt):
        respond(database, [found(token)], source="public_events", policy=POLICY)
    monkeypatch.undo()
    assert (count(database, Incident), count(database, Exposure), count(database, Notification)) == (0, 0, 0)
    assert count(database, ApiToken, ApiToken.disabled_at.is_not(None)) == 0
    assert len(respond(database, [found(token)], source="public_events", policy=POLICY).disabled) == 1
    with database.read() as session:
        assert sql.look_up(session, [digest])[digest].disabled_at is not None


def test_two_workers_with_the_same_find_disable_once_and_mail_once(
    postgresql_url: str, fresh_token: Callable[[], str]
) -> None:
    """The second worker waits for the first worker's transaction."""
    from scanner.records import schema

    first, second = Database(postgresql_url), Database(postgresql_url)
    schema.upgrade(first)
    token = fresh_token()
    known(first, token)
    disabled, may_commit = threading.Event(), threading.Event()

    @event.listens_for(first.engine, "commit")
    def _hold(_: object) -> None:
        disabled.set()
        assert may_commit.wait(30)

    results: dict[str, int] = {}

    def run(name: str, database: Database, path: str) -> None:
        response = respond(database, [found(token, path=path)], source=name, policy=POLICY)
        results[name] = len(response.disabled)

    threads = [threading.Thread(target=run, args=("first", first, "a.py"))]
    threads[0].start()
    assert disabled.wait(30)
    threads.append(threading.Thread(target=run, args=("second", second, "b.py")))
    threads[1].start()
    observer = Database(postgresql_url)
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    while True:
        with observer.engine.connect() as connection:
            if connection.exec_driver_sql(blocked).scalar_one() >= 1:
                break
    may_commit.set()
    for thread in threads:
        thread.join(30)
    assert results == {"first": 1, "second": 0}
    assert (count(observer, Incident), count(observer, Exposure), count(observer, NotificationSubject)) == (1, 2, 1)
    for database in (first, second, observer):
        database.close()


def test_a_flood_of_invented_tokens_is_looked_up_and_only_its_likeliest_are_recorded(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    flood, beside = [fresh_token() for _ in range(400)], fresh_token()
    last = max(flood, key=lambda token: sha256_digest(token.encode()))
    with database.write() as session:
        ImportRun.begin().write(
            session, [ImportedToken(sha256_digest(last.encode()), "r8_…", "", "ana", ("ana@example.com",))]
        )
    place = replace(found(beside).place, git_object="b" * 40)
    candidates = [*(found(token) for token in flood), replace(found(beside), place=place)]
    response = respond(database, candidates, source="rescan", policy=POLICY)
    assert (len(response.disabled), response.unknown, len(response.unknown_digests)) == (1, 400, 400)
    with database.read() as session:
        recorded = set(session.execute(select(Sighting.digest)).scalars())
        counts = tallies.since(session, 1)["rescan"]
    assert sha256_digest(beside.encode()) in recorded
    assert len(recorded) in (199, 200)
    assert counts == {"sightings_over_limit": 400 - len(recorded)}


def test_a_repository_full_of_tokens_is_processed_in_short_transactions(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    tokens = [fresh_token() for _ in range(450)]
    with database.write() as session:
        rows = [
            ImportedToken(sha256_digest(t.encode()), hint_of(t.encode()), "", "ana", ("ana@example.com",))
            for t in tokens
        ]
        ImportRun.begin().write(session, rows)
    commits: list[int] = []

    @event.listens_for(database.engine, "commit")
    def _count(_: object) -> None:
        commits.append(1)

    response = respond(database, [found(token) for token in tokens], source="rescan", policy=POLICY)
    assert len(response.disabled) == 450
    assert len(commits) == 4, "the first 200, a look-up of the others, and those that the store knows"
    assert count(database, Notification) == 1


@pytest.mark.parametrize("wanted", [True, False])
def test_an_owner_is_notified_of_a_token_disabled_before_only_if_the_setting_asks_for_it(
    database: Database, fresh_token: Callable[[], str], wanted: bool
) -> None:
    token = fresh_token()
    known(database, token)
    with database.write() as session:
        sql.disable(session, sha256_digest(token.encode()), "the owner")
    policy = Policy(operator_email="op@example.com", mail_already_disabled=wanted)
    for _ in range(2):
        respond(database, [found(token)], source="public_events", policy=policy)
    with database.read() as session:
        occasions = session.execute(select(NotificationSubject.occasion)).scalars().all()
    assert occasions == (["already_disabled"] if wanted else [])


def test_many_tokens_need_hardly_more_statements_than_one(database: Database, fresh_token: Callable[[], str]) -> None:
    """Tokens are processed in batches."""

    def statements(tokens: list[str]) -> int:
        for token in tokens:
            known(database, token, emails=(f"{token}@example.com".lower()[3:],))
        run: list[str] = []

        def note(connection: object, cursor: object, statement: str, *_: object) -> None:
            del connection, cursor
            run.append(statement)

        event.listen(database.engine, "after_cursor_execute", note)
        try:
            found_all = [found(token, path=token) for token in tokens]
            assert len(respond(database, found_all, source="public_events", policy=POLICY).disabled) == len(tokens)
        finally:
            event.remove(database.engine, "after_cursor_execute", note)
        return len(run)

    assert statements([fresh_token() for _ in range(60)]) <= statements([fresh_token()]) + 1

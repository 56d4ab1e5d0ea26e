"""Tests that owners get only a few mails when many tokens, or many copies of one token, leak at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage

from sqlalchemy import func, select, update

from notifications.email.transport import TransientFailure
from scanner.detection import Candidate, Place, sha256_digest
from scanner.detection.patterns.token_formats import hint_of
from scanner.records.database import Database
from scanner.records.models import Exposure, Notification, db_now
from scanner.response.policy import Policy
from scanner.response.respond import respond
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from tests.notifications.outbox_rows import OPERATOR, Post, deliver

POLICY = Policy(operator_email=OPERATOR, mail_domain="vendor.example")
WEB = "https://github.com"


def known(database: Database, *tokens: str, emails: tuple[str, ...] = ("ana@acme.example",)) -> None:
    with database.write() as session:
        rows = [
            ImportedToken(sha256_digest(token.encode()), hint_of(token.encode()), f"token {number}", "acme", emails)
            for number, token in enumerate(tokens)
        ]
        ImportRun.begin().write(session, rows)


def found(token: str, line: int = 1, repository: int = 1) -> Candidate:
    name = f"acme/app-{repository}"
    url = f"{WEB}/{name}/blob/{'a' * 40}/tokens.csv#L{line}"
    place = Place("file", url, name, repository, path="tokens.csv", commit="a" * 40)
    return Candidate(sha256_digest(token.encode()), hint_of(token.encode()), place, line, 1)


def mails(database: Database, post: Post | None = None) -> list[EmailMessage]:
    """Make all queued mails due, deliver them, and return the delivered mails."""
    with database.write() as session:
        session.execute(update(Notification).where(Notification.state != "sent").values(next_attempt_at=db_now(-1)))
    post = post or Post()
    deliver(database, post)
    return [message_from_bytes(one.content, policy=policy.default) for one in post.taken]


def words(message: EmailMessage) -> str:
    body = message.get_body(("plain",))
    assert isinstance(body, EmailMessage)
    return " ".join(body.get_content().split())


def test_an_owner_of_500_tokens_in_one_repository_gets_one_mail(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    tokens = [fresh_token() for _ in range(500)]
    known(database, *tokens)
    for begin in range(0, 500, 100):  # the scanner responds to each push separately
        batch = [found(token, begin + line) for line, token in enumerate(tokens[begin : begin + 100], start=1)]
        respond(database, batch, source="public_events", policy=POLICY)
    sent = mails(database)
    assert len(sent) == 1
    assert sent[0]["Subject"] == "500 of your Replicate API tokens were public on GitHub and are disabled now"
    text = words(sent[0])
    assert "500 places of public repositories" in text
    assert "And 290 more. All 500 are disabled." in text
    assert len(set(re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", text))) == 210


def test_an_owner_of_a_token_in_2000_forks_gets_one_mail_with_20_places(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    token = fresh_token()
    known(database, token)
    respond(database, [found(token, repository=n) for n in range(1, 2001)], source="public_events", policy=POLICY)
    sent = mails(database)
    assert len(sent) == 1
    text = words(sent[0])
    assert "in 2,000 places of public repositories" in text
    assert "This token is in 2,000 places; the first 20 of them are listed here." in text
    assert len(re.findall(r"https://github\.com/acme/app-\d+/blob", text)) == 20


def test_later_places_join_the_incident_and_queue_no_second_mail(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    token = fresh_token()
    known(database, token)
    respond(database, [found(token)], source="public_events", policy=POLICY)
    # The first attempt fails, but stores the content of the mail.
    assert mails(database, Post({"*": TransientFailure("450 later")})) == []
    respond(database, [found(token, repository=2)], source="public_events", policy=POLICY)
    sent = mails(database)
    respond(database, [found(token, repository=3)], source="rescan", policy=POLICY)
    assert len([*sent, *mails(database)]) == 1
    assert "app-2" not in words(sent[0])
    with database.read() as session:
        assert session.execute(select(func.count()).select_from(Exposure)).scalar_one() == 3
        assert session.execute(select(func.count()).select_from(Notification)).scalar_one() == 1


def test_tokens_found_after_a_mail_was_frozen_are_reported_in_one_more_mail(
    database: Database, fresh_token: Callable[[], str]
) -> None:
    tokens = [fresh_token() for _ in range(5)]
    known(database, *tokens)
    respond(database, [found(token) for token in tokens[:2]], source="public_events", policy=POLICY)
    first = mails(database)
    for token in tokens[2:]:
        respond(database, [found(token)], source="public_events", policy=POLICY)
    second = mails(database)
    assert [str(mail["Subject"])[:4] for mail in (*first, *second)] == ["2 of", "3 of"]


def test_each_recipient_gets_one_mail_about_many_tokens(database: Database, fresh_token: Callable[[], str]) -> None:
    tokens = [fresh_token() for _ in range(30)]
    people = ("ana@acme.example", "bob@acme.example", "eve@acme.example")
    known(database, *tokens, emails=people)
    respond(database, [found(token) for token in tokens], source="public_events", policy=POLICY)
    respond(database, [found(token, repository=2) for token in tokens], source="public_events", policy=POLICY)
    assert sorted(str(mail["To"]) for mail in mails(database)) == sorted(people)
    assert mails(database) == []

"""Tests that the facts in a mail agree with the database rows of its incidents."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import update

from notifications.email import gathering
from notifications.email.facts import MailFacts
from notifications.email.render import render_strictly
from notifications.email.samples import samples
from scanner.records import outbox
from scanner.records.database import Database
from scanner.records.models import ApiToken, Notification
from scanner.records.outbox import OwnerNotice
from scanner.records.states import Occasion
from scanner.response import operator_actions
from scanner.tokens import sql
from tests.notifications.outbox_rows import (
    DISABLED,
    IDENTITY,
    OPERATOR,
    PUBLISHED,
    SEEN,
    facts_of,
    incident,
    newest,
    notify_operator,
    place,
    queue_owner_mail,
)


def test_a_mail_about_one_leak_has_every_fact(database: Database) -> None:
    incident_id = incident(database, [place(container="a.zip!/.env", encoding="base64")])
    facts = facts_of(database, queue_owner_mail(database, incident_id))
    assert (facts.variant, facts.tokens_total, facts.places_total) == ("public_repository", 1, 1)
    token = facts.tokens[0]
    assert token.incident_id == str(incident_id)
    assert (token.name, token.hint, token.account, token.cause) == ("ci", "r8_Exa…mple", "acme", "public_repository")
    assert (token.published_at, token.seen_at, token.disabled_at) == (PUBLISHED, SEEN, DISABLED)
    assert token.exposed_seconds == 31
    assert token.used_since_exposure is False
    found = token.places[0]
    assert (found.repository, found.path, found.line, found.container) == ("acme/app", "src/app.py", 7, "a.zip!/.env")
    assert MailFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


@pytest.mark.parametrize("kind", ["file", "gist", "issue", "package"])
def test_a_mail_about_a_token_that_was_enabled_again_says_that_it_works(database: Database, kind: str) -> None:
    created = incident(database, [place(kind=kind)], digest="a" * 64)
    with database.write() as session:
        session.add(ApiToken(digest="a" * 64, created_at=SEEN, disabled_at=DISABLED))
    waiting = queue_owner_mail(database, created)
    assert facts_of(database, waiting).tokens[0].brought_back_at is None
    with database.write() as session:
        operator_actions.enable_token(session, "a" * 64, who="operator", reason="our own sample")
    facts = facts_of(database, waiting)
    assert facts.tokens[0].disabled_at == DISABLED
    assert facts.tokens[0].brought_back_at is not None
    assert MailFacts.from_json(json.loads(json.dumps(facts.to_json()))) == facts
    mail = render_strictly(facts, IDENTITY)
    words = " ".join(f"{mail.subject} {mail.text}".split())
    assert "works again" in words
    assert [false for false in ("is disabled now", "no longer works", "is dead", "until you") if false in words] == []
    with database.write() as session:
        sql.disable(session, "a" * 64, "operator")
    assert facts_of(database, waiting).tokens[0].brought_back_at is None


@pytest.mark.parametrize(
    ("kinds", "variant"),
    [
        *((["file", "commit", "tag", "wiki_page"], "public_repository"), (["gist", "gist_comment"], "gist")),
        *((["issue", "release", "discussion", "review_comment"], "conversation"), (["package"], "public_place")),
        *((["file", "gist"], "public_place"), (["a kind of tomorrow"], "public_place"), ([], "public_place")),
    ],
)
def test_the_wording_follows_the_kinds_of_places(database: Database, kinds: list[str], variant: str) -> None:
    incident_id = incident(database, [place(kind=kind) for kind in kinds])
    assert facts_of(database, queue_owner_mail(database, incident_id)).variant == variant


def test_reports_and_dead_tokens_have_their_own_wording(database: Database) -> None:
    reported = incident(database, cause="compromise_signs")
    assert facts_of(database, queue_owner_mail(database, reported)).variant == "compromise_signs"
    both = queue_owner_mail(database, reported, incident(database, [place()]), recipient="both@acme.example")
    assert facts_of(database, both).variant == "public_place"
    dead = incident(database, [place()], action="already_disabled", disabled_at=PUBLISHED - timedelta(days=1))
    told = facts_of(
        database, queue_owner_mail(database, dead, recipient="dead@acme.example", occasion=Occasion.ALREADY_DISABLED)
    )
    assert told.variant == "already_disabled"
    assert told.tokens[0].disabled_before_exposure


@pytest.mark.parametrize("occasion", [Occasion.DISABLED, Occasion.ALREADY_DISABLED])
def test_a_mail_about_a_token_submitted_to_github_does_not_call_it_public(
    database: Database, occasion: Occasion
) -> None:
    created = incident(database, [place(kind="submission", url="", repository=None, path=None)])
    facts = facts_of(database, queue_owner_mail(database, created, occasion=occasion))
    assert (facts.places_total, facts.causes, facts.tokens[0].places) == (0, ("compromise_signs",), ())
    mail = render_strictly(facts, IDENTITY)
    words = " ".join(f"{mail.subject} {mail.text} {mail.html}".lower().split())
    claims = ("found this token in", "is public", "was public", "are public", "public place it", "were public")
    assert [claim for claim in claims if claim in words] == []


def test_a_mail_about_a_token_that_was_submitted_and_public_names_its_public_place(database: Database) -> None:
    created = incident(database, [place(kind="submission", url="", repository=None, path=None), place()])
    facts = facts_of(database, queue_owner_mail(database, created))
    assert (facts.variant, facts.places_total, facts.causes) == ("public_repository", 1, ("public_repository",))


def test_a_mail_shows_the_first_twenty_places_and_counts_all(database: Database) -> None:
    later = place(published_at=None, seen_at=SEEN + timedelta(hours=1))
    incident_id = incident(database, [*(place(path=f"{number}.py") for number in range(24)), later])
    facts = facts_of(database, queue_owner_mail(database, incident_id))
    token = facts.tokens[0]
    assert [one.path for one in token.places] == [f"{number}.py" for number in range(20)]
    assert (token.places_total, facts.places_total) == (25, 25)
    assert not token.published_everywhere
    assert token.used_since_exposure is None


def test_a_mail_about_many_tokens_has_a_limited_size(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "MAX_TOKENS", 3)
    monkeypatch.setattr(gathering, "MAX_SHORT_TOKENS", 4)
    ids = [incident(database, [place(), place()], token_name=f"token {number}") for number in range(10)]
    facts = facts_of(database, queue_owner_mail(database, *ids))
    assert (len(facts.tokens), len(facts.others), facts.tokens_total, facts.places_total) == (3, 4, 10, 20)
    assert all(len(token.places) == 2 for token in facts.tokens)


def test_the_operators_mail_names_unreachable_owners_and_the_reason(database: Database) -> None:
    incident_id = incident(database, [place()])
    with database.write() as session:
        news = OwnerNotice(None, (), Occasion.DISABLED, (incident_id,))
        outbox.notify_owners(session, [news], window=0, domain="v.example")
    facts = facts_of(database, notify_operator(database, Occasion.UNDELIVERABLE, incident_id))
    assert facts.variant == "operator"
    assert facts.tokens[0].undelivered[0].recipient is None
    assert "no mail address" in facts.tokens[0].undelivered[0].reason


def test_the_causes_of_tokens_that_are_only_listed_are_mentioned(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "MAX_TOKENS", 1)
    found = incident(database, [place()])
    queue_owner_mail(database, found)
    facts = facts_of(database, queue_owner_mail(database, incident(database, cause="compromise_signs")))
    assert [token.cause for token in facts.tokens] == ["public_repository"]
    assert facts.causes == ("compromise_signs", "public_repository")
    assert "may be in other hands" in render_strictly(facts, IDENTITY).subject


def test_the_most_urgent_incidents_are_described_in_full(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "MAX_TOKENS", 2)
    seen = [incident(database, [place()], token_name=f"observed {number}") for number in range(3)]
    notify_operator(database, Occasion.OBSERVED, *seen)
    notification_id = notify_operator(
        database, Occasion.PROTECTED, incident(database, [place()], token_name="the urgent one")
    )
    facts = facts_of(database, notification_id)
    assert [token.occasion for token in facts.tokens] == ["protected", "observed"]
    assert (facts.tokens_total, len(facts.others)) == (4, 2)


def test_a_mail_names_the_first_unreachable_recipients_and_counts_all(database: Database) -> None:
    incident_id = incident(database, [place()])
    for number in range(7):
        queue_owner_mail(database, incident_id, recipient=f"{number}@acme.example")
    with database.write() as session:
        session.execute(update(Notification).values(state="failed", error="550 gone"))
    token = facts_of(database, notify_operator(database, Occasion.UNDELIVERABLE, incident_id)).tokens[0]
    assert [one.recipient for one in token.undelivered] == [f"{number}@acme.example" for number in range(5)]
    assert token.undelivered_total == 7
    facts = facts_of(database, newest(database, "operator", OPERATOR))
    assert "Not delivered: 2 more" in " ".join(render_strictly(facts, IDENTITY).text.split())


def test_a_mail_mentions_use_since_the_leak_only_if_it_is_known(database: Database) -> None:
    used = incident(database, [place()], token_last_used_at=PUBLISHED + timedelta(seconds=5))
    unknown = incident(database, [place()], token_last_used_at=None)
    tokens = facts_of(database, queue_owner_mail(database, used, unknown)).tokens
    assert {token.used_since_exposure for token in tokens} == {True, None}


def test_frozen_facts_contain_no_raw_token(database: Database, fresh_token: Callable[[], str]) -> None:
    token = fresh_token()
    hostile = place(path=f"{token}.py", url=f"https://github.com/{token}", repository=f"acme/{token}", ref=token)
    incident_id = incident(database, [hostile], token_name=token, account_name=token)
    facts = facts_of(database, queue_owner_mail(database, incident_id))
    assert token not in json.dumps(facts.to_json())


def test_every_sample_survives_json_and_unknown_fields_are_ignored() -> None:
    for _, facts in samples():
        value = json.loads(json.dumps(facts.to_json()))
        value["of_tomorrow"] = value["tokens"][0]["of_tomorrow"] = 1
        assert MailFacts.from_json(value) == facts

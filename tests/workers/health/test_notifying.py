"""Tests for the messages that tell the operator when a problem begins and when it is over."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import respx
from httpx import Response
from sqlalchemy import delete, select, update

from notifications import operator_channels
from notifications.email.maildir import MaildirTransport
from notifications.email.render import MailIdentity
from notifications.gateways import SIGNATURE_HEADER, TIMESTAMP_HEADER, signature
from notifications.operator_channels import (
    MailChannel,
    News,
    OperatorNotNotified,
    SlackChannel,
    WebhookOperatorChannel,
)
from scanner.records.database import Database
from scanner.records.health_models import NotifiedProblem, RefusingChannel
from scanner.records.models import db_now
from scanner.settings import Settings, load_settings
from workers.context import Context
from workers.health import notifying, operator_messages, summary
from workers.health.claims import claim
from workers.health.overview import overview
from workers.health.problems import Kind, Problem
from workers.health.undelivered import MAIL

AWAY = Problem(Kind.REDIS_AWAY, "Redis does not answer", "bring it back")
BRAKE = Problem(Kind.BRAKE_CLOSED, "the brake holds 62 reported tokens", "decide with r8scan brake release")


class Recorder:
    name = "recorder"
    address = ""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.is_away = False

    def notify(self, news: Sequence[News]) -> None:
        if self.is_away:
            raise OperatorNotNotified("it is away")
        self.told += [(one.kind, one.name) for one in news]


@pytest.fixture
def channel() -> Recorder:
    return Recorder()


@pytest.fixture
def look(database: Database, channel: Recorder) -> Callable[..., list[tuple[str, str]]]:
    """Return a function that notifies the operator about the given problems `later` seconds later.

    It returns the kind of each sent message and the name of the problem.
    """

    def run(*problems: Problem, later: float = 31) -> list[tuple[str, str]]:
        with database.write() as session:
            session.execute(update(NotifiedProblem).values(first_at=db_now(-later), last_at=db_now(-later)))
        channel.told.clear()
        notifying.look(database, load_settings(), [channel], lambda: problems)
        return list(channel.told)

    return run


def test_a_lasting_problem_is_reported_once_and_its_end_once(look: Callable[..., object]) -> None:
    assert look(AWAY) == []
    assert look(AWAY, later=60) == [], "the problem may pass by itself"
    assert look(AWAY, later=121) == [("problem", "redis_away")]
    assert look(AWAY, later=600) == []
    assert look() == [("over", "redis_away")]
    assert look() == []


def test_a_short_problem_is_never_reported(look: Callable[..., object]) -> None:
    assert look(AWAY) == []
    assert look() == []
    assert look(AWAY) == []


def test_a_waiting_decision_is_reported_at_once(look: Callable[..., object]) -> None:
    assert look(BRAKE) == [("decision", "brake_closed")]
    assert look(BRAKE) == []


def test_a_message_that_no_channel_accepts_is_sent_at_the_next_look(
    look: Callable[..., object], channel: Recorder
) -> None:
    channel.is_away = True
    assert look(BRAKE) == []
    channel.is_away = False
    assert look(BRAKE) == [("decision", "brake_closed")]


def test_a_message_that_one_of_two_channels_refuses_reaches_it_once_when_it_accepts_messages_again(
    database: Database, channel: Recorder
) -> None:
    other = Recorder()
    other.name, other.is_away = "webhook", True
    operator_messages.send(database, [channel, other], NEWS)
    operator_messages.send(database, [channel, other], [])
    other.is_away = False
    for _ in range(2):
        operator_messages.send(database, [channel, other], [])
    assert channel.told == other.told == [("problem", "redis_away")]


def test_a_channel_that_fails_for_half_a_minute_is_a_problem_until_it_accepts_a_message(
    database: Database, channel: Recorder
) -> None:
    def told() -> list[Problem]:
        found = overview(database, load_settings()).problems
        return [one for one in found if one.kind == Kind.OPERATOR_NOT_REACHED]

    channel.name, channel.is_away = "slack", True
    operator_messages.send(database, [channel], NEWS)
    assert told() == []
    with database.write() as session:
        session.execute(update(RefusingChannel).values(first_at=db_now(-300)))
    (found,) = told()
    assert found.sentence == "the operator cannot be reached by slack (it is away); 1 message waits"
    assert "R8SCAN_OPERATOR_SLACK_URL" in found.todo
    assert found.since is not None
    with database.write() as session:
        session.execute(update(RefusingChannel).values(last_at=db_now(-400)))
    assert told() == [], "the channel may no longer be in the settings"
    channel.is_away = False
    operator_messages.send(database, [channel], [])
    assert told() == []


def test_the_problem_of_a_failing_channel_names_a_setting_that_exists() -> None:
    channels = [one for one in vars(operator_channels).values() if isinstance(one, type) and hasattr(one, "notify")]
    names = {one.name for one in channels if hasattr(one, "name")} - {MAIL}
    assert {"webhook", "slack"} <= names
    assert {f"operator_{name}_url" for name in names} <= set(Settings.model_fields)


def test_a_failing_channel_keeps_a_bounded_number_of_messages_and_is_not_told_that_it_fails(
    database: Database, channel: Recorder
) -> None:
    channel.is_away = True
    fails = News("problem", Kind.OPERATOR_NOT_REACHED, "it fails", subject=channel.name)
    operator_messages.send(database, [channel], [fails])
    for _ in range(3):
        operator_messages.send(database, [channel], NEWS * 40)
    channel.is_away = False
    operator_messages.send(database, [channel], [])
    assert channel.told == [("problem", "redis_away")] * operator_messages.MAX_KEPT


def test_messages_for_a_channel_that_was_removed_are_forgotten(database: Database, channel: Recorder) -> None:
    channel.is_away = True
    operator_messages.send(database, [channel], NEWS)
    operator_messages.send(database, [], [])
    channel.is_away = False
    operator_messages.send(database, [channel], [])
    assert channel.told == []


def test_only_one_of_several_processes_reports(
    look: Callable[..., object], channel: Recorder, database: Database
) -> None:
    assert look(BRAKE) == [("decision", "brake_closed")]
    notifying.look(database, load_settings(), [channel], lambda: pytest.fail("it was looked at just now"))


def test_a_process_on_standby_reports_only_when_no_other_process_has_looked_for_longer(
    look: Callable[..., object], channel: Recorder, database: Database
) -> None:
    assert look(BRAKE) == [("decision", "brake_closed")]

    def standby() -> None:
        patience = notifying.STANDBY_SECONDS
        notifying.look(database, load_settings(), [channel], lambda: [BRAKE, AWAY], patience=patience)

    def unseen_for(seconds: float) -> int:
        with database.write() as session:
            session.execute(
                update(NotifiedProblem).where(NotifiedProblem.key == "lookout").values(last_at=db_now(-seconds))
            )
        standby()
        with database.read() as session:
            return len(session.execute(select(NotifiedProblem).where(NotifiedProblem.key == AWAY.key)).all())

    assert [unseen_for(notifying.LOOK_SECONDS + 5), unseen_for(notifying.LOOK_SECONDS + 60)] == [0, 1]


def test_the_process_that_looked_for_problems_writes_the_summary(
    database: Database, channel: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("R8SCAN_DATABASE_URL", database.url.render_as_string(hide_password=False))
    context = Context(load_settings())
    context.__dict__["operator_channels"] = (channel,)
    with database.write() as session:
        assert claim(session, "lookout", notifying.LOOK_SECONDS)
    notifying.look_and_sum_up(context)
    assert summary.write_due(database, context.settings), "no summary was written in this minute"
    with database.write() as session:
        session.execute(delete(NotifiedProblem))
    notifying.look_and_sum_up(context)
    assert not summary.write_due(database, context.settings), (
        "the process that looked for problems has written the summary"
    )
    context.close()


def test_problems_of_settings_are_not_reported(look: Callable[..., object]) -> None:
    unset = Problem(Kind.OPERATOR_NOT_SET, "nobody is told", "set it")
    assert look(unset) == []
    assert look(unset, later=600) == []


NEWS = [News("problem", "redis_away", "Redis <does> not answer", "bring it back", docs="docs/problems.md#redis-away")]


def test_the_webhook_is_signed(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post("https://ops.example/hook").mock(return_value=Response(204))
    WebhookOperatorChannel("https://ops.example/hook", "a-secret-of-sixteen").notify(NEWS)
    request = route.calls.last.request
    assert json.loads(request.content)["news"][0]["name"] == "redis_away"
    expected = signature(b"a-secret-of-sixteen", request.headers[TIMESTAMP_HEADER], request.content)
    assert request.headers[SIGNATURE_HEADER] == expected


def test_slack_gets_text_without_markup(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.post("https://hooks.example/T/B").mock(return_value=Response(200))
    SlackChannel("https://hooks.example/T/B").notify(NEWS)
    text = json.loads(route.calls.last.request.content)["text"]
    assert text.startswith("Redis &lt;does&gt; not answer: bring it back")


@pytest.mark.parametrize("status", [302, 403, 500])
def test_a_refused_message_counts_as_not_sent(respx_mock: respx.MockRouter, status: int) -> None:
    respx_mock.post("https://hooks.example/T/B").mock(return_value=Response(status))
    with pytest.raises(OperatorNotNotified, match=str(status)):
        SlackChannel("https://hooks.example/T/B").notify(NEWS)


def test_the_mail_names_the_problem_in_its_subject(tmp_path: Path) -> None:
    identity = MailIdentity(sender="r8scan <security@vendor.example>")
    MailChannel(MaildirTransport(tmp_path), identity, "ops@vendor.example").notify(NEWS)
    (mail,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    text = mail.read_text()
    assert "Subject: r8scan: Redis <does> not answer" in text
    assert "bring it back" in text
    assert "docs/problems.md#redis-away" in text

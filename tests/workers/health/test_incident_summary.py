"""Tests for the daily summary of incidents, which the operator gets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from notifications.operator_channels import News, OperatorNotNotified, subject_of
from scanner.records.database import Database
from scanner.records.health_models import NotifiedProblem
from scanner.records.models import db_now
from scanner.settings import load_settings
from tests.notifications.outbox_rows import incident, place
from workers.health import incident_summary, notifying, operator_messages


class Recorder:
    name = "recorder"
    address = ""

    def __init__(self) -> None:
        self.sent: list[News] = []
        self.is_away = False

    def notify(self, news: Sequence[News]) -> None:
        if self.is_away:
            raise OperatorNotNotified("it is away")
        self.sent += news


def pass_hours(database: Database, hours: float) -> None:
    """Make the last summary `hours` hours older."""
    with database.write() as session:
        session.execute(update(NotifiedProblem).values(told_at=db_now(-hours * 3600), last_at=db_now(-hours * 3600)))


def test_a_day_with_incidents_is_one_message_and_a_day_without_one_is_none(database: Database) -> None:
    channel, now = Recorder(), datetime.now(UTC)
    public = place(published_at=now - timedelta(seconds=60), seen_at=now - timedelta(seconds=58))
    found = {"detected_at": now - timedelta(seconds=58), "disabled_at": now - timedelta(seconds=56)}
    for _ in range(2):
        incident(database, [public], **found)
    incident(database, action="protected", detected_at=now, disabled_at=None)
    incident(database, cause="canary", detected_at=now)
    assert incident_summary.send_due(database, 24, [channel])
    assert not incident_summary.send_due(database, 24, [channel])
    (news,) = channel.sent
    assert (news.kind, news.name) == ("summary", "incidents")
    assert news.sentence == (
        "3 incidents in 24 hours: 2 disabled, 1 protected; half of the leaks were disabled within 4 s of becoming"
        " public"
    )
    assert subject_of(channel.sent).startswith("r8scan: 3 incidents in 24 hours")
    pass_hours(database, 24.1)
    with database.write() as session:
        session.execute(update(NotifiedProblem).values(told_at=db_now()))
    assert not incident_summary.send_due(database, 24, [channel]), "nothing has happened since"
    pass_hours(database, 24.1)
    incident(database, detected_at=datetime.now(UTC))
    assert not incident_summary.send_due(database, 0, [channel]), "it is switched off"
    assert incident_summary.send_due(database, 24, [channel])
    assert len(channel.sent) == 2


def test_a_summary_that_no_channel_accepts_is_sent_when_the_channel_works_again(database: Database) -> None:
    channel = Recorder()
    channel.is_away = True
    incident(database, detected_at=datetime.now(UTC))
    assert incident_summary.send_due(database, 24, [channel])
    assert channel.sent == []
    channel.is_away = False
    for _ in range(2):
        operator_messages.send(database, [channel], [])
    assert [one.kind for one in channel.sent] == ["summary"]


@pytest.mark.parametrize("problems", [(), None])
def test_its_row_is_no_problem(database: Database, problems: tuple[()] | None) -> None:
    channel = Recorder()
    incident(database, detected_at=datetime.now(UTC))
    assert incident_summary.send_due(database, 24, [channel])
    notifying.look(database, load_settings(), [channel], (lambda: problems) if problems is not None else None)
    assert [one.kind for one in channel.sent] == ["summary"]

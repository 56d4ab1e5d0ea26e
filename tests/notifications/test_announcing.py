"""Tests that an announcement of a disabled token is sent again until the gateway accepts it."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
import redis
from sqlalchemy import select, update
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from notifications.announcing import BATCH, MAX_REFUSED, announce_due
from notifications.gateways import (
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    AnnouncementChannel,
    AnnouncementRefused,
    AnnouncementUndelivered,
    Content,
    StreamChannel,
    WebhookChannel,
    signature,
)
from scanner.records import announcements
from scanner.records.announcements import DisabledToken
from scanner.records.database import Database
from scanner.records.models import Notification, db_now
from scanner.records.states import Cause, Channel
from tests.servers import redis_server
from workers.sandbox import gateway
from workers.sandbox.gateway import Cache
from workers.sandbox.http_server import served
from workers.sandbox.world import until

AT = datetime(2026, 11, 3, 14, 2, 11, tzinfo=UTC)
SECRET = "a-secret-of-the-webhook"


def announce(
    database: Database, *digests: str, channels: tuple[Channel, ...] = (Channel.STREAM, Channel.WEBHOOK)
) -> None:
    with database.write() as session:
        announcements.announce(session, [DisabledToken(one, "7", Cause.OPERATOR, AT) for one in digests], channels)


def states(database: Database) -> list[tuple[str, str]]:
    with database.read() as session:
        return sorted((row[0], row[1]) for row in session.execute(select(Notification.channel, Notification.state)))


def pass_time(database: Database, **values: Any) -> None:
    with database.write() as session:
        session.execute(update(Notification).values(next_attempt_at=db_now(-1), leased_until=None, **values))


@dataclass
class Kept:
    """A channel that stores its announcements. It fails while `is_away` is true.

    It refuses a batch with one of the digests in `unreadable`.
    """

    batches: list[list[Content]] = field(default_factory=list)
    is_away: bool = False
    unreadable: set[str] = field(default_factory=set)
    tries: int = 0

    def send(self, batch: Sequence[Content]) -> None:
        self.tries += 1
        if self.is_away:
            raise AnnouncementUndelivered("the receiver is unavailable")
        if self.unreadable.intersection(content["digest"] for content in batch):
            raise AnnouncementRefused("the webhook answered 500")
        self.batches.append(list(batch))

    def close(self) -> None:
        """Do nothing."""


@pytest.fixture
def redis_url(redis_socket: str) -> Iterator[str]:
    yield f"unix://{redis_socket}"
    with redis.Redis(unix_socket_path=redis_socket) as connection:
        connection.flushall()


def test_the_stream_gets_each_announcement_once_in_order(database: Database, redis_url: str) -> None:
    announce(database, "a" * 64, "b" * 64, channels=(Channel.STREAM,))
    channel = StreamChannel(redis_url, "gateways")
    assert announce_due(database, {Channel.STREAM: channel}).sent == 2
    assert announce_due(database, {Channel.STREAM: channel}).sent == 0
    channel.close()
    with redis.Redis.from_url(redis_url, decode_responses=True) as connection:
        entries: Any = connection.xrange("gateways")
    assert [fields["digest"] for _, fields in entries] == ["a" * 64, "b" * 64]
    assert set(entries[0][1]) == {"id", "type", "digest", "token_id", "cause", "disabled_at"}
    assert states(database) == [(Channel.STREAM, "sent")] * 2


def test_the_webhook_gets_a_signed_body_that_the_sandbox_accepts(database: Database) -> None:
    cache = Cache(lambda digest: True)
    assert cache.answers("a" * 64)
    with served(Starlette(routes=[gateway.webhook(cache, SECRET)])) as url:
        announce(database, "a" * 64, channels=(Channel.WEBHOOK,))
        channel = WebhookChannel(f"{url}/r8scan", SECRET)
        assert announce_due(database, {Channel.WEBHOOK: channel}).sent == 1
        channel.close()
        assert cache.entries == {}
        forged = WebhookChannel(f"{url}/r8scan", "another-secret-entirely")
        with pytest.raises(AnnouncementUndelivered, match="answered 403"):
            forged.send([{"digest": "a" * 64}])
        forged.close()


def test_the_signature_is_over_the_timestamp_and_the_body() -> None:
    # The expected signature was computed by: printf '1700000000.{}' | openssl dgst -sha256 -hmac key
    expected = "v1=9d713ed406bb7076d4123f0dc2c39d2df5c654ed4b0cd56b52c8b4c940bd63ae"
    assert signature(b"key", "1700000000", b"{}") == expected


def test_an_unavailable_channel_delays_no_other_channel_and_is_retried(database: Database) -> None:
    announce(database, "a" * 64)
    stream, webhook = Kept(is_away=True), Kept()
    report = announce_due(database, {Channel.STREAM: stream, Channel.WEBHOOK: webhook})
    assert (report.sent, report.deferred) == (1, 1)
    assert states(database) == [(Channel.STREAM, "frozen"), (Channel.WEBHOOK, "sent")]
    stream.is_away = False
    pass_time(database)
    assert announce_due(database, {Channel.STREAM: stream, Channel.WEBHOOK: webhook}).sent == 1
    assert len(stream.batches) == 1
    assert len(webhook.batches) == 1


def test_an_announcement_refused_for_three_days_is_visibly_failed(database: Database) -> None:
    announce(database, "a" * 64, channels=(Channel.WEBHOOK,))
    pass_time(database, created_at=db_now(-3 * 86400 - 60))
    assert announce_due(database, {Channel.WEBHOOK: Kept(is_away=True)}).failed == 1
    with database.read() as session:
        row = session.execute(select(Notification)).scalar_one()
    assert row.state == "failed"
    assert row.error == "gave up after 3 days: the receiver is unavailable"


def test_an_announcement_that_the_receiver_cannot_read_delays_no_other(database: Database) -> None:
    announce(database, *(f"{number:064x}" for number in range(8)), channels=(Channel.WEBHOOK,))
    channel = Kept(unreadable={f"{3:064x}"})
    report = announce_due(database, {Channel.WEBHOOK: channel})
    assert (report.sent, report.deferred) == (7, 1)
    told = [content["digest"] for batch in channel.batches for content in batch]
    assert sorted(told) == [f"{number:064x}" for number in range(8) if number != 3]
    with database.read() as session:
        waiting = session.execute(select(Notification).where(Notification.state == "frozen")).scalar_one()
    assert (waiting.error, waiting.leased_until) == ("the webhook answered 500", None)


def test_a_receiver_that_refuses_everything_gets_a_limited_number_of_requests(database: Database) -> None:
    every = {f"{number:064x}" for number in range(BATCH)}
    announce(database, *every, channels=(Channel.WEBHOOK,))
    channel = Kept(unreadable=every)
    report = announce_due(database, {Channel.WEBHOOK: channel})
    assert (report.sent, report.deferred, channel.tries) == (0, BATCH, 1 + MAX_REFUSED)


def test_refused_announcements_are_retried_after_the_others(database: Database) -> None:
    bad = {f"{number:064x}" for number in range(MAX_REFUSED + 1)}
    announce(database, *sorted(bad), "f" * 64, channels=(Channel.WEBHOOK,))
    channel = Kept(unreadable=bad)
    for _ in range(3):
        announce_due(database, {Channel.WEBHOOK: channel})
        with database.write() as session:  # make the untried announcements due now
            at = {"next_attempt_at": db_now(-1)}
            let_go = Notification.error.is_(None) & (Notification.state == "frozen")
            session.execute(update(Notification).where(let_go).values(**at))
    assert [content["digest"] for batch in channel.batches for content in batch] == ["f" * 64]


def test_a_row_without_an_announcement_is_visibly_failed_and_never_sent(database: Database) -> None:
    announce(database, "a" * 64, "b" * 64, channels=(Channel.STREAM,))
    with database.write() as session:
        first = select(Notification.id).limit(1).scalar_subquery()
        session.execute(update(Notification).where(Notification.id == first).values(facts=None))
    channel = Kept()
    report = announce_due(database, {Channel.STREAM: channel})
    assert (report.sent, report.failed) == (1, 1)
    assert [len(batch) for batch in channel.batches] == [1]
    assert states(database) == [(Channel.STREAM, "failed"), (Channel.STREAM, "sent")]


def test_rows_of_a_channel_that_was_removed_fail_after_three_days(database: Database) -> None:
    announce(database, "a" * 64)
    assert announce_due(database, {Channel.STREAM: Kept()}).failed == 0
    pass_time(database, created_at=db_now(-3 * 86400 - 60))
    assert announce_due(database, {Channel.STREAM: Kept()}).failed == 1
    assert states(database) == [(Channel.STREAM, "sent"), (Channel.WEBHOOK, "failed")]
    with database.read() as session:
        row = session.execute(select(Notification).where(Notification.state == "failed")).scalar_one()
    assert row.error == "gave up after 3 days: the channel is no longer configured"


def test_many_announcements_are_sent_in_batches(database: Database) -> None:
    announce(database, *(f"{number:064x}" for number in range(2 * BATCH + 1)), channels=(Channel.WEBHOOK,))
    channel = Kept()
    assert announce_due(database, {Channel.WEBHOOK: channel}).sent == 2 * BATCH + 1
    assert [len(batch) for batch in channel.batches] == [BATCH, BATCH, 1]
    told = [content["digest"] for batch in channel.batches for content in batch]
    assert sorted(told) == [f"{number:064x}" for number in range(2 * BATCH + 1)]


def test_an_announcement_whose_worker_dies_after_sending_is_repeated_with_the_same_id(database: Database) -> None:
    class Dying(Kept):
        def send(self, batch: Sequence[Content]) -> None:
            super().send(batch)
            raise KeyboardInterrupt

    announce(database, "a" * 64, channels=(Channel.STREAM,))
    dying = Dying()
    with pytest.raises(KeyboardInterrupt):
        announce_due(database, {Channel.STREAM: dying})
    pass_time(database)
    after = Kept()
    assert announce_due(database, {Channel.STREAM: after}).sent == 1
    assert after.batches == dying.batches


def test_two_workers_announce_nothing_twice(database: Database) -> None:
    announce(database, *(f"{number:064x}" for number in range(60)), channels=(Channel.STREAM,))
    channel = Kept()
    threads = [threading.Thread(target=announce_due, args=(database, {Channel.STREAM: channel})) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = [content["id"] for batch in channel.batches for content in batch]
    assert len(told) == len(set(told)) == 60


@pytest.mark.parametrize("status", [301, 400, 404, 500, 503])
def test_every_status_but_2xx_is_a_failure(status: int) -> None:
    async def answer(request: Request) -> Response:
        await request.body()
        return Response(status_code=status, headers={"Location": "/elsewhere"})

    with served(Starlette(routes=[Route("/hook", answer, methods=["POST"])])) as url:
        channel = WebhookChannel(f"{url}/hook", SECRET)
        with pytest.raises(AnnouncementUndelivered, match=f"the webhook answered {status}") as caught:
            channel.send([{"digest": "a" * 64}])
        channel.close()
    assert isinstance(caught.value, AnnouncementRefused) == (status != 503), (
        "503 says that the receiver is unavailable, not that the batch is bad"
    )


def test_a_key_that_is_not_a_stream_refuses_the_batch(redis_url: str) -> None:
    channel = StreamChannel(redis_url, "gateways")
    with redis.Redis.from_url(redis_url) as connection:
        connection.set("gateways", "something else")
    with pytest.raises(AnnouncementRefused):
        channel.send([{"digest": "a" * 64}])
    channel.close()


def test_the_error_about_an_unreachable_receiver_names_it_without_secrets(tmp_path: Any) -> None:
    webhook = WebhookChannel("http://127.0.0.1:9/hook", SECRET)
    stream = StreamChannel(f"unix://user:password@{tmp_path}/none.sock", "gateways")
    for channel in (webhook, stream):
        with pytest.raises(AnnouncementUndelivered) as caught:
            channel.send([{"digest": "a" * 64}])
        assert SECRET not in str(caught.value)
        assert "password" not in str(caught.value)
        channel.close()


def test_the_body_of_the_webhook_is_what_the_documentation_says() -> None:
    bodies: list[tuple[bytes, str, str]] = []

    async def take(request: Request) -> Response:
        headers = request.headers
        bodies.append((await request.body(), headers[TIMESTAMP_HEADER], headers[SIGNATURE_HEADER]))
        return Response(status_code=204)

    with served(Starlette(routes=[Route("/hook", take, methods=["POST"])])) as url:
        channel = WebhookChannel(f"{url}/hook", SECRET)
        channel.send([{"id": 1, "digest": "a" * 64}])
        channel.close()
    ((body, timestamp, given),) = bodies
    assert json.loads(body) == {"announcements": [{"id": 1, "digest": "a" * 64}]}
    assert given == signature(SECRET.encode(), timestamp, body)


def test_a_gateway_that_reads_the_stream_forgets_a_disabled_token_at_once(database: Database, redis_url: str) -> None:
    cache = Cache(lambda digest: True)
    with gateway.following(cache, redis_url, "gateways", lambda: None):
        assert cache.answers("a" * 64)
        announce(database, "a" * 64, channels=(Channel.STREAM,))
        channel: AnnouncementChannel = StreamChannel(redis_url, "gateways")
        announce_due(database, {Channel.STREAM: channel})
        channel.close()
        until(lambda: not cache.entries, 30)


def test_a_gateway_catches_up_after_each_outage_of_its_stream() -> None:
    cache, calls = Cache(lambda digest: True), list[str]()

    def missed() -> None:
        calls.append("missed")
        if len(calls) == 1:
            raise ConnectionError("the list is away too")
        cache.forget("a" * 64)

    with tempfile.TemporaryDirectory(prefix="r8gateway-") as folder, ExitStack() as stack:
        socket = f"{folder}/redis.sock"
        with redis_server(socket):
            stack.enter_context(gateway.following(cache, f"unix://{socket}", "gateways", missed, pause=0.01))
            assert cache.answers("a" * 64)
            assert cache.answers("b" * 64)
        with redis_server(socket), redis.Redis(unix_socket_path=socket) as connection:
            until(lambda: set(cache.entries) == {"b" * 64}, 30)
            connection.xadd("gateways", {"digest": "b" * 64})
            until(lambda: not cache.entries, 30)
            stack.close()
    assert calls == ["missed", "missed"]


def test_an_answer_older_than_the_announcement_is_not_cached() -> None:
    cache: Cache

    def is_live(digest: str) -> bool:
        cache.forget(digest)  # an announcement arrives during the look-up
        return True

    cache = Cache(is_live)
    check: Callable[[str], bool] = cache.answers
    assert check("a" * 64)
    assert cache.entries == {}

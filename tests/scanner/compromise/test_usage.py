"""Tests that usage records are read within limits and added up exactly."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, func, select

from scanner.compromise import networks, usage
from scanner.compromise.networks import BadNetworks, NetworkList, parse_address, prefix_of
from scanner.compromise.settling import Settled, settle
from scanner.compromise.usage import StoredUsage, purge_expired, store, summed
from scanner.compromise.usage_records import MAX_SET_SIZES, BadRecord, RecordReader, UsageRecord
from scanner.compromise.usage_rules import Rules
from scanner.detection import redaction, sha256_digest
from scanner.records.compromise_models import Report
from scanner.records.database import Database
from scanner.records.models import Incident, Notification, NotificationSubject
from scanner.records.states import RuleMode
from scanner.records.usage_models import UsageBaseline, UsageBatch, UsageHour
from scanner.response.policy import Policy
from scanner.tokens import sql
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun

POLICY = Policy(operator_email="ops@vendor.example", mail_domain="vendor.example")
NOW = datetime(2030, 5, 1, 12, 30, tzinfo=UTC)
HOUR = NOW.replace(minute=0)
EVERYTHING_FLAGS = Rules(dormant_count=1, dormant_days=1, burst_count=1, burst_factor=2, burst_hours=1)


def reader(listed: NetworkList | None = None) -> RecordReader:
    return RecordReader(sha256_digest, listed or NetworkList(), NOW)


def line(**values: object) -> str:
    return json.dumps({"digest": "a" * 64, "time": NOW.isoformat(), **values})


def uses(digest: str, hour: datetime, number: int = 1, **values: str) -> list[UsageRecord]:
    return [UsageRecord(digest, hour, **values) for _ in range(number)]


def take(database: Database, records: list[UsageRecord], rules: Rules = Rules()) -> tuple[StoredUsage, Settled]:
    stored = store(database, summed(records), rules)
    return stored, settle(database, stored.report_ids, policy=POLICY, per_minute=60)


def hours_of(database: Database, digest: str) -> list[UsageHour]:
    with database.read() as session:
        statement = select(UsageHour).where(UsageHour.digest == digest).order_by(UsageHour.hour)
        return list(session.execute(statement).scalars())


def test_the_address_of_a_record_is_shortened_to_its_network() -> None:
    record = reader(NetworkList(["# list", "203.0.113.9/32 # one"])).read(
        line(ip="203.0.113.9", country="de", user_agent="curl/8\x07")
    )
    assert record == UsageRecord("a" * 64, HOUR, "203.0.113.0/24", "DE", "curl/8", "203.0.113.9/32")


def test_a_token_is_hashed_as_it_is_read(fresh_token: Callable[[], str]) -> None:
    token = fresh_token()
    text = json.dumps({"token": token, "time": NOW.timestamp(), "user_agent": f"script {token}"})
    record = reader().read(text)
    assert record.digest == sha256_digest(token.encode())
    assert token[8:30] not in str(record)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("nonsense", "not JSON"),
        ("[" * 5000, "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "names no token"),
        (line(token="x"), "names no token"),
        (line(digest="zz"), "neither a token"),
        (line(digest=3), "names no token"),
        (line(time=None), "no time"),
        (line(time=True), "no time"),
        (line(time="2030-05-01T12:00:00"), "without a zone"),
        (line(time="yesterday"), "time that is not valid"),
        (line(time=1e300), "time that is not valid"),
        (line(time=float("nan")), "time that is not valid"),
        (line(time="0001-01-01T00:00:00+14:00"), "time that is not valid"),
        (line(time=(NOW - timedelta(days=8)).isoformat()), "older"),
        (line(time=(NOW + timedelta(hours=1)).isoformat()), "future"),
        (line(ip="999.1.1.1"), "ip that is not an IP address"),
        (line(ip=["1.1.1.1"]), "not text"),
        (line(country="Germany"), "two letters"),
        (line(user_agent="x" * 10_000), "longer"),
    ],
)
def test_bad_records_are_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(BadRecord, match=reason):
        reader().read(text)


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)


def test_hostile_user_agents_are_withheld_together_and_others_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_STEPS_A_TEXT", 4 << 20)
    some = reader()
    agents = [some.read(line(user_agent=f"r8_{number} " * 3)).agent for number in range(4)]
    assert agents[0].startswith("r8_0 r8_0")
    assert "r8_3" not in agents[3]
    assert some.read(line(user_agent="curl/8")).agent == "curl/8"


fields = st.sampled_from(["digest", "token", "time", "ip", "country", "user_agent"])
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner))


@given(st.text(max_size=200) | values.map(json.dumps) | st.dictionaries(fields, scalars).map(lambda one: line(**one)))
def test_any_line_is_a_record_or_refused(text: str) -> None:
    with contextlib.suppress(BadRecord):
        reader().read(text)


@given(st.ip_addresses())
def test_the_stored_network_contains_the_address(address: networks.Address) -> None:
    parsed = parse_address(str(address))
    assert parsed is not None
    kept = prefix_of(parsed)
    assert kept.endswith(("/24", "/48"))
    assert NetworkList([kept]).match(parsed) == kept
    assert NetworkList([]).match(parsed) is None


def test_a_list_of_networks_names_its_wrong_line(tmp_path: Path) -> None:
    path = tmp_path / "listed.txt"
    path.write_text("203.0.113.0/24\nnonsense\n")
    with pytest.raises(BadNetworks, match="line 2"):
        networks.load(path)
    path.write_text("2001:db8::/32\n203.0.113.0/24\n")
    address = parse_address("2001:db8::1")
    assert address is not None
    assert networks.load(path).match(address) == "2001:db8::/32"
    with pytest.raises(BadNetworks, match="cannot be read"):
        networks.load(tmp_path / "none")


def test_records_add_up_over_batches(database: Database) -> None:
    take(database, uses("a" * 64, HOUR, 3, network="203.0.113.0/24", country="DE"))
    take(database, uses("a" * 64, HOUR, 2, network="198.51.100.0/24", country="DE") + uses("b" * 64, HOUR))
    row = hours_of(database, "a" * 64)[0]
    assert (row.count, row.networks, row.countries) == (5, ["198.51.100.0/24", "203.0.113.0/24"], ["DE"])
    assert hours_of(database, "b" * 64)[0].count == 1


def test_simultaneous_batches_of_usage_lose_no_record(database: Database) -> None:
    def feed(number: int) -> None:
        for step in range(10):
            network = f"10.{number}.{step}.0/24"
            store(database, summed(uses("a" * 64, HOUR, network=network) + uses("b" * 64, HOUR)), Rules())

    threads = [threading.Thread(target=feed, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    row = hours_of(database, "a" * 64)[0]
    assert (row.count, len(row.networks)) == (40, 40)


def test_an_interrupted_batch_that_is_sent_again_counts_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage, "TOKENS_PER_TRANSACTION", 2)
    names = [sha256_digest(bytes([number])) for number in range(7)]
    sums = summed([record for name in names for record in uses(name, HOUR, 3)])
    chunks = itertools.count()

    def breaking(*arguments: object) -> list[int]:
        if next(chunks) == 2:
            raise ConnectionError
        return storing(*arguments)  # type: ignore[arg-type]  # passed on unchanged

    storing = usage._store_within
    monkeypatch.setattr(usage, "_store_within", breaking)
    with pytest.raises(ConnectionError):
        store(database, sums, Rules(), batch="b" * 64)
    # Send the batch again without one token, whose uses may have become too old. The stored sums must not change.
    first = min(sums)
    again = {digest: hours for digest, hours in sums.items() if digest != first}
    assert store(database, again, Rules(), batch="b" * 64).repeated == 3
    assert store(database, sums, Rules(), batch="b" * 64).repeated == 7
    assert [hours_of(database, name)[0].count for name in names] == [3] * 7
    store(database, sums, Rules(), batch="c" * 64)
    store(database, sums, Rules())
    assert [hours_of(database, name)[0].count for name in names] == [9] * 7


def test_a_batch_that_arrives_twice_at_once_counts_once(database: Database) -> None:
    sums = summed(uses("a" * 64, HOUR) + uses("b" * 64, HOUR))
    threads = [
        threading.Thread(target=store, args=(database, sums, Rules()), kwargs={"batch": "c" * 64}) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [hours_of(database, digest)[0].count for digest in ("a" * 64, "b" * 64)] == [1, 1]


def test_the_row_of_a_batch_identifies_no_token(database: Database) -> None:
    store(database, summed(uses("a" * 64, HOUR)), Rules(), batch="c" * 64)
    with database.read() as session:
        assert session.execute(select(UsageBatch.cursor)).scalars().all() == ["aaaaaaaa"]


def test_an_hour_keeps_a_bounded_number_of_networks_and_counts_the_rest(database: Database) -> None:
    for start in (0, 100):
        take(database, [UsageRecord("a" * 64, HOUR, network=f"10.{start}.{n}.0/24") for n in range(100)])
    row = hours_of(database, "a" * 64)[0]
    assert (row.count, len(row.networks)) == (200, MAX_SET_SIZES["networks"])
    assert row.unkept["networks"] >= 200 - MAX_SET_SIZES["networks"]


def test_a_flag_notifies_the_operator_once_and_disables_nothing(database: Database, known: Callable[..., str]) -> None:
    token = known()
    digest = sha256_digest(token.encode())
    for hours in range(3):
        records = uses(digest, HOUR + timedelta(hours=hours), 5, listed="203.0.113.0/24")
        assert take(database, records)[1].counts == {"flagged": 1}
        assert take(database, records)[1].counts == {}, "the rules have already judged this hour"
    with database.read() as session:
        assert sql.look_up(session, [digest])[digest].disabled_at is None
        incident = session.execute(select(Incident)).scalar_one()
        assert (incident.action, incident.disabled_at) == ("flagged", None)
        assert session.execute(select(NotificationSubject.occasion)).scalars().all() == ["flagged"]
        assert session.execute(select(Notification.channel)).scalars().all() == ["operator"]
        report = session.execute(select(Report).order_by(Report.id).limit(1)).scalar_one()
        assert (report.sign, report.decision, report.reporter) == ("usage_listed", "flagged", "usage")
        assert report.evidence["listed"] == 5


def test_a_rule_may_disable_if_the_operator_says_so(database: Database, known: Callable[..., str]) -> None:
    token = known()
    digest = sha256_digest(token.encode())
    _, settled = take(database, uses(digest, HOUR, listed="203.0.113.0/24"), Rules(listed=RuleMode.DISABLE))
    assert settled.counts == {"disabled": 1}
    with database.read() as session:
        assert sql.look_up(session, [digest])[digest].disabled_at is not None
        assert session.execute(select(Incident.cause)).scalar_one() == "compromise_signs"


def test_a_token_is_judged_by_its_own_history(database: Database, known: Callable[..., str]) -> None:
    digest = sha256_digest(known().encode())
    for day in range(3):
        for hour in range(10):
            assert not take(database, uses(digest, HOUR + timedelta(days=day, hours=hour), 10))[0].report_ids
    at = HOUR + timedelta(days=2, hours=10)
    assert not take(database, uses(digest, at, 999))[0].report_ids
    stored, _ = take(database, uses(digest, at, 1))
    with database.read() as session:
        report = session.execute(select(Report).where(Report.id.in_(stored.report_ids))).scalar_one()
        assert report.sign == "usage_burst"
        assert report.evidence == {"hour": at.isoformat(), "count": 1000, "mean": 10.0, "peak": 10, "hours": 30}


def test_the_dormant_rule_works_after_old_hours_were_deleted(database: Database, known: Callable[..., str]) -> None:
    digest = sha256_digest(known().encode())
    take(database, uses(digest, HOUR, 3))
    with database.write() as session:
        session.execute(delete(UsageHour))
    _, settled = take(database, uses(digest, HOUR + timedelta(days=40), 100))
    assert settled.counts == {"flagged": 1}
    with database.read() as session:
        assert session.execute(select(Report.sign)).scalars().all() == ["usage_dormant"]


def test_late_records_count_without_changing_the_current_hour(database: Database) -> None:
    take(database, uses("a" * 64, HOUR, 3))
    take(database, uses("a" * 64, HOUR - timedelta(hours=2), 4))
    take(database, uses("a" * 64, HOUR - timedelta(hours=2), 4))
    assert [row.count for row in hours_of(database, "a" * 64)] == [8, 3]
    with database.read() as session:
        baseline = session.execute(select(UsageBaseline)).scalar_one()
        assert (baseline.hours, baseline.total, baseline.peak, baseline.hour_count) == (1, 8, 8, 3)
        assert baseline.previous_hour == HOUR - timedelta(hours=2)


def test_old_hours_are_deleted(database: Database) -> None:
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    old = now - timedelta(days=36)
    take(database, uses("a" * 64, old) + uses("a" * 64, now) + uses("b" * 64, now - timedelta(days=500)))
    purge_expired(database, keep_days=35)
    assert [row.hour for row in hours_of(database, "a" * 64)] == [now]
    with database.read() as session:
        assert session.execute(select(UsageBaseline.digest)).scalars().all() == ["a" * 64]


digests = st.sampled_from([sha256_digest(b"one"), sha256_digest(b"two")])
records_of_any_kind = st.lists(
    st.builds(
        UsageRecord,
        digest=digests,
        hour=st.integers(0, 2000).map(lambda hours: HOUR + timedelta(hours=hours)),
        network=st.integers(0, 100).map(lambda n: f"10.0.{n}.0/24"),
        country=st.sampled_from(["DE", "US", "FR", "BR", "IN", "JP", "AU", "ZA", "NG"]),
        agent=st.just(""),
        listed=st.sampled_from(["", "203.0.113.0/24"]),
    ),
    max_size=60,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(records_of_any_kind, max_size=4))
def test_no_sequence_of_records_makes_a_rule_in_mode_flag_disable(
    database: Database, batches: list[list[UsageRecord]]
) -> None:
    rows = [ImportedToken(sha256_digest(name), "", "ci", "ana", ("ana@example.com",)) for name in (b"one", b"two")]
    with database.write() as session:
        ImportRun.begin().write(session, rows)
        for model in (Report, UsageHour, UsageBaseline):
            session.execute(delete(model))
    for batch in batches:
        take(database, batch, EVERYTHING_FLAGS)
    with database.read() as session:
        assert all(token.disabled_at is None for token in sql.listed(session))
        assert not set(session.execute(select(Incident.action)).scalars()) - {"flagged"}
        total = session.execute(select(func.sum(UsageHour.count))).scalar_one() or 0
        assert total == sum(len(batch) for batch in batches), "every record is counted once"


def test_stored_usage_contains_no_token_and_no_ip_address(
    database: Database, known: Callable[..., str], dump: Callable[[], str], logged: io.StringIO
) -> None:
    token, other = known(), known()
    feed = reader(NetworkList(["203.0.113.0/24"]))
    text = json.dumps({"token": token, "time": NOW.isoformat(), "ip": "203.0.113.77", "user_agent": f"a {other}"})
    take(database, [feed.read(text)])
    everywhere = dump() + logged.getvalue()
    assert sha256_digest(token.encode()) in everywhere
    assert "203.0.113.0/24" in everywhere
    assert "203.0.113.77" not in everywhere
    for raw in (token, other):
        assert raw[8:30] not in everywhere

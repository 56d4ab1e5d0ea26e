"""Tests of the rules that detect suspicious use of a token."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from scanner.compromise.usage_rules import HourOfUsage, Rules, UsageHistory, judge
from scanner.records.states import RuleMode

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
STEADY = UsageHistory(hours=100, total=1000, peak=50, previous_hour=NOW - timedelta(hours=1))

hours = st.builds(
    HourOfUsage,
    hour=st.just(NOW),
    count=st.integers(1, 10**9),
    networks=st.integers(0, 64),
    countries=st.integers(0, 32),
    listed=st.integers(0, 10**6),
)
histories = st.builds(
    UsageHistory,
    hours=st.integers(0, 10**5),
    total=st.integers(0, 10**12),
    peak=st.integers(0, 10**9),
    previous_hour=st.none() | st.integers(1, 10**5).map(lambda hours: NOW - timedelta(hours=hours)),
)


def signs(hour: HourOfUsage, history: UsageHistory = STEADY, rules: Rules = Rules()) -> list[str]:
    return [hit.sign for hit in judge(hour, history, rules)]


def test_ordinary_use_triggers_no_rule() -> None:
    assert signs(HourOfUsage(NOW, 40, networks=3, countries=2)) == []
    assert signs(HourOfUsage(NOW, 5000), UsageHistory()) == []


def test_a_dormant_token_that_is_suddenly_busy_triggers_its_rule() -> None:
    asleep = UsageHistory(hours=10, total=1000, peak=200, previous_hour=NOW - timedelta(days=31))
    assert signs(HourOfUsage(NOW, 100), asleep) == ["usage_dormant"]
    assert signs(HourOfUsage(NOW, 99), asleep) == []
    awake = UsageHistory(hours=10, total=1000, peak=200, previous_hour=NOW - timedelta(days=29))
    assert signs(HourOfUsage(NOW, 100), awake) == []


def test_use_from_many_networks_or_countries_triggers_its_rule() -> None:
    assert signs(HourOfUsage(NOW, 40, networks=30)) == ["usage_spread"]
    assert signs(HourOfUsage(NOW, 40, countries=8)) == ["usage_spread"]
    assert signs(HourOfUsage(NOW, 40, networks=29, countries=7)) == []


def test_use_from_a_listed_network_triggers_its_rule() -> None:
    hits = judge(HourOfUsage(NOW, 40, listed=1, listed_networks=("203.0.113.0/24",)), STEADY, Rules())
    assert [hit.sign for hit in hits] == ["usage_listed"]
    assert "203.0.113.0/24" in hits[0].note


def test_a_burst_far_above_the_tokens_history_triggers_its_rule() -> None:
    assert signs(HourOfUsage(NOW, 1000)) == ["usage_burst"]
    assert signs(HourOfUsage(NOW, 999)) == []
    assert signs(HourOfUsage(NOW, 1000), UsageHistory(100, 1000, 1000, STEADY.previous_hour)) == [], (
        "the token was as busy before"
    )
    assert signs(HourOfUsage(NOW, 1000), UsageHistory(23, 230, 50, STEADY.previous_hour)) == [], (
        "the history is too short"
    )
    assert signs(HourOfUsage(NOW, 1000), UsageHistory(100, 5000, 100, STEADY.previous_hour)) == [], (
        "the hour is not far above the mean"
    )


@given(hours, histories)
def test_a_rule_that_is_off_never_triggers(hour: HourOfUsage, history: UsageHistory) -> None:
    assert (
        judge(hour, history, Rules(dormant=RuleMode.OFF, spread=RuleMode.OFF, listed=RuleMode.OFF, burst=RuleMode.OFF))
        == []
    )


@given(hours, histories)
def test_each_triggered_rule_keeps_its_own_mode(hour: HourOfUsage, history: UsageHistory) -> None:
    rules = Rules(dormant=RuleMode.FLAG, spread=RuleMode.DISABLE, listed=RuleMode.FLAG, burst=RuleMode.DISABLE)
    for hit in judge(hour, history, rules):
        assert hit.mode == {"usage_spread": "disable", "usage_burst": "disable"}.get(hit.sign, "flag")

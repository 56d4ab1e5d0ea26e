"""Tests that each worker tells the others about used quotas and failing hosts, by rows in the database."""

from __future__ import annotations

from dataclasses import replace

from scanner.github.gate import Circuit, RateBudget
from scanner.github.request_rate import RequestRate
from scanner.records.database import Database
from scanner.sources.shared_budget import DatabaseLedger


def test_budgets_and_circuits_are_stored_and_replaced(database: Database) -> None:
    one, other = DatabaseLedger(database), DatabaseLedger(database)
    first = RateBudget("token", "core", 5000, 12, 1_800_000_000.25, 1_800_000_100.5, "rate_limited")
    one.write_budget(first)
    one.write_budget(RateBudget("token", "git"))
    one.write_circuit(Circuit("github.example", 11, 1_800_000_000.0))
    budgets, circuits = other.read()
    assert sorted(budgets, key=lambda budget: budget.resource) == [first, RateBudget("token", "git")]
    assert circuits == [Circuit("github.example", 11, 1_800_000_000.0)]
    one.write_budget(RateBudget("token", "core", 5000, 11, 1_800_000_000.25))
    one.write_circuit(Circuit("github.example"))
    budgets, circuits = other.read()
    assert RateBudget("token", "core", 5000, 11, 1_800_000_000.25) in budgets
    assert circuits == [Circuit("github.example")]


def test_only_one_worker_takes_the_probe(database: Database) -> None:
    one, other = DatabaseLedger(database), DatabaseLedger(database)
    one.write_circuit(Circuit("github.example", 11, 1_800_000_000.0))
    assert not one.take_probe(Circuit("github.example", 11, 1_800_000_100.0), 1_799_999_999.0)
    assert one.take_probe(Circuit("github.example", 11, 1_800_000_061.0), 1_800_000_001.0)
    assert not other.take_probe(Circuit("github.example", 12, 1_800_000_061.0), 1_800_000_001.0)


def test_a_circuit_that_opened_while_the_database_was_unavailable_is_probed_too(database: Database) -> None:
    one, other = DatabaseLedger(database), DatabaseLedger(database)
    assert one.take_probe(Circuit("github.example", 11, 1_800_000_061.0), 1_800_000_001.0)
    assert not other.take_probe(Circuit("github.example", 10, 1_800_000_062.0), 1_800_000_002.0)
    assert other.take_probe(Circuit("github.example", 12, 1_800_000_122.0), 1_800_000_062.0)
    assert one.read()[1] == [Circuit("github.example", 12, 1_800_000_122.0)]


def test_the_rate_of_git_is_one_row_for_all_workers(database: Database) -> None:
    one, other = DatabaseLedger(database), DatabaseLedger(database)
    first = RequestRate("token", "git", 5.0)
    before, after, now = one.update_rate(first, lambda rate, now: replace(rate, per_second=2.5, refused_at=now))
    assert (before, after.per_second, after.refused_at) == (first, 2.5, now)
    seen, _, later = other.update_rate(first, lambda rate, _: replace(rate, asked=rate.asked + 3))
    assert (seen.per_second, later >= now) == (2.5, True)
    assert abs(seen.refused_at - now) < 0.001
    assert one.update_rate(first, lambda rate, _: rate)[0].asked == 3

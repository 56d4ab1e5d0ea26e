"""Keeps quotas, request rates and circuit breakers in the database, for all workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.orm import Session

from scanner.github.gate import Circuit, RateBudget
from scanner.github.rate_limit import MAX_WAIT_SECONDS
from scanner.github.request_rate import RequestRate
from scanner.records.columns import insert_into, insert_or_nothing
from scanner.records.database import Database
from scanner.records.models import Base, db_now, table_of
from scanner.records.source_models import BudgetState, CircuitState, ResourceRate


class DatabaseLedger:
    """Quotas, circuit breakers and request rates in the tables `budgets`, `circuits` and `resource_rates`.

    Each method raises the database's errors.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def read(self) -> tuple[list[RateBudget], list[Circuit]]:
        with self._database.read() as session:
            budgets = session.execute(select(BudgetState)).scalars().all()
            circuits = session.execute(select(CircuitState)).scalars().all()
        return [_budget(row) for row in budgets], [
            Circuit(row.host, row.failures, _seconds(row.open_until)) for row in circuits
        ]

    def write_budget(self, budget: RateBudget) -> None:
        values = {
            "limit": budget.limit,
            "remaining": budget.remaining,
            "resets_at": _time(budget.resets_at),
            "blocked_until": _time(budget.blocked_until),
            "reason": budget.reason,
        }
        key = {"credential": budget.credential[:160], "resource": budget.resource}
        with self._database.write() as session:
            _upsert(session, BudgetState, key, values)

    def write_circuit(self, circuit: Circuit) -> None:
        values = {"failures": circuit.failures, "open_until": _time(circuit.open_until)}
        with self._database.write() as session:
            _upsert(session, CircuitState, {"host": circuit.host}, values)

    def take_probe(self, circuit: Circuit, now: float) -> bool:
        values = {"failures": circuit.failures, "open_until": _time(circuit.open_until)}
        is_due = or_(
            CircuitState.open_until.is_(None),
            CircuitState.open_until <= _time(now),
            # No circuit breaker waits that long, so a stored later time comes from a wrong clock.
            CircuitState.open_until > _time(now + MAX_WAIT_SECONDS),
        )
        with self._database.write() as session:
            # Add a missing row: the database may have been unreachable when the circuit breaker opened.
            return _upsert(session, CircuitState, {"host": circuit.host}, values, is_due)

    def update_rate(
        self, first: RequestRate, change: Callable[[RequestRate, float], RequestRate]
    ) -> tuple[RequestRate, RequestRate, float]:
        first = replace(first, credential=first.credential[:160])
        key = (ResourceRate.credential == first.credential, ResourceRate.resource == first.resource)
        # Use the database's clock, because workers on several machines share this rate.
        locked = select(ResourceRate, db_now()).where(*key).with_for_update()
        with self._database.write() as session:
            found = session.execute(locked).first()
            if found is None:
                session.execute(insert_or_nothing(session, ResourceRate).values(**_rate_values(first)))
                found = session.execute(locked).one()
            row, at = found
            before, now = _rate(row), at.timestamp()
            after = change(before, now)
            for name, value in _rate_values(after).items():
                setattr(row, name, value)
        return before, after, now


def _rate_values(rate: RequestRate) -> dict[str, Any]:
    return {
        "credential": rate.credential,
        "resource": rate.resource,
        "per_second": rate.per_second,
        "next_slot_at": _time(rate.next_slot_at),
        "asked": rate.asked,
        "window_began_at": _time(rate.window_began_at),
        "measured_per_second": rate.measured_per_second,
        "refusals": rate.refusals,
        "refused_at": _time(rate.refused_at),
    }


def _rate(row: ResourceRate) -> RequestRate:
    return RequestRate(
        credential=row.credential,
        resource=row.resource,
        per_second=row.per_second,
        next_slot_at=_seconds(row.next_slot_at),
        asked=row.asked,
        window_began_at=_seconds(row.window_began_at),
        measured_per_second=row.measured_per_second,
        refusals=row.refusals,
        refused_at=_seconds(row.refused_at),
    )


def _upsert(
    session: Session,
    model: type[Base],
    key: Mapping[str, Any],
    values: Mapping[str, Any],
    condition: ColumnElement[bool] | None = None,
) -> bool:
    """Insert the row, or update it if `condition` holds. Return whether it was written."""
    table = table_of(model)
    statement = insert_into(session, table).values(**key, **values, updated_at=db_now())
    changed = statement.on_conflict_do_update(
        index_elements=list(key), set_={**values, "updated_at": db_now()}, where=condition
    )
    return session.execute(changed.returning(*(table.c[name] for name in key))).first() is not None


def _budget(row: BudgetState) -> RateBudget:
    return RateBudget(
        credential=row.credential,
        resource=row.resource,
        limit=row.limit,
        remaining=row.remaining,
        resets_at=_seconds(row.resets_at),
        blocked_until=_seconds(row.blocked_until),
        reason=row.reason,
    )


def _seconds(at: datetime | None) -> float:
    return at.timestamp() if at else 0.0


def _time(seconds: float) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds else None

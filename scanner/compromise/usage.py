"""Stores how often each token was used in each hour, and records a report when a usage rule matches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from scanner.compromise.reports import NewReport, Subject, idempotency_key, record_within
from scanner.compromise.usage_records import MAX_SET_SIZES, HourSum, UsageRecord
from scanner.compromise.usage_rules import HourOfUsage, RuleHit, Rules, UsageHistory, judge
from scanner.records.columns import insert_into, insert_or_nothing
from scanner.records.database import Database
from scanner.records.models import Base, db_now
from scanner.records.states import RequestedAction
from scanner.records.usage_models import UsageBaseline, UsageBatch, UsageHour

TOKENS_PER_TRANSACTION = 250
BASELINE_RETENTION_DAYS = 400
BATCH_RETENTION_DAYS = 90
PREFIX_LENGTH = 8
"""The progress of a batch is stored as this many hex digits of a digest, too few to identify a token."""

Sums = dict[str, dict[datetime, HourSum]]
"""The usage by token digest and hour."""


@dataclass(slots=True)
class StoredUsage:
    """The result of `store`.

    Attributes:
        hours: the number of hours that were stored, summed over all tokens.
        repeated: the number of tokens that an earlier call with the same batch key had stored.
        report_ids: the ids of new reports. The caller must pass them to `settling.settle`.
    """

    tokens: int = 0
    hours: int = 0
    repeated: int = 0
    report_ids: list[int] = field(default_factory=list)


def summed(records: Iterable[UsageRecord]) -> Sums:
    """Return the usage in the records, summed by token and hour."""
    sums: Sums = {}
    for record in records:
        hours = sums.setdefault(record.digest, {})
        hours.setdefault(record.hour, HourSum()).add(record)
    return sums


def store(database: Database, sums: Sums, rules: Rules, *, batch: str = "") -> StoredUsage:
    """Add the usage in `sums` to the stored usage, and record a report for each usage rule that matches.

    Args:
        batch: An idempotency key of 64 hex digits, or "". Tokens that an earlier call with this key stored are left
            out.
    """
    total = StoredUsage()
    waiting = sorted(sums)
    while waiting:
        with database.write() as session:
            cursor = _locked_cursor(session, batch) if batch else ""
            left = [digest for digest in waiting if digest[:PREFIX_LENGTH] > cursor]
            total.repeated += len(waiting) - len(left)
            chunk = {digest: sums[digest] for digest in left[: _end_of_chunk(left)]}
            report_ids = _store_within(session, chunk, rules) if chunk else []
            if batch and chunk:
                _set_cursor(session, batch, max(chunk)[:PREFIX_LENGTH])
        waiting = left[len(chunk) :]
        total.report_ids += report_ids
        total.tokens += len(chunk)
        total.hours += sum(len(hours) for hours in chunk.values())
    return total


def purge_expired(database: Database, *, keep_days: int) -> None:
    """Delete hours of usage older than `keep_days` days, and expired histories and batches."""
    with database.write() as session:
        session.execute(delete(UsageHour).where(UsageHour.hour < db_now(-keep_days * 86400)))
        session.execute(delete(UsageBaseline).where(UsageBaseline.hour < db_now(-BASELINE_RETENTION_DAYS * 86400)))
        session.execute(delete(UsageBatch).where(UsageBatch.begun_at < db_now(-BATCH_RETENTION_DAYS * 86400)))


def _locked_cursor(session: Session, batch: str) -> str:
    """Return the digest prefix up to which this batch was stored, and lock the batch's row."""
    session.execute(insert_or_nothing(session, UsageBatch).values(key=batch, cursor="", begun_at=db_now()))
    statement = select(UsageBatch.cursor).where(UsageBatch.key == batch).with_for_update()
    return session.execute(statement).scalar_one()


def _set_cursor(session: Session, batch: str, prefix: str) -> None:
    session.execute(
        update(UsageBatch)
        .where(UsageBatch.key == batch)
        .values(cursor=prefix)
        .execution_options(synchronize_session=False)
    )


def _end_of_chunk(digests: Sequence[str]) -> int:
    """Return how many digests the next transaction stores."""
    end = min(TOKENS_PER_TRANSACTION, len(digests))
    # An interrupted batch continues after a digest prefix, so store all digests with the same prefix in one
    # transaction.
    while 0 < end < len(digests) and digests[end][:PREFIX_LENGTH] == digests[end - 1][:PREFIX_LENGTH]:
        end += 1
    return end


def _store_within(session: Session, sums: Mapping[str, Mapping[datetime, HourSum]], rules: Rules) -> list[int]:
    baselines = _locked_baselines(session, sorted(sums))
    known = _known_hours(session, sums)
    reports: list[NewReport] = []
    hours: list[dict[str, Any]] = []
    for digest in sorted(sums):
        baseline = baselines[digest]
        for hour in sorted(sums[digest]):
            whole = _merged(known.get((digest, hour)), sums[digest][hour])
            _advance(baseline, hour, whole.count, sums[digest][hour].count, is_new=(digest, hour) not in known)
            hours.append(_hour_row(digest, hour, whole))
            reports += _reports(digest, hour, judge(_hour_of_usage(hour, whole), _history(baseline, hour), rules))
    _upsert(session, UsageHour, hours, ("digest", "hour"))
    _upsert(session, UsageBaseline, [_baseline_row(baselines[digest]) for digest in sorted(sums)], ("digest",))
    return record_within(session, reports)


def _locked_baselines(session: Session, digests: Sequence[str]) -> dict[str, UsageBaseline]:
    """Lock and return the stored usage history of each digest. Create missing histories."""
    rows = [{"digest": digest, "hour_count": 0, "hours": 0, "total": 0, "peak": 0} for digest in digests]
    session.connection().execute(insert_or_nothing(session, UsageBaseline), rows)
    statement = (
        select(UsageBaseline).where(UsageBaseline.digest.in_(digests)).order_by(UsageBaseline.digest).with_for_update()
    )
    found = {row.digest: row for row in session.execute(statement).scalars()}
    session.expunge_all()
    return found


def _known_hours(
    session: Session, sums: Mapping[str, Mapping[datetime, HourSum]]
) -> dict[tuple[str, datetime], UsageHour]:
    hours = {hour for sums_of_token in sums.values() for hour in sums_of_token}
    statement = select(UsageHour).where(UsageHour.digest.in_(sorted(sums)), UsageHour.hour.in_(sorted(hours)))
    found = {(row.digest, row.hour): row for row in session.execute(statement).scalars()}
    session.expunge_all()
    return found


def _merged(row: UsageHour | None, added: HourSum) -> HourSum:
    whole = HourSum(added.count, added.listed, {name: set() for name in MAX_SET_SIZES}, added.unkept.copy())
    if row is not None:
        whole.count += row.count
        whole.listed += row.listed
        whole.unkept.update({name: int(number) for name, number in row.unkept.items()})
        for name in MAX_SET_SIZES:
            whole.keep(name, getattr(row, name))
    for name in MAX_SET_SIZES:
        whole.keep(name, sorted(added.sets[name]))
    return whole


def _advance(baseline: UsageBaseline, hour: datetime, count: int, added: int, *, is_new: bool) -> None:
    """Update the token's usage history with an hour of usage."""
    if baseline.hour is None or hour > baseline.hour:
        if baseline.hour is not None:
            baseline.hours += 1
            baseline.total += baseline.hour_count
            baseline.peak = max(baseline.peak, baseline.hour_count)
            baseline.previous_hour = baseline.hour
        baseline.hour, baseline.hour_count = hour, count
    elif hour == baseline.hour:
        baseline.hour_count = count
    else:
        baseline.hours += int(is_new)
        baseline.total += added
        baseline.peak = max(baseline.peak, count)
        if baseline.previous_hour is None or hour > baseline.previous_hour:
            baseline.previous_hour = hour


def _history(baseline: UsageBaseline, hour: datetime) -> UsageHistory:
    """Return the token's usage before this hour, or an empty history if later usage is already stored."""
    if hour != baseline.hour:
        return UsageHistory()
    return UsageHistory(baseline.hours, baseline.total, baseline.peak, baseline.previous_hour)


def _hour_of_usage(hour: datetime, whole: HourSum) -> HourOfUsage:
    return HourOfUsage(
        hour=hour,
        count=whole.count,
        networks=len(whole.sets["networks"]),
        countries=len(whole.sets["countries"]),
        listed=whole.listed,
        listed_networks=tuple(sorted(whole.sets["listed_networks"])),
    )


def _reports(digest: str, hour: datetime, hits: Iterable[RuleHit]) -> Iterator[NewReport]:
    """Yield one report for each usage rule that matched."""
    for hit in hits:
        yield NewReport(
            subject=Subject(digest),
            sign=hit.sign,
            note=hit.note,
            reporter="usage",
            key=idempotency_key(f"{hour.isoformat()} {hit.mode}", ""),
            wanted=RequestedAction(hit.mode),
            evidence={"hour": hour.isoformat(), **hit.evidence},
        )


def _hour_row(digest: str, hour: datetime, whole: HourSum) -> dict[str, Any]:
    lists = {name: sorted(whole.sets[name]) for name in MAX_SET_SIZES}
    row = {"digest": digest, "hour": hour, "count": whole.count, "listed": whole.listed, "unkept": dict(whole.unkept)}
    return {**row, **lists}


def _baseline_row(baseline: UsageBaseline) -> dict[str, Any]:
    return {column.name: getattr(baseline, column.name) for column in UsageBaseline.__table__.columns}


def _upsert(session: Session, model: type[Base], rows: Sequence[Mapping[str, Any]], key: tuple[str, ...]) -> None:
    insert = insert_into(session, model.__table__)
    others = {name: insert.excluded[name] for name in rows[0] if name not in key}
    statement = insert.on_conflict_do_update(index_elements=list(key), set_=others)
    session.connection().execute(statement, list(rows))

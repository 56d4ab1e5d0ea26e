"""Usage by token and hour: sums are merged into rows, rules judge them, hits become reports in the same transaction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from scanner.compromise.reports import NewReport, Subject, idempotency_key, record_within
from scanner.compromise.usage_records import MAX_SET_SIZES, HourSum, UsageRecord
from scanner.compromise.usage_rules import History, Hit, Hour, Rules, judge
from scanner.records.columns import insert_or_nothing
from scanner.records.compromise_models import UsageBaseline, UsageHour
from scanner.records.database import Database
from scanner.records.models import Base, db_now
from scanner.records.source_models import ReadObject
from scanner.records.states import Wanted

TOKENS_A_TRANSACTION = 250
BASELINES_KEPT_DAYS = 400
BATCH_KIND = "usage_batch"
"""Of the rows in `read_objects` that say how far a batch was stored; they end with the others there."""
PREFIX = 8
"""Digits of a digest that such a row holds: enough to go on from, too few to tell whose token it is."""

Sums = dict[str, dict[datetime, HourSum]]
"""By digest and hour."""


@dataclass(slots=True)
class Stored:
    """What one call did: tokens and hours touched, and the ids of new reports, which are still to be settled.

    `repeated`: tokens that an earlier call under the same batch key had stored, so that this one did not.
    """

    tokens: int = 0
    hours: int = 0
    repeated: int = 0
    report_ids: list[int] = field(default_factory=list)


def summed(records: Iterable[UsageRecord]) -> Sums:
    """The records, added up."""
    sums: Sums = {}
    for record in records:
        hours = sums.setdefault(record.digest, {})
        hours.setdefault(record.hour, HourSum()).add(record)
    return sums


def store(database: Database, sums: Sums, rules: Rules, *, batch: str = "") -> Stored:
    """Merge the sums into what is known, a bounded number of tokens a transaction, and report what the rules say.

    `batch`, 64 hex digits: what the same batch has stored before, in transactions that came through, is left out.
    """
    total = Stored()
    waiting = sorted(sums)
    while waiting:
        with database.write() as session:
            done = _done_until(session, batch) if batch else ""
            left = [digest for digest in waiting if digest[:PREFIX] > done]
            total.repeated += len(waiting) - len(left)
            chunk = {digest: sums[digest] for digest in left[: _end_of_chunk(left)]}
            report_ids = _store_within(session, chunk, rules) if chunk else []
            if batch and chunk:
                _set_done(session, batch, max(chunk)[:PREFIX])
        waiting = left[len(chunk) :]
        total.report_ids += report_ids
        total.tokens += len(chunk)
        total.hours += sum(len(hours) for hours in chunk.values())
    return total


def purge_expired(database: Database, *, keep_days: int) -> None:
    """Delete hours older than `keep_days`, and the history of tokens that were not used for 400 days."""
    with database.write() as session:
        session.execute(delete(UsageHour).where(UsageHour.hour < db_now(-keep_days * 86400)))
        session.execute(delete(UsageBaseline).where(UsageBaseline.hour < db_now(-BASELINES_KEPT_DAYS * 86400)))


def _done_until(session: Session, batch: str) -> str:
    """The beginning of the last digest that this batch has stored; its row is ours until the transaction ends.

    Digests are stored in their order, so it says what is done also where a repeat leaves out what is too old by now.
    """
    start = insert_or_nothing(session, ReadObject).values(kind=BATCH_KIND, key=batch, hits=[""], read_at=db_now())
    session.execute(start)
    own = select(ReadObject.hits).where(ReadObject.kind == BATCH_KIND, ReadObject.key == batch).with_for_update()
    return str((session.execute(own).scalar_one() or [""])[0])


def _set_done(session: Session, batch: str, prefix: str) -> None:
    session.execute(
        update(ReadObject)
        .where(ReadObject.kind == BATCH_KIND, ReadObject.key == batch)
        .values(hits=[prefix])
        .execution_options(synchronize_session=False)
    )


def _end_of_chunk(digests: Sequence[str]) -> int:
    """Where a chunk ends, which tears no digests of one beginning apart."""
    end = min(TOKENS_A_TRANSACTION, len(digests))
    while 0 < end < len(digests) and digests[end][:PREFIX] == digests[end - 1][:PREFIX]:
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
            reports += _reports(digest, hour, judge(_judged(hour, whole), _history(baseline, hour), rules))
    _upsert(session, UsageHour, hours, ("digest", "hour"))
    _upsert(session, UsageBaseline, [_baseline_row(baselines[digest]) for digest in sorted(sums)], ("digest",))
    return record_within(session, reports)


def _locked_baselines(session: Session, digests: Sequence[str]) -> dict[str, UsageBaseline]:
    """A row for every token, ours until the transaction ends: two feeds that tell of one token add up."""
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
    hours = {hour for own in sums.values() for hour in own}
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
    """Take the hour into the history: a newer one ends the one before it, a late one is added to the past."""
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


def _history(baseline: UsageBaseline, hour: datetime) -> History:
    """What is known of the hours before this one. Of a late hour the history contains it: nothing to compare with."""
    if hour != baseline.hour:
        return History()
    return History(baseline.hours, baseline.total, baseline.peak, baseline.previous_hour)


def _judged(hour: datetime, whole: HourSum) -> Hour:
    return Hour(
        hour=hour,
        count=whole.count,
        networks=len(whole.sets["networks"]),
        countries=len(whole.sets["countries"]),
        listed=whole.listed,
        listed_networks=tuple(sorted(whole.sets["listed_networks"])),
    )


def _reports(digest: str, hour: datetime, hits: Iterable[Hit]) -> Iterator[NewReport]:
    """One report for each token, rule, mode and hour."""
    for hit in hits:
        yield NewReport(
            subject=Subject(digest),
            sign=hit.sign,
            note=hit.note,
            reporter="usage",
            key=idempotency_key(f"{hour.isoformat()} {hit.mode}", ""),
            wanted=Wanted(hit.mode),
            evidence={"hour": hour.isoformat(), **hit.evidence},
        )


def _hour_row(digest: str, hour: datetime, whole: HourSum) -> dict[str, Any]:
    lists = {name: sorted(whole.sets[name]) for name in MAX_SET_SIZES}
    row = {"digest": digest, "hour": hour, "count": whole.count, "listed": whole.listed, "unkept": dict(whole.unkept)}
    return {**row, **lists}


def _baseline_row(baseline: UsageBaseline) -> dict[str, Any]:
    return {column.name: getattr(baseline, column.name) for column in UsageBaseline.__table__.columns}


def _upsert(session: Session, model: type[Base], rows: Sequence[Mapping[str, Any]], key: tuple[str, ...]) -> None:
    dialect = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    insert = dialect.insert(model.__table__)
    others = {name: insert.excluded[name] for name in rows[0] if name not in key}
    statement = insert.on_conflict_do_update(index_elements=list(key), set_=others)
    session.connection().execute(statement, list(rows))

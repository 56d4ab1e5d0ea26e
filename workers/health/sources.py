"""Determines the state of sources, of GitHub's quotas and of failing hosts.

A source is something that r8scan polls, such as a list on GitHub.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.github.circuits import CANNOT_BE_REACHED, FAILURES_TO_OPEN
from scanner.records import tallies, time_limits
from scanner.records.models import TableRow, db_now, table_of
from scanner.records.source_models import BudgetState, CircuitState, Gap, RecallMeasurement, SourceState
from scanner.settings import Settings
from scanner.sources.canaries.ways import SOURCE as CANARY
from workers.health.machine import MAX_CLOCK_DIFFERENCE_SECONDS
from workers.health.problems import Kind, Problem, counted, span
from workers.health.rows import BudgetRow, CircuitRow, SourceRow

HOURS = 24
MAX_BEHIND_SECONDS = 1800
"""If a source is more than this far behind, its pushes are read too late, so this is reported as a problem."""
COMPLETE_SOURCES = ("repository_search", "new_repositories")
COMPLETE_SHARE, COMPLETE_WITHIN_SECONDS, MIN_MARKS = 0.8, 3600, 50
"""Of the pushes that other sources saw, each of `COMPLETE_SOURCES` should see this share within this time.

If other sources saw fewer than MIN_MARKS pushes, the share is not tested.
"""
RETRIED = "it is tried again with growing delays"
SILENT_AFTER = timedelta(minutes=10)
FIRST_POLL_WITHIN = timedelta(seconds=60)
"""If no source was polled within this time after the service's start, this is reported as a problem."""
HOST_FAILED_SECONDS = 600
"""A failing host is no longer a problem if no request was sent to it for this long.

The host's address may have been corrected in the settings.
"""
SCANNED = ("pushes", "files", "repository", "gist", "jobs", "lines")


@dataclass(frozen=True, slots=True)
class _Missed:
    """The number of times a source missed events, and the estimated number of these events, by reason."""

    gaps: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourcesState:
    """The state of sources, quotas and failing hosts, and the problems with them."""

    sources: list[SourceRow]
    budgets: list[BudgetRow]
    circuits: list[CircuitRow]
    problems: list[Problem]
    is_github_away: bool


def read(session: Session, settings: Settings, now: datetime, began: datetime | None = None) -> SourcesState:
    """Return the state of sources (the things that r8scan polls), of quotas and of failing hosts.

    Args:
        now: The database's time.
        began: Since when sources are polled. None if no process polls them now.
    """
    budgets, circuits = _budgets(session, now), _circuits(session)
    rows: list[SourceRow] = []
    problems: list[Problem] = []
    states = {state.source: state for state in session.execute(select(table_of(SourceState)))}
    counts = tallies.since(session, HOURS)
    counts.pop(CANARY, None)
    missed = _missed(session)
    measured = {one.source: one for one in session.execute(select(table_of(RecallMeasurement)))}
    for name in sorted({*settings.sources, *states, *counts}):
        state, tallied = states.get(name), counts.get(name, {})
        row = _row(name, settings, state, tallied, missed.get(name, _Missed()), now)
        recall = measured.get(name)
        rows.append(row if recall is None else row._replace(recall=recall.shares, total=recall.total))
        if state is None and name in settings.polled_sources and began is not None and now - began > SILENT_AFTER:
            problems.append(_silent(name, began))
        if state is not None and name in settings.sources:
            problems += [*_problems(state, now, began), *_behind(row), *_clock(state)]
            problems += [] if recall is None else _incomplete(name, recall.shares)
        problems += [
            Problem(Kind.DROPPED, f"{name}: {number:,} {what} were dropped in 24 hours", "add workers", subject=name)
            for what, number in _dropped(tallied).items()
        ]
    problems += _none_polled([states.get(name) for name in settings.polled_sources], now, began)
    problems += [*_budget_problems(budgets), *_circuit_problems(circuits)]
    return SourcesState(rows, budgets, circuits, problems, _is_github_away(list(states.values()), circuits, settings))


def _row(
    name: str,
    settings: Settings,
    state: TableRow | None,
    counts: Mapping[str, int],
    missed: _Missed,
    now: datetime,
) -> SourceRow:
    return SourceRow(
        source=name,
        is_on=name in settings.polled_sources,
        last_success_at=state.last_success_at if state else None,
        next_poll_at=state.next_poll_at if state else None,
        newest_seen_at=state.newest_seen_at if state else None,
        lag_seconds=_seconds(now, state.newest_seen_at) if state else None,
        gaps_24h=missed.gaps,
        missed_by_estimate_24h=sum(missed.reasons.values()),
        missed_reasons_24h=missed.reasons,
        since_start=dict(state.counts) if state else {},
        scanned_24h={key: value for key, value in counts.items() if key in SCANNED},
        dropped_24h=_beginning(counts, "dropped_"),
        skipped_24h=_beginning(counts, "skipped_"),
        failed_24h={**_beginning(counts, "error_"), **_beginning(counts, "given_up")},
        unread_24h=_beginning(counts, "unread_"),
        cursor=_progress_of(state),
        error=state.error if state else None,
    )


def _none_polled(states: Sequence[TableRow | None], now: datetime, began: datetime | None) -> Iterator[Problem]:
    """Yield a problem if no poll of any source has ended since the service's start."""
    if began is None or now - began <= FIRST_POLL_WITHIN or not states:
        return
    if not any(state is not None and (state.error or state.last_success_at) for state in states):
        sentence = f"no poll of a source has ended in the {span(now - began)} since the start"
        todo = "run r8scan doctor; look at the poller's log"
        yield Problem(Kind.SOURCE_SILENT, sentence, todo, began)


def _is_github_away(states: Sequence[TableRow], circuits: Sequence[CircuitRow], settings: Settings) -> bool:
    """Return whether GitHub's API did not respond to a poll that began after the latest successful poll.

    Sources without a failed poll do not count: their latest poll may have been before GitHub stopped responding.
    """
    host = urlsplit(settings.github_api_url).hostname
    if any(circuit.host == host for circuit in circuits):
        return True
    polled = [state for state in states if state.source in settings.polled_sources]
    last = max((state.last_success_at for state in polled if state.last_success_at), default=None)
    failed = [state for state in polled if state.error and state.error.startswith(f"{host} {CANNOT_BE_REACHED}")]
    return any(last is None or (state.claimed_at is not None and state.claimed_at > last) for state in failed)


def _problems(state: TableRow, now: datetime, began: datetime | None) -> Iterator[Problem]:
    name, last = state.source, state.last_success_at
    # `stalled.py` reports polls that were stopped at their time limit.
    if state.error and not state.error.startswith(time_limits.TIME_LIMIT):
        sentence, separator, advice = state.error.partition(": ")
        if separator:  # the text after the colon says what to do
            yield Problem(Kind.SOURCE_ERROR, f"{name}: {sentence}", advice, last, name)
        else:
            yield Problem(Kind.SOURCE_ERROR, f"{name}: {sentence}", RETRIED, last, name)
        return
    # Count from the service's start at the earliest: the sources were not polled before, and a first poll may take
    # minutes.
    since = max((at for at in (last, began) if at is not None), default=None)
    is_silent = (since is None or now - since > SILENT_AFTER) and state.next_poll_at <= now
    if is_silent:
        yield _silent(name, last)
    elif state.cursor.get("is_stale"):
        age = _seconds(now, state.newest_seen_at)
        sentence = f"{name}: GitHub serves an old list, with nothing newer than {'ever' if age is None else span(age)}"
        yield Problem(Kind.SOURCE_STALE, sentence, "wait; the cause is at GitHub", state.newest_seen_at, name)


def _silent(name: str, since: datetime | None) -> Problem:
    sentence = f"{name}: not polled for more than {SILENT_AFTER.seconds // 60} minutes"
    return Problem(Kind.SOURCE_SILENT, sentence, "restart the poller and beat", since, name)


def _behind(row: SourceRow) -> Iterator[Problem]:
    """Yield a problem if many pushes of a source are still to be read."""
    behind = row.cursor.get("seconds_behind", 0)
    if behind <= MAX_BEHIND_SECONDS:
        return
    is_short = any(row.since_start.get(name) for name in ("windows_left_to_rest", "rest_quota_spent"))
    why = "the credential's quota is not enough for all pushes" if is_short else "it catches up after a pause"
    sentence = f"{row.source}: {span(behind)} of pushes are not read yet, because {why}"
    todo = (
        "set R8SCAN_GITHUB_TOKEN to a token that only r8scan uses; after a day, unread pushes are given up and counted"
        if is_short
        else "nothing; the newest pushes are read first"
    )
    yield Problem(Kind.SOURCE_BEHIND, sentence, todo, subject=row.source)


def _incomplete(name: str, shares: Mapping[str, Sequence[float]]) -> Iterator[Problem]:
    """Yield a problem if the source missed many pushes. `shares` has the format of `SourceRow.recall`."""
    marks, seen, low, high = shares.get(str(COMPLETE_WITHIN_SECONDS), (0, 0, 0.0, 1.0))
    if name not in COMPLETE_SOURCES or marks < MIN_MARKS or high >= COMPLETE_SHARE:
        return
    sentence = (
        f"{name}: GitHub showed {100 * low:.0f} to {100 * high:.0f} % of the pushes that other sources showed, within"
        f" {span(COMPLETE_WITHIN_SECONDS)} ({seen:,.0f} of {marks:,.0f} sampled ones of a day)"
    )
    todo = "see whether githubstatus.com reports trouble with search; the rest is missed unless another source shows it"
    yield Problem(Kind.SOURCE_INCOMPLETE, sentence, todo, subject=name)


def _clock(state: TableRow) -> Iterator[Problem]:
    """Yield a problem if the polling machine's clock differed from GitHub's clock."""
    seconds = float(state.cursor.get("clock_seconds") or 0.0)
    if abs(seconds) > MAX_CLOCK_DIFFERENCE_SECONDS:
        word = "behind" if seconds > 0 else "ahead of"
        sentence = f"the poller's clock is {span(abs(seconds))} {word} GitHub's"
        yield Problem(Kind.CLOCK_OFF, sentence, "synchronise it, with NTP", subject="github")


def _dropped(counts: Mapping[str, int]) -> dict[str, int]:
    others = {"files": "dropped_backlog_files", "repositories": "dropped_backlog_repository"}
    found = {what: counts.get(key, 0) for what, key in others.items()}
    # Do not count dropped sightings (unconfirmed tokens), because they are not pushes.
    pushes = sum(_beginning(counts, "dropped_").values()) - sum(found.values()) - counts.get("dropped_sightings", 0)
    return {what: number for what, number in {"pushes": pushes, **found}.items() if number}


def _progress_of(state: TableRow | None) -> dict[str, Any]:
    """Return the fields that show the progress of a source. Most sources have none."""
    if state is None:
        return {}
    cursor = state.cursor
    if "last_round" in cursor:
        current = cursor.get("round") or {}
        return {
            "last_round": cursor["last_round"],
            "waiting_shards": len(current.get("waiting", ())),
            "requests": current.get("requests"),
        }
    if "settle" in cursor:
        shown = {key: cursor.get(key) for key in ("settle", "lag", "width", "rate", "late", "compared")}
        return {**shown, "seconds_behind": sum(end - start + 1 for start, end in cursor.get("behind", ()))}
    if cursor.get("interval"):
        return {"poll_interval": cursor["interval"]}
    if "owed" in cursor and "newest" in cursor:
        return {"newest": cursor["newest"], "ids_behind": sum(end - start for start, end in cursor["owed"])}
    return {}


def _missed(session: Session) -> dict[str, _Missed]:
    gaps = table_of(Gap)
    statement = (
        select(gaps.c.source, gaps.c.reason, func.count(), func.sum(gaps.c.estimated))
        .where(gaps.c.found_at > db_now(-3600 * HOURS), gaps.c.filled_at.is_(None))
        .group_by(gaps.c.source, gaps.c.reason)
        .order_by(gaps.c.source, gaps.c.reason)
    )
    found: dict[str, _Missed] = {}
    for source, reason, count, estimated in session.execute(statement):
        before = found.get(source, _Missed())
        found[source] = _Missed(before.gaps + count, {**before.reasons, reason: int(estimated or 0)})
    return found


def _budgets(session: Session, now: datetime) -> list[BudgetRow]:
    found, table = [], table_of(BudgetState)
    for row in session.execute(select(table).order_by(table.c.credential, table.c.resource)):
        blocked = row.blocked_until if row.blocked_until and row.blocked_until > now else None
        found.append(
            BudgetRow(
                credential=row.credential,
                resource=row.resource,
                limit=row.limit,
                # When the quota's time window has ended, the whole quota is available again.
                remaining=row.remaining if row.resets_at and row.resets_at > now else row.limit,
                resets_at=row.resets_at,
                blocked_until=blocked,
                reason=row.reason if blocked else "",
            )
        )
    return found


def _budget_problems(budgets: Sequence[BudgetRow]) -> Iterator[Problem]:
    for row in budgets:
        if row.resource == "credential" and row.blocked_until:
            sentence = f"GitHub rejects the credential {row.credential}"
            yield Problem(Kind.CREDENTIAL_REJECTED, sentence, "replace it", subject=row.credential)


def _circuits(session: Session) -> list[CircuitRow]:
    table = table_of(CircuitState)
    is_recent = table.c.updated_at > db_now(-HOST_FAILED_SECONDS)
    open_circuits = select(table).where(table.c.failures >= FAILURES_TO_OPEN, is_recent)
    return [CircuitRow(row.host, row.failures, row.open_until) for row in session.execute(open_circuits)]


def _circuit_problems(circuits: Sequence[CircuitRow]) -> Iterator[Problem]:
    for row in circuits:
        sentence = f"{row.host} does not answer ({counted(row.failures, 'failure')} in a row)"
        todo = "check the network; r8scan tries the host once a minute"
        yield Problem(Kind.HOST_FAILS, sentence, todo, subject=row.host)


def _beginning(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {key: value for key, value in counts.items() if key.startswith(prefix)}


def _seconds(now: datetime, at: datetime | None) -> float | None:
    return None if at is None else round((now - at).total_seconds(), 1)

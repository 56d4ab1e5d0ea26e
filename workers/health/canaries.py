"""Determines the state of canaries (test tokens that r8scan plants on GitHub) for the status of the service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.records import canaries
from scanner.records.canary_models import Canary
from scanner.records.models import TableRow, db_now, table_of
from scanner.records.states import CanaryState, CanaryWay, EnforceMode
from scanner.settings import Settings
from scanner.sources.canaries import ways
from workers.health.problems import Kind, Problem, span
from workers.health.rows import CanaryRow

DAY_SECONDS = 24 * 3600
MISSED_INTERVALS = 3
"""If no canary was planted for this many planting intervals, this is reported as a problem."""

_canaries = table_of(Canary)


@dataclass(frozen=True, slots=True)
class CanariesState:
    """The state of canaries (planted test tokens), and the problems with them."""

    canaries: list[CanaryRow]
    problems: list[Problem]


def read(session: Session, settings: Settings, now: datetime, began: datetime) -> CanariesState:
    """Return the state of canaries (planted test tokens).

    Args:
        now: The database's time.
        began: When the service was started.
    """
    rows: list[CanaryRow] = []
    problems: list[Problem] = []
    for way in CanaryWay:
        off = ways.reason_off(settings, way)
        since = canaries.since_success(session, way)
        rows.append(_row(session, way, off, since, now))
        if not off:
            problems += _problems(settings, way, since, now) if since else _never_planted(settings, way, now, began)
    return CanariesState(rows, problems)


def outcome(enforce: str) -> str:
    """Return what should happen to a canary in this mode: "disabled" or "found"."""
    return "disabled" if enforce == EnforceMode.DISABLE else "found"


def _row(session: Session, way: CanaryWay, off: str, since: Sequence[TableRow], now: datetime) -> CanaryRow:
    recent = (_canaries.c.way == way, _canaries.c.planted_at > db_now(-DAY_SECONDS))
    counted: Counter[bool | None] = Counter()
    statement = select(_canaries.c.state, _canaries.c.decision, func.count()).where(*recent)
    for state, decision, number in session.execute(statement.group_by(_canaries.c.state, _canaries.c.decision)):
        counted[None if state == CanaryState.PLANTED else decision in canaries.SUCCESSES] += number
    last = next((one for one in since if one.decision in canaries.SUCCESSES), None)
    waits = next((one for one in since if one.state == CanaryState.PLANTED), None)
    return CanaryRow(
        way=way.value,
        off=off,
        planted_at=since[-1].planted_at if since else None,
        ended_at=last.ended_at if last else None,
        seconds=_seconds(last) if last else None,
        source=last.source if last else None,
        waiting_seconds=round((now - waits.planted_at).total_seconds(), 1) if waits else None,
        planted_24h=counted.total(),
        disabled_24h=counted[True],
        failed_24h=counted[False],
        error=since[-1].error if since else None,
    )


def _problems(settings: Settings, way: CanaryWay, since: Sequence[TableRow], now: datetime) -> list[Problem]:
    """Return a list with the most urgent problem of one way of planting canaries, or an empty list.

    Args:
        since: The newest successful canary and all later ones, oldest first.
    """
    patience, words = ways.PATIENCE[way], ways.WORDS[way]
    todo = f"see r8scan canary list; r8scan status shows what the canary waits for ({_section(way)})"
    waits = next((one for one in since if one.state == CanaryState.PLANTED), None)
    age = (now - waits.planted_at).total_seconds() if waits else 0.0
    if waits is not None and age > patience.late:
        kind = Kind.CANARY_LOST if age > patience.lost else Kind.CANARY_LATE
        what = "is lost" if kind == Kind.CANARY_LOST else "is late"
        sentence = f"a canary in {words} {what}: planted {span(age)} ago and not {outcome(settings.enforce)}"
        return [Problem(kind, sentence + _because(waits), todo, waits.planted_at, way.value)]
    newest = since[-1]
    if newest.state == CanaryState.FAILED:
        sentence = f"a canary could not be planted in {words}{_because(newest)}"
        return [Problem(Kind.CANARY_NOT_PLANTED, sentence, "correct what the error says", newest.planted_at, way.value)]
    if newest.state == CanaryState.ENDED and newest.decision not in canaries.SUCCESSES:
        sentence = f"a canary in {words} ended as {newest.decision} instead of {outcome(settings.enforce)}"
        return [Problem(Kind.CANARY_LOST, sentence, "run r8scan store check", newest.planted_at, way.value)]
    silent = (now - newest.planted_at).total_seconds()
    if newest.state == CanaryState.ENDED and silent > MISSED_INTERVALS * ways.interval_seconds(settings, way):
        sentence = f"no canary was planted in {words} for {span(silent)}"
        return [Problem(Kind.CANARY_NOT_PLANTED, sentence, "restart the responder and beat", None, way.value)]
    took = _seconds(newest)
    if took is not None and took > patience.late:
        sentence = (
            f"the newest canary in {words} was {outcome(settings.enforce)} after {span(took)},"
            f" expected within {span(patience.late)}"
        )
        return [Problem(Kind.CANARY_LATE, sentence, todo, newest.planted_at, way.value)]
    return []


def _never_planted(settings: Settings, way: CanaryWay, now: datetime, began: datetime) -> list[Problem]:
    if now - began < timedelta(seconds=MISSED_INTERVALS * ways.interval_seconds(settings, way)):
        return []
    sentence = f"no canary was ever planted in {ways.WORDS[way]}"
    return [Problem(Kind.CANARY_NOT_PLANTED, sentence, "restart the responder and beat", began, way.value)]


def _section(way: CanaryWay) -> str:
    return {
        CanaryWay.TEXTS: "sources: public_events; sightings",
        CanaryWay.PUSHES: "queues: pushes",
        CanaryWay.FILES: "queues: files",
        CanaryWay.REPOSITORY: "sources: repository_search, public_events; queues: pushes",
        CanaryWay.GIST: "sources: gists; queues: files",
    }[way]


def _because(canary: TableRow) -> str:
    return f" ({canary.error})" if canary.error else ""


def _seconds(canary: TableRow) -> float | None:
    if canary.ended_at is None:
        return None
    seconds: float = (canary.ended_at - canary.planted_at).total_seconds()
    return round(max(seconds, 0.0), 1)

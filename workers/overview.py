"""How the service does, from its rows alone: sources, budgets, queues, outbox, incidents, and what is wrong."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from scanner.github.gate import FAILURES_TO_OPEN
from scanner.records import jobs, spool, tallies, time_limits
from scanner.records.models import Exposure, Incident, Notification, ScanJob, Sighting, db_now
from scanner.records.source_models import BudgetState, CircuitState, Gap, SourceState
from scanner.records.states import Decision, JobState, NotificationState
from scanner.settings import Settings
from workers import over_time

HOURS = 24
LAST_INCIDENTS = 10
MAX_DELAYS = 20_000
SILENT_AFTER = timedelta(minutes=10)
WAITING_AFTER = {
    "pushes": timedelta(minutes=10),
    "files": timedelta(hours=1),
    **dict.fromkeys(("slow_pushes", "slow_files"), timedelta(hours=1)),
    **dict.fromkeys(("repository", "gist", "owner"), timedelta(hours=6)),
    "archive_hour": timedelta(hours=24),
}
"""How long jobs of a kind may wait before somebody should know."""
HALF_DONE_SECONDS = 60
UNSENT_AFTER = timedelta(hours=1)
FAILED_SHOWN_DAYS = 7

SCANNED = ("pushes", "files", "repository", "gist", "jobs", "lines")


@dataclass
class Overview:
    """Everything that `r8scan status` shows, as plain values. Times are aware, spans in seconds."""

    at: datetime
    sources: list[dict[str, Any]] = field(default_factory=list)
    budgets: list[dict[str, Any]] = field(default_factory=list)
    hosts_left_alone: list[dict[str, Any]] = field(default_factory=list)
    queues: list[dict[str, Any]] = field(default_factory=list)
    rescans: list[dict[str, Any]] = field(default_factory=list)
    over_time: list[dict[str, Any]] = field(default_factory=list)
    outbox: list[dict[str, Any]] = field(default_factory=list)
    sightings: dict[str, int] = field(default_factory=dict)
    spooled: int = 0
    speed: dict[str, Any] = field(default_factory=dict)
    incidents: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def overview(session: Session, settings: Settings) -> Overview:
    """Read it all in the caller's transaction; figures are of the last 24 hours where they add up."""
    found = Overview(at=session.execute(select(db_now())).scalar_one())
    _sources(session, settings, found)
    _budgets(session, found)
    _queues(session, found)
    found.over_time = over_time.find(session, settings.sources)
    found.problems += [over_time.sentence(one) for one in found.over_time]
    _outbox(session, found)
    _incidents(session, found)
    found.spooled = spool.count(settings.state_dir)
    if found.spooled:
        found.problems.append(f"{found.spooled} entries wait in the spool: the database was away")
    if refused := spool.refused(settings.state_dir):
        file = settings.state_dir / spool.FOLDER / spool.REFUSED
        found.problems.append(
            f"the spool was full and lost {refused} entries; rescan what they held, then remove {file}"
        )
    return found


def _sources(session: Session, settings: Settings, found: Overview) -> None:
    states = {state.source: state for state in session.execute(select(SourceState)).scalars()}
    counted = tallies.since(session, HOURS)
    missed = _missed(session)
    for name in sorted({*settings.sources, *states, *counted}):
        state = states.get(name)
        own = counted.get(name, {})
        gaps, estimated = missed.get(name, (0, 0))
        found.sources.append(
            {
                "source": name,
                "polled": name in settings.sources,
                "last_success_at": state.last_success_at if state else None,
                "next_poll_at": state.next_poll_at if state else None,
                "newest_seen_at": state.newest_seen_at if state else None,
                "lag_seconds": _seconds(found.at, state.newest_seen_at) if state else None,
                "gaps_24h": gaps,
                "missed_by_estimate_24h": estimated,
                "since_start": dict(state.counts) if state else {},
                "scanned_24h": {key: value for key, value in own.items() if key in SCANNED},
                "dropped_24h": _beginning(own, "dropped_"),
                "skipped_24h": _beginning(own, "skipped_"),
                "failed_24h": {**_beginning(own, "error_"), **_beginning(own, "given_up")},
                "unread_24h": _beginning(own, "unread_"),
                "cursor": _round_of(state),
                "error": state.error if state else None,
            }
        )
        if state is not None and name in settings.sources:
            found.problems += _trouble(state, found.at)
        found.problems += [
            f"{name}: {count} {what} were dropped in 24 hours; add workers" for what, count in _dropped(own).items()
        ]
    if settings.sources and not states:
        found.problems.append("nothing was ever polled: start r8scan run")


def _trouble(state: SourceState, now: datetime) -> list[str]:
    if state.error and not state.error.startswith(time_limits.TIME_LIMIT):  # see over_time
        return [f"{state.source}: {state.error}"]
    if state.cursor.get("is_stale"):
        return [f"{state.source}: GitHub serves an old list, with nothing newer than {_age(state, now)}"]
    is_silent = state.last_success_at is None or now - state.last_success_at > SILENT_AFTER
    if is_silent and state.next_poll_at <= now:
        minutes = SILENT_AFTER.seconds // 60
        return [f"{state.source}: not polled for more than {minutes} minutes; is a worker up?"]
    return []


def _age(state: SourceState, now: datetime) -> str:
    seconds = _seconds(now, state.newest_seen_at)
    return "ever" if seconds is None else f"{seconds / 60:.0f} minutes"


def _dropped(counts: Mapping[str, int]) -> dict[str, int]:
    """How many of what were dropped."""
    others = {"files": "dropped_backlog_files", "repositories": "dropped_backlog_repository"}
    found = {what: counts.get(key, 0) for what, key in others.items()}
    # Sightings beyond their limit are a flood of invented tokens: more workers would not help.
    pushes = sum(_beginning(counts, "dropped_").values()) - sum(found.values()) - counts.get("dropped_sightings", 0)
    return {what: count for what, count in {"pushes": pushes, **found}.items() if count}


def _round_of(state: SourceState | None) -> dict[str, Any]:
    """What code search tells of its rounds."""
    if state is None or "last_round" not in state.cursor:
        return {}
    current = state.cursor.get("round") or {}
    return {
        "last_round": state.cursor["last_round"],
        "waiting_shards": len(current.get("waiting", ())),
        "requests": current.get("requests"),
    }


def _missed(session: Session) -> dict[str, tuple[int, int]]:
    statement = (
        select(Gap.source, func.count(), func.sum(Gap.estimated))
        .where(Gap.found_at > db_now(-3600 * HOURS), Gap.filled_at.is_(None))
        .group_by(Gap.source)
    )
    return {source: (count, int(estimated or 0)) for source, count, estimated in session.execute(statement)}


def _budgets(session: Session, found: Overview) -> None:
    for row in session.execute(select(BudgetState).order_by(BudgetState.credential, BudgetState.resource)).scalars():
        blocked = row.blocked_until if row.blocked_until and row.blocked_until > found.at else None
        if row.resource == "credential" and blocked:
            found.problems.append(f"GitHub rejects the credential {row.credential}: replace it")
        found.budgets.append(
            {
                "credential": row.credential,
                "resource": row.resource,
                "limit": row.limit,
                # A window that is over is full again.
                "remaining": row.remaining if row.resets_at and row.resets_at > found.at else row.limit,
                "resets_at": row.resets_at,
                "blocked_until": blocked,
                "reason": row.reason if blocked else "",
            }
        )
    failing = select(CircuitState).where(CircuitState.failures >= FAILURES_TO_OPEN)
    for circuit in session.execute(failing).scalars():
        found.problems.append(f"{circuit.host} does not answer: it is asked once a minute")
        found.hosts_left_alone.append(
            {"host": circuit.host, "failures": circuit.failures, "open_until": circuit.open_until}
        )


def _queues(session: Session, found: Overview) -> None:
    statement = (
        select(
            ScanJob.kind,
            ScanJob.state,
            func.count(),
            func.min(ScanJob.created_at),
            func.min(ScanJob.visible_at),
        )
        .where(ScanJob.state.in_(jobs.OPEN))
        .group_by(ScanJob.kind, ScanJob.state)
        .order_by(ScanJob.kind, ScanJob.state)
    )
    for kind, state, count, oldest, visible in session.execute(statement):
        age = _seconds(found.at, oldest)
        found.queues.append(
            {"kind": kind, "state": state, "jobs": count, "oldest_seconds": age, "oldest_visible_at": visible}
        )
        if state == JobState.QUEUED and kind in WAITING_AFTER and age and age > WAITING_AFTER[kind].total_seconds():
            waited = f"{age / 60:.0f} minutes" if age < 2 * 3600 else f"{age / 3600:.0f} hours"
            found.problems.append(f"the oldest job of kind {kind} has waited for {waited}; add workers")
    rescans = (
        select(ScanJob)
        .where(ScanJob.source == "rescan", ScanJob.parent_id.is_(None))
        .order_by(ScanJob.id.desc())
        .limit(LAST_INCIDENTS)
    )
    for job in session.execute(rescans).scalars():
        found.rescans.append(
            {
                "job": job.id,
                "kind": job.kind,
                "target": job.target.get("repository") or job.target.get("owner") or job.target.get("gist"),
                "state": job.state,
                "phase": job.progress.get("phase"),
                "error": job.error,
            }
        )
    states = select(Sighting.state, func.count()).group_by(Sighting.state)
    found.sightings = dict(list(session.execute(states)))


def _outbox(session: Session, found: Overview) -> None:
    # A digest may wait for a day by design: what counts is how long ago it was due first.
    due_since = case((Notification.attempts > 0, Notification.created_at), else_=Notification.next_attempt_at)
    statement = (
        select(Notification.channel, Notification.state, func.count(), func.min(due_since))
        .where(
            Notification.state.in_((NotificationState.PENDING, NotificationState.FROZEN))
            | ((Notification.state == NotificationState.SENT) & (Notification.created_at > db_now(-3600 * HOURS)))
            | (
                (Notification.state == NotificationState.FAILED)
                & (Notification.created_at > db_now(-86400 * FAILED_SHOWN_DAYS))
            )
        )
        .group_by(Notification.channel, Notification.state)
        .order_by(Notification.channel, Notification.state)
    )
    for channel, state, count, due in session.execute(statement):
        age = max(_seconds(found.at, due) or 0.0, 0.0)
        found.outbox.append({"channel": channel, "state": state, "rows": count, "oldest_seconds": age})
        if state == NotificationState.FAILED:
            found.problems.append(
                f"{count} messages ({channel}) failed in {FAILED_SHOWN_DAYS} days: see r8scan incidents list"
            )
        elif state != NotificationState.SENT and age > UNSENT_AFTER.total_seconds():
            found.problems.append(f"the oldest message ({channel}) has waited for {age / 3600:.1f} hours")


def _incidents(session: Session, found: Overview) -> None:
    # Where else it stands is found out later, often in places that are much older: they delayed nothing.
    first_public = (
        select(Exposure.incident_id, func.min(Exposure.published_at).label("published_at"))
        .join(Incident, Incident.id == Exposure.incident_id)
        .where(Exposure.published_at.is_not(None), Exposure.seen_at <= Incident.disabled_at)
        .group_by(Exposure.incident_id)
        .subquery()
    )
    statement = (
        select(Incident.disabled_at, first_public.c.published_at)
        .join(first_public, first_public.c.incident_id == Incident.id)
        .where(Incident.action == Decision.DISABLED, Incident.detected_at > db_now(-3600 * HOURS))
        .order_by(Incident.detected_at.desc())
        .limit(MAX_DELAYS)
    )
    delays = sorted(
        max((disabled - published).total_seconds(), 0.0)
        for disabled, published in session.execute(statement)
        if disabled and published
    )
    found.speed = {"incidents_24h": len(delays), "p50_seconds": None, "p95_seconds": None}
    if delays:
        p95 = statistics.quantiles(delays, n=20)[-1] if len(delays) > 1 else delays[0]
        found.speed |= {"p50_seconds": round(statistics.median(delays), 2), "p95_seconds": round(p95, 2)}
    half_done = select(func.count(), func.min(Incident.detected_at)).where(Incident.action == Decision.DISABLING)
    waiting, oldest = session.execute(half_done).one()
    if waiting and (_seconds(found.at, oldest) or 0) > HALF_DONE_SECONDS:
        found.problems.append(f"{waiting} tokens wait for the token store to disable them: see the log")
    newest = select(Incident).order_by(Incident.detected_at.desc(), Incident.id).limit(LAST_INCIDENTS)
    for incident in session.execute(newest).scalars():
        found.incidents.append(
            {
                "id": str(incident.id),
                "hint": incident.hint,
                "account": incident.account_name,
                "cause": incident.cause,
                "action": incident.action,
                "detected_at": incident.detected_at,
                "disabled_at": incident.disabled_at,
            }
        )


def _beginning(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {key: value for key, value in counts.items() if key.startswith(prefix)}


def _seconds(now: datetime, at: datetime | None) -> float | None:
    if at is None:
        return None
    return round((now - (at if at.tzinfo else at.replace(tzinfo=UTC))).total_seconds(), 1)

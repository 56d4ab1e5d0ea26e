"""The Prometheus metrics of the service. Their values are read from the database at each request."""

from __future__ import annotations

import statistics
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.records.canaries import is_no_canary
from scanner.records.database import Database, is_unavailable
from scanner.records.models import Exposure, Incident, Notification, NotificationSubject, db_now
from scanner.records.states import Channel, Decision, NotificationState
from scanner.settings import Settings
from workers.health.incidents import disable_delays
from workers.health.overview import overview
from workers.health.problems import Kind
from workers.health.rows import Overview

DAY_SECONDS = 24 * 3600
MAX_DELAYS = 20_000
BUCKETS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 21600, 86400)
"""The upper bounds of the histogram's buckets, in seconds."""
QUANTILES = ("0.5", "0.95", "0.99")

Sample = tuple[tuple[str, ...], float]


@dataclass(frozen=True, slots=True)
class Described:
    """The description of a metric. docs/metrics.md is generated from these descriptions."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()

    @property
    def full_name(self) -> str:
        """Return the metric's name with the prefix of all r8scan metrics."""
        return f"r8scan_{self.name}" + ("_total" if self.kind == "counter" else "")


METRICS = (
    Described("up", "gauge", "1 when the database could be read"),
    Described("problem", "gauge", "1 while a problem of this kind lasts: see problems.md", ("kind",)),
    Described("process_silent_seconds", "gauge", "Since the process last took messages", ("role", "host", "pid")),
    Described("broker_messages", "gauge", "Messages that wait in Redis; absent while it is unavailable", ("queue",)),
    Described("source_last_success_seconds", "gauge", "Since the last successful poll", ("source",)),
    Described("source_lag_seconds", "gauge", "Age of the newest thing that the source has seen", ("source",)),
    Described("source_gaps", "gauge", "Gaps of the last 24 hours that were not filled", ("source",)),
    Described("source_missed_events", "gauge", "Estimated number of events missed in the gaps", ("source",)),
    Described("source_counts", "counter", "Counters of the source's polls since it began, by name", ("source", "name")),
    Described("scanned", "gauge", "Read in 24 hours, by kind", ("source", "what")),
    Described(
        "not_scanned",
        "gauge",
        "Left out in 24 hours, by reason (dropped_, skipped_, error_, unread_)",
        ("source", "reason"),
    ),
    Described(
        "recall",
        "gauge",
        "Share of the pushes that other sources saw: bounds (low, high) of its 95 % interval",
        ("source", "within_seconds", "bound"),
    ),
    Described("recall_marks", "gauge", "Pushes by which this share was measured", ("source", "within_seconds")),
    Described(
        "canary_seconds", "gauge", "From planting to the disable, of the newest canary that was disabled", ("way",)
    ),
    Described("canary_age_seconds", "gauge", "Since the newest canary was disabled", ("way",)),
    Described("canary_waiting_seconds", "gauge", "For how long a canary waits that was not disabled yet", ("way",)),
    Described("canaries", "gauge", "Canaries of 24 hours: planted, disabled, failed", ("way", "outcome")),
    Described("quota_remaining", "gauge", "Requests left of GitHub's quota", ("credential", "resource")),
    Described("quota_limit", "gauge", "Requests of GitHub's quota", ("credential", "resource")),
    Described("circuit_open", "gauge", "1 while the circuit breaker of a failing host is open", ("host",)),
    Described("jobs", "gauge", "Jobs that have not ended", ("kind", "state")),
    Described("jobs_oldest_seconds", "gauge", "Age of the oldest of them", ("kind", "state")),
    Described("stalled", "gauge", "Jobs and polls without progress"),
    Described("outbox", "gauge", "Messages: waiting, sent in 24 hours, failed in 7 days", ("channel", "state")),
    Described("outbox_oldest_seconds", "gauge", "For how long the oldest message has been due", ("channel", "state")),
    Described("sightings", "gauge", "Candidates that the token store has not confirmed", ("state",)),
    Described("spool_entries", "gauge", "Entries that wait for the database"),
    Described("spool_lost", "gauge", "Entries that were lost because the spool was full"),
    Described("disk_free_bytes", "gauge", "Free space on the disk of the state folder of this process"),
    Described("incidents", "counter", "Incidents, by what was done about the token", ("action", "cause")),
    Described("waiting_decisions", "gauge", "Decisions that wait for the operator", ("what",)),
    Described("delay_seconds", "summary", "Quantiles over 24 hours, by stage", ("stage", "quantile")),
    Described(
        "delays_bucket",
        "histogram",
        "Incidents of 24 hours with a delay up to `le` seconds, by stage: for `histogram_quantile`, without `rate`",
        ("stage", "le"),
    ),
)
_BY_NAME = {one.name: one for one in METRICS}


class ServiceCollector(Collector):
    """A Prometheus collector that reads the state of the service at each request."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database, self._settings = database, settings

    def collect(self) -> Iterable[Metric]:
        """Yield every metric. If the database is unavailable, yield only metrics that do not need it."""
        found = overview(self._database, self._settings, ask_broker=True)
        samples = dict(of_overview(found))
        if samples["up"][0][1]:
            try:
                with self._database.read() as session:
                    samples |= dict(of_rows(session))
            except Exception as err:
                if not is_unavailable(err):
                    raise
                samples["up"] = [((), 0.0)]
        for name, values in samples.items():
            yield _family(_BY_NAME[name], values)


def exposition(database: Database, settings: Settings) -> bytes:
    """Return all metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ServiceCollector(database, settings))
    return generate_latest(registry)


def table() -> str:
    """Return the table of metrics for the documentation, as Markdown."""
    rows = [
        f"| `{one.full_name}` | {one.kind} | {', '.join(f'`{label}`' for label in one.labels)} | {one.help} |"
        for one in METRICS
    ]
    return "\n".join(["| metric | type | labels | meaning |", "| --- | --- | --- | --- |", *rows])


def of_overview(found: Overview) -> Iterator[tuple[str, Sequence[Sample]]]:
    """Yield the name and samples of each metric whose values are in `found`."""
    kinds = {one.kind for one in found.problems}
    is_up = not kinds & {Kind.DATABASE_AWAY, Kind.DATABASE_VERSION}
    yield "up", [((), float(is_up))]
    yield "problem", [((kind.value,), float(kind in kinds)) for kind in Kind]
    yield "spool_entries", [((), float(found.spool_entries))]
    yield "spool_lost", [((), float(found.spool_refused))]
    yield "disk_free_bytes", [((), float(found.disk_free_bytes))] if found.disk_free_bytes is not None else []
    yield "broker_messages", [((queue,), float(number)) for queue, number in (found.broker_messages or {}).items()]
    if not is_up:
        return
    yield (
        "process_silent_seconds",
        [((one.role, one.host, str(one.pid)), one.silent_seconds) for one in found.processes],
    )
    yield from _of_sources(found)
    yield from _of_recall(found)
    yield from _of_canaries(found)
    quotas = [one for one in found.budgets if one.limit]
    yield "quota_remaining", [((one.credential, one.resource), float(one.remaining)) for one in quotas]
    yield "quota_limit", [((one.credential, one.resource), float(one.limit)) for one in quotas]
    yield "circuit_open", [((one.host,), 1.0) for one in found.circuits]
    yield "jobs", [((one.kind, one.state.value), float(one.jobs)) for one in found.queues]
    yield "jobs_oldest_seconds", [((one.kind, one.state.value), one.oldest_seconds or 0.0) for one in found.queues]
    yield "stalled", [((), float(len(found.stalled)))]
    yield "outbox", [((one.channel, one.state.value), float(one.rows)) for one in found.outbox]
    yield (
        "outbox_oldest_seconds",
        [
            ((one.channel, one.state.value), one.oldest_seconds)
            for one in found.outbox
            if one.state in (NotificationState.PENDING, NotificationState.FROZEN)
        ],
    )
    yield "sightings", [((str(state),), float(number)) for state, number in found.sightings.items()]
    waiting = found.decisions
    yield (
        "waiting_decisions",
        [
            (("held",), float(waiting.held)),
            (("protected",), float(waiting.protected)),
            (("flagged",), float(waiting.flagged)),
        ],
    )


def _of_recall(found: Overview) -> Iterator[tuple[str, Sequence[Sample]]]:
    """Yield the metrics of recall: the share of the known pushes that each source saw."""
    shares = [(row.source, within, share) for row in found.sources for within, share in row.recall.items()]
    yield (
        "recall",
        [
            ((source, within, bound), float(value))
            for source, within, share in shares
            for bound, value in zip(("low", "high"), share[2:4], strict=True)
        ],
    )
    yield "recall_marks", [((source, within), float(share[0])) for source, within, share in shares]


def _of_canaries(found: Overview) -> Iterator[tuple[str, Sequence[Sample]]]:
    """Yield the metrics of canaries (test tokens) for each way of planting."""
    on = [one for one in found.canaries if not one.off]
    yield "canary_seconds", [((one.way,), one.seconds) for one in on if one.seconds is not None]
    ages = [((one.way,), (found.at - one.ended_at).total_seconds()) for one in on if one.ended_at]
    yield "canary_age_seconds", ages
    yield "canary_waiting_seconds", [((one.way,), one.waiting_seconds or 0.0) for one in on]
    outcomes = [
        (one, {"planted": one.planted_24h, "disabled": one.disabled_24h, "failed": one.failed_24h}) for one in on
    ]
    yield (
        "canaries",
        [((one.way, outcome), float(number)) for one, counts in outcomes for outcome, number in counts.items()],
    )


def _of_sources(found: Overview) -> Iterator[tuple[str, Sequence[Sample]]]:
    on = [one for one in found.sources if one.is_on]
    yield (
        "source_last_success_seconds",
        [((one.source,), (found.at - one.last_success_at).total_seconds()) for one in on if one.last_success_at],
    )
    yield "source_lag_seconds", [((one.source,), one.lag_seconds) for one in on if one.lag_seconds is not None]
    yield "source_gaps", [((one.source,), float(one.gaps_24h)) for one in on]
    yield "source_missed_events", [((one.source,), float(one.missed_by_estimate_24h)) for one in on]
    yield (
        "source_counts",
        [
            ((one.source, name), float(number))
            for one in found.sources
            for name, number in one.since_start.items()
            if isinstance(number, int)
        ],
    )
    yield (
        "scanned",
        [((one.source, what), float(number)) for one in found.sources for what, number in one.scanned_24h.items()],
    )
    yield (
        "not_scanned",
        [
            ((one.source, reason), float(number))
            for one in found.sources
            for counts in (one.dropped_24h, one.skipped_24h, one.failed_24h, one.unread_24h)
            for reason, number in counts.items()
        ],
    )


def of_rows(session: Session) -> Iterator[tuple[str, Sequence[Sample]]]:
    """Yield the name and samples of each metric that needs its own database queries."""
    counted = select(Incident.action, Incident.cause, func.count()).where(is_no_canary())
    yield (
        "incidents",
        [
            ((str(action), str(cause)), float(number))
            for action, cause, number in session.execute(counted.group_by(Incident.action, Incident.cause))
        ],
    )
    stages = {
        "visible_to_disabled": disable_delays(session, DAY_SECONDS),
        "visible_to_seen": _visible_to_seen(session),
        "seen_to_disabled": _seen_to_disabled(session),
        "disabled_to_mailed": _disabled_to_mailed(session),
    }
    yield "delays_bucket", [((stage, le), number) for stage, one in stages.items() for le, number in _buckets(one)]
    yield (
        "delay_seconds",
        [
            ((stage, quantile), _quantile(delays, float(quantile)))
            for stage, delays in stages.items()
            if delays
            for quantile in QUANTILES
        ],
    )


def _buckets(delays: Sequence[float]) -> Iterator[tuple[str, float]]:
    """Yield each upper bound in seconds, and the number of delays up to it."""
    for bound in BUCKETS:
        yield str(bound), float(bisect_right(delays, bound))
    yield "+Inf", float(len(delays))


def _seen_to_disabled(session: Session) -> list[float]:
    statement = (
        select(func.min(Exposure.seen_at), Incident.disabled_at)
        .join(Incident, Incident.id == Exposure.incident_id)
        .where(Incident.action == Decision.DISABLED, Incident.detected_at > db_now(-DAY_SECONDS))
        .group_by(Incident.id, Incident.disabled_at)
        .limit(MAX_DELAYS)
    )
    return sorted(max((at - seen).total_seconds(), 0.0) for seen, at in session.execute(statement) if at)


def _visible_to_seen(session: Session) -> list[float]:
    statement = (
        select(Exposure.published_at, Exposure.seen_at)
        .join(Incident, Incident.id == Exposure.incident_id)
        .where(Incident.detected_at > db_now(-DAY_SECONDS), Exposure.published_at.is_not(None), is_no_canary())
        # Leave out places where the token was found after it was disabled. They did not delay the disabling.
        .where(Exposure.seen_at <= Incident.disabled_at)
        .limit(MAX_DELAYS)
    )
    return sorted(
        max((seen - published).total_seconds(), 0.0) for published, seen in session.execute(statement) if published
    )


def _disabled_to_mailed(session: Session) -> list[float]:
    statement = (
        select(Incident.disabled_at, func.min(Notification.sent_at))
        .join(NotificationSubject, NotificationSubject.incident_id == Incident.id)
        .join(Notification, Notification.id == NotificationSubject.notification_id)
        .where(
            Incident.action == Decision.DISABLED,
            Incident.detected_at > db_now(-DAY_SECONDS),
            Notification.channel == Channel.EMAIL,
            Notification.state == NotificationState.SENT,
        )
        .group_by(Incident.id, Incident.disabled_at)
        .limit(MAX_DELAYS)
    )
    return sorted(max((sent - at).total_seconds(), 0.0) for at, sent in session.execute(statement) if at and sent)


def _quantile(values: Sequence[float], quantile: float) -> float:
    if len(values) == 1:
        return values[0]
    return statistics.quantiles(values, n=100, method="inclusive")[round(quantile * 100) - 1]


def _family(what: Described, samples: Sequence[Sample]) -> Metric:
    name, labels = f"r8scan_{what.name}", what.labels
    if what.kind in ("histogram", "summary"):
        # The samples are buckets and quantiles. The library's SummaryMetricFamily does not accept quantiles.
        family = Metric(name.removesuffix("_bucket"), what.help, what.kind)
        for values, number in samples:
            family.add_sample(name, dict(zip(labels, values, strict=True)), number)
        return family
    numbers = CounterMetricFamily if what.kind == "counter" else GaugeMetricFamily
    found: CounterMetricFamily | GaugeMetricFamily = numbers(name, what.help, labels=labels)
    for values, number in samples:
        found.add_metric(values, number)
    return found

"""Exports a trace of each leak to an OpenTelemetry collector, from publication of the token until the mail is sent."""

from __future__ import annotations

import hashlib
import logging
import queue
import threading
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any, cast

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from sqlalchemy import select

from scanner import __version__
from scanner.records.database import Database, is_unavailable
from scanner.records.models import Exposure, Incident
from scanner.records.security_log import LOGGER
from scanner.settings import Settings

KINDS = ("token_disabled", "mail_sent")
MAX_WAITING = 10_000
"""The maximum number of log records that wait for export. Further ones are dropped."""
EXPORT_SECONDS = 5

_log = logging.getLogger(__name__)


class _Ids(RandomIdGenerator):
    """A generator of random ids for traces and spans. If `root` is set, its two ids are used instead."""

    def __init__(self) -> None:
        self.root: tuple[int, int] | None = None

    def generate_trace_id(self) -> int:
        return self.root[0] if self.root else super().generate_trace_id()

    def generate_span_id(self) -> int:
        return self.root[1] if self.root else super().generate_span_id()


class Tracing:
    """Exports OpenTelemetry spans that show when leaked tokens were seen and disabled, and when mails were sent.

    Args:
        database: A `Database` that no other object uses.
        exporter: Receives the finished spans.
    """

    def __init__(self, database: Database, exporter: SpanExporter) -> None:
        self._database = database
        self._ids = _Ids()
        resource = Resource({"service.name": "r8scan", "service.version": __version__})
        self._provider = TracerProvider(
            resource=resource, id_generator=cast(IdGenerator, self._ids), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("r8scan")

    def flush(self) -> None:
        """Export all finished spans now. Wait at most EXPORT_SECONDS."""
        self._provider.force_flush(EXPORT_SECONDS * 1000)

    def export(self, kind: str, incident_id: uuid.UUID, at: datetime) -> None:
        """Export the spans that end when an incident's token is disabled, or when its mail is sent.

        Args:
            kind: What happened: "token_disabled" or "mail_sent".
            at: When this was logged.
        """
        with self._database.read() as session:
            incident = session.get(Incident, incident_id)
            if incident is None or incident.disabled_at is None:
                return
            first = session.execute(
                select(Exposure.published_at, Exposure.seen_at, Exposure.source)
                .where(Exposure.incident_id == incident_id)
                .order_by(Exposure.seen_at)
                .limit(1)
            ).one_or_none()
            disabled_at = incident.disabled_at
            seen_at = first.seen_at if first else incident.detected_at
            published_at = (first.published_at if first else None) or seen_at
            fields = {"r8scan.incident": str(incident_id), "r8scan.cause": str(incident.cause)}
            if first:
                fields["r8scan.source"] = first.source
        if kind == "mail_sent":
            self._span("mail", incident_id, disabled_at, at, fields)
            return
        self._root(incident_id, min(published_at, seen_at), disabled_at, fields)
        self._span("see", incident_id, min(published_at, seen_at), seen_at, fields)
        self._span("disable", incident_id, min(seen_at, disabled_at), disabled_at, fields)

    def _root(self, incident_id: uuid.UUID, start: datetime, end: datetime, fields: dict[str, str]) -> None:
        self._ids.root = (incident_id.int, _root_id(incident_id))
        try:
            span = self._tracer.start_span("leak", attributes=fields, start_time=_nanoseconds(start))
        finally:
            self._ids.root = None
        span.end(_nanoseconds(end))

    def _span(self, name: str, incident_id: uuid.UUID, start: datetime, end: datetime, fields: dict[str, str]) -> None:
        root = SpanContext(incident_id.int, _root_id(incident_id), is_remote=True, trace_flags=TraceFlags(1))
        context = trace.set_span_in_context(NonRecordingSpan(root))
        span = self._tracer.start_span(name, context, attributes=fields, start_time=_nanoseconds(start))
        span.end(_nanoseconds(max(start, end)))


class _Steps(logging.Handler):
    """A log handler that puts a log record into a queue if a token was disabled or a mail was sent."""

    def __init__(self, steps: queue.Queue[tuple[str, uuid.UUID, datetime]]) -> None:
        super().__init__()
        self._steps = steps

    def emit(self, record: logging.LogRecord) -> None:
        kind, incident = getattr(record, "kind", ""), getattr(record, "incident", None)
        if kind in KINDS and incident is not None:
            at = datetime.fromtimestamp(record.created).astimezone()
            try:
                self._steps.put_nowait((kind, uuid.UUID(incident), at))
            except queue.Full:
                return  # drop the record, because tracing must not slow down the service


def _root_id(incident_id: uuid.UUID) -> int:
    """Return the id of the incident's root span. It is the same in all processes."""
    return int.from_bytes(hashlib.sha256(incident_id.bytes).digest()[:8]) or 1


def _nanoseconds(at: datetime) -> int:
    return int(at.timestamp() * 1e9)


def follow(export: Callable[[str, uuid.UUID, datetime], None]) -> tuple[logging.Handler, queue.Queue[Any]]:
    """Start a thread that exports a span for each log record of this process about a disabled token or a sent mail.

    Args:
        export: Called in the thread with "token_disabled" or "mail_sent", the incident's id and the time.

    Returns:
        The log handler, and the queue from the handler to the thread.
    """
    steps: queue.Queue[tuple[str, uuid.UUID, datetime]] = queue.Queue(MAX_WAITING)
    handler = _Steps(steps)
    logging.getLogger(LOGGER).addHandler(handler)
    threading.Thread(target=_export_forever, args=(export, steps), name="traces", daemon=True).start()
    return handler, steps


def _export_forever(export: Callable[..., None], steps: queue.Queue[Any]) -> None:
    while True:
        step = steps.get()
        try:
            export(*step)
        except Exception as err:  # noqa: BLE001 - a trace that fails must not end the traces that follow
            if not is_unavailable(err):
                _log.exception("a step of an incident was not traced")
        finally:
            steps.task_done()


def start(settings: Settings) -> None:
    """Export traces to the collector that the settings name."""
    exporter = OTLPSpanExporter(endpoint=settings.traces_url, timeout=EXPORT_SECONDS)
    database = Database(settings.database_url.get_secret_value(), max_connections=0)
    follow(Tracing(database, exporter).export)

"""Tests for the trace of a leak from its publication to the mail."""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, datetime, timedelta

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from scanner.records import security_log
from scanner.records.database import Database
from scanner.records.models import Exposure, Incident
from scanner.records.states import Cause, Decision
from workers.observing.traces import Tracing, follow

START = datetime(2026, 11, 30, 8, 0, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def leaked(database: Database, *, disabled_at: datetime | None = None) -> uuid.UUID:
    """Store an incident whose token became public at START and was seen two seconds later. Return its id."""
    with database.write() as session:
        incident = Incident(
            digest="0" * 64,
            hint="r8_Ab1…xyz9",
            token_id="1",
            token_name="ci",
            cause=Cause.PUBLIC_REPOSITORY,
            action=Decision.DISABLED,
            detected_at=after(2),
            disabled_at=disabled_at,
        )
        session.add(incident)
        session.flush()
        session.add(
            Exposure(
                incident_id=incident.id,
                place_key="k",
                kind="file",
                source="public_events",
                published_at=START,
                seen_at=after(2),
                url="https://github.com/ana/app",
            )
        )
        return incident.id


def seconds(span: ReadableSpan) -> tuple[float, float]:
    assert span.start_time is not None
    assert span.end_time is not None
    begin = START.timestamp()
    return round(span.start_time / 1e9 - begin, 3), round(span.end_time / 1e9 - begin, 3)


def test_the_spans_of_two_processes_form_one_trace_with_the_times_of_the_rows(database: Database) -> None:
    exporter = InMemorySpanExporter()
    incident = leaked(database, disabled_at=after(3))
    for kind, at in (("token_disabled", after(3)), ("mail_sent", after(13))):
        process = Tracing(database, exporter)
        process.export(kind, incident, at)
        process.flush()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert {name: seconds(span) for name, span in spans.items()} == {
        "leak": (0, 3),
        "see": (0, 2),
        "disable": (2, 3),
        "mail": (3, 13),
    }
    assert {span.context.trace_id for span in spans.values()} == {incident.int}
    root = spans.pop("leak")
    assert root.parent is None
    assert {span.parent.span_id for span in spans.values() if span.parent} == {root.context.span_id}
    assert len({span.context.span_id for span in spans.values()}) == 3
    attributes = dict(root.attributes or {})
    assert attributes == {
        "r8scan.incident": str(incident),
        "r8scan.cause": str(Cause.PUBLIC_REPOSITORY),
        "r8scan.source": "public_events",
    }


def test_an_incident_without_a_disable_has_no_trace(database: Database) -> None:
    exporter = InMemorySpanExporter()
    tracing = Tracing(database, exporter)
    tracing.export("mail_sent", leaked(database), after(3))
    tracing.export("token_disabled", uuid.uuid4(), after(3))
    tracing.flush()
    assert exporter.get_finished_spans() == ()


def test_lines_of_the_security_log_are_exported_and_a_failure_does_not_end_the_others() -> None:
    exported: list[tuple[str, uuid.UUID]] = []
    failing, working = uuid.uuid4(), uuid.uuid4()

    def export(kind: str, incident: uuid.UUID, at: datetime) -> None:
        if incident == failing:
            raise ValueError("it cannot be exported")
        exported.append((kind, incident))

    handler, steps = follow(export)
    log = logging.getLogger(security_log.LOGGER)
    level = log.level
    log.setLevel(logging.INFO)
    try:
        security_log.write("token_disabled", {}, incident_id=failing)
        security_log.write("token_found", {}, incident_id=working)
        security_log.write("mail_sent", {}, incident_id=working)
        security_log.write("brake_closed", {})
        steps.join()
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    assert exported == [("mail_sent", working)]

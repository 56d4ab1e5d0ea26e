"""Tests for the Prometheus metrics and their documentation."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from scanner.records import tallies
from scanner.records.database import Database
from scanner.records.models import Exposure, Incident, db_now
from scanner.records.source_models import RecallMeasurement, SourceState
from scanner.records.states import Cause, Decision
from scanner.settings import load_settings
from tests.workers.health.alive import seen
from workers.health.metrics import METRICS, exposition, table
from workers.health.problems import Kind

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "docs" / "monitoring"
NAMES = {one.full_name for one in METRICS}


def scraped(database: Database) -> dict[tuple[str, ...], float]:
    text = exposition(database, load_settings(sources="public_events")).decode()
    labels = {one.full_name: one.labels for one in METRICS}
    return {
        (sample.name, *(sample.labels[label] for label in labels[sample.name])): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_scrape_shows_the_values_of_the_rows(database: Database) -> None:
    now = datetime.now(UTC)
    with database.write() as session:
        counts = {"polls": 7, "events": 2100}
        session.add(SourceState(source="public_events", next_poll_at=db_now(60), last_success_at=now, counts=counts))
        tallies.add(session, "public_events", {"pushes": 90, "unread_pack_over_limit": 2, "error_http_500": 1})
        shares = {"60": [100, 90, 0.82, 0.94], "300": [80, 80, 0.95, 1.0]}
        session.add(RecallMeasurement(source="public_events", shares=shares, total=[], measured_at=now))
        seen(session)
        for seconds in (1, 2, 3):
            incident = Incident(
                digest=f"{seconds:064x}",
                hint="r8_Ab1…xyz9",
                token_id="1",
                token_name="ci",
                cause=Cause.PUBLIC_REPOSITORY,
                action=Decision.DISABLED,
                detected_at=now,
                disabled_at=now,
            )
            session.add(incident)
            session.flush()
            place = {"kind": "file", "url": "", "source": "public_events", "place_key": str(seconds)}
            published = now - timedelta(seconds=seconds)
            session.add(Exposure(incident_id=incident.id, seen_at=now, published_at=published, **place))
    found = scraped(database)
    assert found["r8scan_up",] == 1
    assert found["r8scan_source_counts_total", "public_events", "events"] == 2100
    assert found["r8scan_scanned", "public_events", "pushes"] == 90
    assert found["r8scan_not_scanned", "public_events", "unread_pack_over_limit"] == 2
    assert found["r8scan_recall", "public_events", "60", "low"] == 0.82
    assert found["r8scan_recall", "public_events", "300", "high"] == 1
    assert found["r8scan_recall_marks", "public_events", "60"] == 100
    assert found["r8scan_incidents_total", "disabled", "public_repository"] == 3
    assert found["r8scan_delay_seconds", "visible_to_disabled", "0.5"] == pytest.approx(2, abs=0.01)
    in_buckets = [found["r8scan_delays_bucket", "visible_to_disabled", le] for le in ("1", "2", "5", "+Inf")]
    assert in_buckets == [1, 2, 3, 3]
    assert found["r8scan_delays_bucket", "seen_to_disabled", "1"] == 3
    assert found["r8scan_delays_bucket", "disabled_to_mailed", "+Inf"] == 0
    assert found["r8scan_problem", "operator_not_set"] == 1
    assert found["r8scan_problem", "process_silent"] == 0
    assert {key[0] for key in found} <= NAMES
    assert "Ab1" not in exposition(database, load_settings()).decode(), "the metrics contain no hint and no digest"


def test_no_name_or_label_belongs_to_another_type_of_metric(database: Database) -> None:
    """`promtool check metrics` warns of such names and labels."""
    text = exposition(database, load_settings()).decode()
    types = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
    assert (types["r8scan_delays"], types["r8scan_delay_seconds"]) == ("histogram", "summary")
    for one in METRICS:
        assert ("le" in one.labels or one.name.endswith("_bucket")) is (one.kind == "histogram"), one.name
        assert ("quantile" in one.labels) is (one.kind == "summary"), one.name
        assert not one.name.endswith(("_sum", "_count", "_total", "_info")), one.name


def test_a_scrape_reports_an_unavailable_database(tmp_path: Path) -> None:
    found = scraped(Database(f"postgresql://nobody@/none?host={tmp_path}"))
    assert found["r8scan_up",] == 0
    assert found["r8scan_problem", "database_away"] == 1


def test_the_documentation_contains_the_generated_table() -> None:
    assert table() in (ROOT / "docs" / "metrics.md").read_text()


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"r8scan_\w+", expression))


def test_each_alert_uses_metrics_that_exist_and_has_its_page() -> None:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    page = (ROOT / "docs" / "problems.md").read_text()
    kinds = {kind for rule in rules for kind in re.findall(r'kind="(\w+)"', rule["expr"])}
    assert kinds <= {kind.value for kind in Kind}
    for rule in rules:
        assert metrics_in(rule["expr"]) <= NAMES
        name, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert name == "docs/problems.md"
        anchors = [kind.value.replace("_", "-") for kind in Kind] if "$labels.kind" in anchor else [anchor]
        for one in anchors:
            assert f"\n## {one}\n" in page, f"{rule['alert']} names a section that does not exist: {one}"


def test_the_dashboard_uses_metrics_that_exist() -> None:
    dashboard = json.loads((MONITORING / "grafana-dashboard.json").read_text())
    used = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert used
    for expression in used:
        assert metrics_in(expression)
        assert metrics_in(expression) <= NAMES

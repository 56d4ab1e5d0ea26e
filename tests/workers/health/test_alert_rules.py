"""Tests that each Prometheus alert fires for its fault, and that none fires without a fault.

Without `promtool` (Debian's package `prometheus`), only one of the tests runs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

from workers.health.problems import Kind

RULES_FILE = Path(__file__).parents[3] / "docs" / "monitoring" / "alerts.yml"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES_FILE.read_text())["groups"] for rule in group["rules"]
]
UP = ("r8scan_up", 1)
PROBLEM = 'r8scan_problem{{kind="{}"}}'
FAULTS: dict[str, tuple[str, float]] = {
    "R8scanDatabaseAway": ("r8scan_up", 0),
    "R8scanNotRunning": (PROBLEM.format("redis_away"), 1),
    "R8scanProcessSilent": (PROBLEM.format("queue_without_consumer"), 1),
    "R8scanTokenLives": (PROBLEM.format("store_away"), 1),
    "R8scanCanaryLost": (PROBLEM.format("canary_late"), 1),
    "R8scanDecisionWaits": ('r8scan_waiting_decisions{what="held"}', 3),
    "R8scanSourceBehind": ('r8scan_source_last_success_seconds{source="gists"}', 1200),
    "R8scanCredentialRejected": (PROBLEM.format("credential_rejected"), 1),
    "R8scanDropped": (PROBLEM.format("jobs_wait"), 1),
    "R8scanMessageWaits": ('r8scan_outbox_oldest_seconds{channel="email",state="pending"}', 1200),
    "R8scanSpool": ("r8scan_spool_lost", 2),
    "R8scanDiskFull": (PROBLEM.format("disk_full"), 1),
    "R8scanProblem": (PROBLEM.format("owner_undeliverable"), 1),
}
"""For each alert, the metric and the value that make it fire. R8scanNotScraped is not included, because it fires if
there are no metrics.
"""
SUMMARIES = {
    "R8scanDecisionWaits": "3 tokens (held) wait for a decision",
    "R8scanSourceBehind": "gists was polled 20m 0s ago",
    "R8scanMessageWaits": "The oldest message (email) has been due for 20m 0s",
    "R8scanProblem": "r8scan status has reported the problem owner_undeliverable for ten minutes",
}
RUNBOOKS = {"R8scanProblem": "docs/problems.md#owner-undeliverable"}
LOST_BY_SUM = {"state"}
"""Labels that fired alerts do not have, because the alert rules add up the metrics over all values of these labels."""
QUIET: dict[str, float] = {
    **{PROBLEM.format(kind.value): 0 for kind in Kind},
    'r8scan_waiting_decisions{what="held"}': 0,
    'r8scan_source_last_success_seconds{source="gists"}': 5,
    'r8scan_outbox_oldest_seconds{channel="email",state="pending"}': 20,
    "r8scan_spool_entries": 0,
    "r8scan_spool_lost": 0,
    UP[0]: UP[1],
}


def test_every_kind_of_problem_has_an_alert() -> None:
    named = {kind for rule in RULES for kind in re.findall(r'kind="(\w+)"', rule["expr"])}
    (rest,) = (rule for rule in RULES if rule["alert"] == "R8scanProblem")
    left_out = set(re.findall(r'kind!~"([^"]+)"', rest["expr"])[0].split("|"))
    elsewhere = {"database_away", "spool_waits", "spool_lost", "brake_closed", "protected_waits", "flagged_waits"}
    assert left_out == named | elsewhere
    assert left_out <= {kind.value for kind in Kind}
    assert set(FAULTS) | {"R8scanNotScraped"} == {rule["alert"] for rule in RULES}


if shutil.which("promtool"):

    def test_each_alert_fires_for_its_fault_and_none_while_all_is_well(tmp_path: Path) -> None:
        cases = [
            _case(QUIET, {rule["alert"]: [] for rule in RULES}),
            _case({}, {"R8scanNotScraped": [_fired("R8scanNotScraped", {})]}),
        ]
        for alert, (series, value) in FAULTS.items():
            labels = {key: text for key, text in re.findall(r'(\w+)="(\w+)"', series) if key not in LOST_BY_SUM}
            cases.append(_case({**QUIET, series: value}, {alert: [_fired(alert, labels)]}))
        file = tmp_path / "rules_test.yml"
        file.write_text(yaml.safe_dump({"rule_files": [str(RULES_FILE)], "tests": cases}))
        done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def _case(series: dict[str, float], fired: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return a test case for promtool.

    Args:
        series: The metrics, which keep their values for half an hour.
        fired: The alerts that must have fired by then.
    """
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": f"{json.dumps(value)}x30"} for name, value in series.items()],
        "alert_rule_test": [
            {"eval_time": "30m", "alertname": name, "exp_alerts": alerts} for name, alerts in fired.items()
        ],
    }


def _fired(alert: str, labels: dict[str, str]) -> dict[str, Any]:
    """Return an alert with these labels, in the format of promtool's test cases."""
    (rule,) = (one for one in RULES if one["alert"] == alert)
    written = rule["annotations"]
    annotations = {
        "summary": SUMMARIES.get(alert, written["summary"]),
        "runbook": RUNBOOKS.get(alert, written["runbook"]),
    }
    return {"exp_labels": {**rule["labels"], **labels}, "exp_annotations": annotations}

"""Tests for the systemd units and manifests in docs/deployment: commands, rights and memory."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from scanner.settings import SECRETS, Settings
from tests.test_compose import OURS

DEPLOYMENT = Path(__file__).parent.parent / "docs" / "deployment"
BASE = DEPLOYMENT / "kubernetes" / "base"
PRODUCTION = DEPLOYMENT / "kubernetes" / "overlays" / "production"
UNITS = sorted((DEPLOYMENT / "systemd").glob("*.service"))
KNOWN = {f"R8SCAN_{field}".upper() for field in Settings.model_fields} | {f"R8SCAN_{name}_FILE" for name in SECRETS}


def documents(folder: Path) -> list[dict[str, Any]]:
    return [one for path in sorted(folder.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())]


WORKLOADS = {
    one["metadata"]["name"]: one
    for one in documents(BASE)
    if one["kind"] in ("Deployment", "Job") and one["metadata"]["name"] != "all"
}


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_is_watched_and_has_few_rights(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    for line in ("Type=notify", "NotifyAccess=main", "User=r8scan", "NoNewPrivileges=yes", "ProtectSystem=strict"):
        assert f"\n{line}\n" in text
    assert int(re.findall(r"^WatchdogSec=(\d+)$", text, re.MULTILINE)[0]) >= 30
    assert set(re.findall(r"R8SCAN_\w+", text)) <= KNOWN
    command = re.findall(r"^ExecStart=/opt/r8scan/.venv/bin/r8scan (\w+)$", text, re.MULTILINE)
    assert command in (["run"], ["serve"])
    if shutil.which("systemd-analyze"):
        copied = tmp_path / unit.name
        copied.write_text(text.replace("/opt/r8scan/.venv/bin/r8scan", "/bin/true"))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", copied], capture_output=True, text=True, check=False
        )
        assert (done.returncode, [line for line in done.stderr.splitlines() if unit.name in line]) == (0, [])


def test_kubernetes_starts_the_processes_of_compose() -> None:
    assert set(WORKLOADS) == set(OURS)
    for name, workload in WORKLOADS.items():
        container = workload["spec"]["template"]["spec"]["containers"][0]
        service = OURS[name]
        expected = [*service.get("entrypoint", []), *service["command"]]
        assert [*container.get("command", []), *container.get("args", [])] == expected, name


@pytest.mark.parametrize("kind", ["Deployment", "Job"])
def test_every_pod_is_hardened_and_probed(kind: str) -> None:
    pod = yaml.safe_load((BASE / f"hardened-{kind.lower()}.yaml").read_text())["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    container = pod["containers"][0]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {one["name"] for one in container["env"]} <= KNOWN
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    if kind == "Deployment":
        for probe in ("startupProbe", "livenessProbe"):
            assert container[probe]["exec"]["command"] == ["python", "-m", "workers.alive"]
    patches = yaml.safe_load((BASE / "kustomization.yaml").read_text())["patches"]
    assert {"path": f"hardened-{kind.lower()}.yaml", "target": {"kind": kind}} in patches


def test_every_container_has_limits_and_every_file_is_part_of_the_base() -> None:
    for name, workload in WORKLOADS.items():
        resources = workload["spec"]["template"]["spec"]["containers"][0]["resources"]
        assert {"cpu", "memory"} == set(resources["limits"]) == set(resources["requests"]), name
    base = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    named = {*base["resources"], *(patch["path"] for patch in base["patches"]), "kustomization.yaml"}
    assert {path.name for path in BASE.iterdir()} == named


def test_only_traffic_that_the_policies_name_reaches_the_pods() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in documents(BASE) if one["kind"] == "NetworkPolicy"}
    assert policies["r8scan"]["podSelector"] == {}
    assert policies["r8scan"]["ingress"] == []
    assert set(policies["r8scan"]["policyTypes"]) == {"Ingress", "Egress"}
    assert all("ports" in rule for rule in policies["r8scan"]["egress"])


def test_the_overlay_names_settings_and_a_workload_that_exist() -> None:
    lines = (PRODUCTION / "settings.env").read_text().splitlines()
    names = {line.partition("=")[0] for line in lines}
    assert {"R8SCAN_EMAIL_FROM", "R8SCAN_OPERATOR_EMAIL"} <= names <= KNOWN
    scaled = yaml.safe_load((PRODUCTION / "scaling.yaml").read_text())["spec"]
    assert scaled["scaleTargetRef"]["name"] in WORKLOADS
    metrics = (DEPLOYMENT.parent / "metrics.md").read_text()
    for metric in re.findall(r"r8scan_\w+", scaled["triggers"][0]["metadata"]["query"]):
        assert f"`{metric}`" in metrics

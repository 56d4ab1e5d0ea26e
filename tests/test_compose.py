"""The compose file fits the published schema, and every service, command, variable and file in it exists."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from click import Context

from scanner.settings import SECRETS, Settings

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service.get("build")}


def test_it_fits_the_published_schema() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    result = subprocess.run([*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_every_service_restarts_checks_its_health_and_waits_for_services_that_exist(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service.get("restart")
    assert "healthcheck" in service or name == "migrate"
    for other, condition in service.get("depends_on", {}).items():
        assert other in COMPOSE["services"]
        wanted = condition["condition"]
        assert wanted != "service_healthy" or "healthcheck" in COMPOSE["services"][other]
        assert wanted != "service_completed_successfully" or other == "migrate"
    for volume in service.get("volumes", ()):
        assert volume.split(":")[0] in COMPOSE["volumes"]
    for secret in service.get("secrets", ()):
        assert secret in COMPOSE["secrets"]


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_variable_is_a_setting_and_every_secret_comes_by_file(name: str) -> None:
    known = {f"R8SCAN_{field}".upper() for field in Settings.model_fields}
    files = {f"R8SCAN_{secret}_FILE": f"/run/secrets/{secret.lower()}" for secret in SECRETS}
    for variable, value in OURS[name]["environment"].items():
        assert variable in known | set(files)
        if variable in files:
            assert value == files[variable]
        used = re.findall(r"\$\{(\w+)", value)
        assert set(used) <= known


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_command_exists(name: str) -> None:
    service = OURS[name]
    command = [*service.get("entrypoint", ["r8scan"]), *service.get("command", [])]
    if command[0] == "celery":
        from celery.bin.celery import celery

        subcommand = celery.get_command(Context(celery), command[3])
        assert command[1:3] == ["-A", "workers"]
        options = {option for parameter in subcommand.params for option in parameter.opts}
        assert {part.split("=")[0] for part in command[4:] if part.startswith("--")} <= options
        queues = re.findall(r"--queues ([\w,]+)", " ".join(command))
        from celeryconfig import task_queues

        assert set(",".join(queues).split(",")) - {""} <= {queue.name for queue in task_queues}
    else:
        from workers.cli.app import build

        own = build()
        commands = {item.name for item in own.registered_commands}
        if command[1] in commands:
            root: Any = typer.main.get_command(own)
            options = {option for parameter in root.commands[command[1]].params for option in parameter.opts}
            assert {part for part in command[2:] if part.startswith("--")} <= options
            return
        groups = {group.name: group.typer_instance for group in own.registered_groups}
        group = groups[command[1]]
        assert group is not None
        names = {item.name or item.callback.__name__ for item in group.registered_commands if item.callback}
        assert command[2] in names


def test_some_worker_consumes_each_queue() -> None:
    from celeryconfig import task_queues

    text = " ".join(" ".join(service.get("command", [])) for service in OURS.values())
    consumed = set(",".join(re.findall(r"--queues ([\w,]+)", text)).split(","))
    assert consumed == {queue.name for queue in task_queues}


def test_workers_can_be_scaled() -> None:
    worker = COMPOSE["services"]["worker"]
    assert "container_name" not in worker
    assert "ports" not in worker


def test_the_image_copies_only_what_exists_and_does_not_run_as_root() -> None:
    text = (ROOT / "Dockerfile").read_text()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists()
    users = re.findall(r"^USER (\w+)$", text, re.MULTILINE)
    assert users[-1:] == ["r8scan"]
    assert re.search(r"^FROM python:\S+-slim$", text, re.MULTILINE)


def test_polling_shares_no_pool_with_anything_else() -> None:
    """Whatever hangs in a scan, a mail or a look-up must not take a thread from polling."""
    from workers.supervisor import services

    in_compose = [re.findall(r"--queues ([\w,]+)", " ".join(service.get("command", []))) for service in OURS.values()]
    in_run = [re.findall(r"-Q ([\w,]+)", " ".join(service.arguments)) for service in services(2)]
    for consumed in (in_compose, in_run):
        assert [queues for found in consumed for queues in found if "polling" in queues] == ["polling"]


def test_only_polls_are_put_into_the_queue_of_polls() -> None:
    from celeryconfig import task_default_queue, task_routes

    assert [task for task, route in task_routes.items() if route["queue"] == "polling"] == ["r8scan.poll"]
    assert task_default_queue != "polling"

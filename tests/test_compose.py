"""Tests that docker-compose.yml is valid, and that everything that it refers to exists."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
import typer.main
import yaml

from celeryconfig import task_default_queue, task_queues, task_routes
from scanner.child_processes import start_child
from scanner.settings import SECRETS, Settings
from workers.context import MAX_CONNECTIONS, OTHER_CONNECTIONS
from workers.embedded_redis import server_binary
from workers.sandbox.world import until
from workers.supervisor import ROLES, Service, services

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
OURS = {name: service for name, service in COMPOSE["services"].items() if service.get("build")}


def test_the_compose_file_fits_the_published_schema() -> None:
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
    from workers.cli.app import build

    root: Any = typer.main.get_command(build())
    words = OURS[name]["command"]
    reached = root.commands[words[0]]
    for word in words[1:]:
        reached = reached.commands[word] if hasattr(reached, "commands") else reached
    options = {option for parameter in reached.params for option in parameter.opts}
    assert {part for part in words if part.startswith("--")} <= options


def started(name: str) -> list[Service]:
    """Return the processes that `r8scan run` starts in the container `name`."""
    words = OURS[name]["command"]
    if words[0] != "run":
        return []
    processes = int(words[words.index("--processes") + 1]) if "--processes" in words else 2
    only = words[words.index("--only") + 1].split(",")
    assert set(only) <= set(ROLES)
    return services(processes, only)


def queues_of(service: Service) -> set[str]:
    return set(",".join(re.findall(r"-Q ([\w,]+)", " ".join(service.arguments))).split(",")) - {""}


def test_each_role_is_started_once_and_scanners_by_the_service_that_is_scaled() -> None:
    names = [service.name.partition("-")[0] for name in OURS for service in started(name)]
    assert sorted(set(names)) == sorted(ROLES)
    assert {service.name.partition("-")[0] for service in started("worker")} == {"scanner"}
    assert all(names.count(role) == 1 for role in ROLES if role != "scanner")


@pytest.mark.parametrize("name", sorted(COMPOSE["services"]))
def test_every_service_is_limited_and_has_no_privileges(name: str) -> None:
    service = COMPOSE["services"][name]
    limits = service["deploy"]["resources"]["limits"]
    assert float(limits["cpus"]) > 0
    assert re.fullmatch(r"\d+[MG]", limits["memory"])
    assert limits["pids"] > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "/tmp" in [mount.split(":")[0] for mount in service["tmpfs"]]
    assert all(":size=" in mount for mount in service["tmpfs"])
    assert "privileged" not in service
    assert set(service.get("cap_add", ())) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_redis_asks_for_the_password_of_a_file_and_is_not_reached_from_outside() -> None:
    service = COMPOSE["services"]["redis"]
    assert service["networks"] == COMPOSE["services"]["postgres"]["networks"] == ["backend"]
    assert COMPOSE["networks"]["backend"] == {"internal": True}
    assert service["secrets"] == ["redis_password"]
    for name in OURS:
        assert "redis_url" in OURS[name]["secrets"]
        assert "R8SCAN_REDIS_URL" not in OURS[name]["environment"]


def test_the_command_of_redis_starts_a_server_that_asks_for_the_password(tmp_path: Path) -> None:
    secret, folder = tmp_path / "redis_password", tmp_path / "tmp"
    secret.write_text("a password'\n")
    folder.mkdir()
    command = COMPOSE["services"]["redis"]["command"][2].replace("$$", "$").replace("/tmp/", f"{folder}/")
    command = command.replace("redis-server ", f"{server_binary()} ", 1).replace(
        "/run/secrets/redis_password", str(secret)
    )
    socket = tmp_path / "redis.sock"
    child = start_child(["sh", "-c", f"{command} --port 0 --unixsocket {socket}"])
    stranger, client = (redis.Redis(unix_socket_path=str(socket), password=word) for word in (None, "a password'"))
    try:
        until(lambda: child.poll() is not None or socket.exists(), 30)
        assert client.ping()
        with pytest.raises(redis.AuthenticationError):
            stranger.ping()
        assert client.info("memory")["maxmemory"] == 256 * 1024**2
        with pytest.raises(redis.ResponseError, match="unknown command"):
            client.config_set("proto-max-bulk-len", "512mb")
        with pytest.raises(redis.RedisError):
            client.lpush("polling", b"x" * 1_100_000)
        assert (folder / "redis.conf").stat().st_mode & 0o077 == 0
    finally:
        client.close()
        stranger.close()
        child.kill()
        child.wait()
    for spoil in (lambda: secret.write_text("\n"), secret.unlink):
        spoil()
        refused = subprocess.run(["sh", "-c", command], capture_output=True, timeout=30, check=False)
        assert refused.returncode != 0, "it must not start without a password"


def test_images_are_named_by_digest() -> None:
    images = [service["image"] for name, service in COMPOSE["services"].items() if name not in OURS]
    images += re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert len(images) > 5
    assert [image for image in images if not re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", image)] == []


def test_images_are_moved_to_newer_digests_by_a_command(tmp_path: Path) -> None:
    for name in ("docker-compose.yml", "Dockerfile"):
        shutil.copy(ROOT / name, tmp_path)
    digest = "sha256:" + "0123456789abcdef" * 4
    docker = tmp_path / "docker"
    docker.write_text(f'#!/bin/sh\n[ "$1 $2 $3" = "buildx imagetools inspect" ] && echo {digest}\n')
    docker.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for _ in range(2):
        subprocess.run(["sh", str(ROOT / ".ci" / "pin-images")], cwd=tmp_path, env=environment, check=True)
        compose = yaml.safe_load((tmp_path / "docker-compose.yml").read_text())
        images = {name: service["image"] for name, service in compose["services"].items() if name not in OURS}
        before = {name: COMPOSE["services"][name]["image"].split("@")[0] for name in images}
        assert images == {name: f"{image}@{digest}" for name, image in before.items()}
        text = (tmp_path / "Dockerfile").read_text()
        assert len(re.findall(rf"^FROM python:\S+-slim@{digest}( AS build)?$", text, re.MULTILINE)) == 2
    docker.write_text("#!/bin/sh\necho no network\n")
    failed = subprocess.run(
        ["sh", str(ROOT / ".ci" / "pin-images")], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert failed.returncode == 1
    assert b"no digest for" in failed.stderr


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
    assert re.search(r"^FROM python:\S+-slim(@sha256:[0-9a-f]{64})?$", text, re.MULTILINE)
    assert not text.startswith("# syntax="), "this line would make the build download a program by its tag"


def test_polling_shares_no_pool_with_anything_else() -> None:
    in_compose = [service for name in OURS for service in started(name)]
    for found in (in_compose, services(2)):
        assert [queues_of(service) for service in found if "polling" in queues_of(service)] == [{"polling"}]
        assert set().union(*map(queues_of, found)) == {queue.name for queue in task_queues}


def test_only_polls_and_the_doctors_echo_are_put_into_the_queue_of_polls() -> None:
    assert [task for task, route in task_routes.items() if route["queue"] == "polling"] == [
        "r8scan.poll_due",
        "r8scan.poll",
        "r8scan.echo_polling",
    ]
    assert task_default_queue != "polling"


def test_with_four_workers_all_connections_fit_the_default_of_postgresql() -> None:
    reserved, default = 3, 100  # PostgreSQL's superuser_reserved_connections and max_connections
    total = 0
    for name in OURS:
        if name == "migrate":
            continue
        # `started` returns no process for the web server, which is one process with the default limit.
        limits = [one.connections for one in started(name)] or [MAX_CONNECTIONS]
        total += sum(limit + OTHER_CONNECTIONS for limit in limits) * (4 if name == "worker" else 1)
    assert total <= default - reserved
    assert f"at most {total} connections" in (ROOT / "docs" / "operations.md").read_text()


def test_every_setting_is_passed_and_the_addresses_are_required() -> None:
    for name in OURS:
        service = OURS[name]
        assert service["env_file"] == [".env"]
        for variable in ("R8SCAN_EMAIL_FROM", "R8SCAN_OPERATOR_EMAIL"):
            assert re.fullmatch(rf"\$\{{{variable}:\?[^}}]+\}}", service["environment"][variable]), name


def test_profiles_bring_monitoring_and_a_mailbox_with_files_that_exist() -> None:
    profiles = {name: service["profiles"] for name, service in COMPOSE["services"].items() if "profiles" in service}
    assert profiles == {"mailbox": ["development"], "prometheus": ["monitoring"], "grafana": ["monitoring"]}
    for config in COMPOSE["configs"].values():
        assert (ROOT / config["file"]).is_file()
    for name in ("prometheus", "grafana"):
        assert {one["source"] for one in COMPOSE["services"][name]["configs"]} <= set(COMPOSE["configs"])
    scraped = yaml.safe_load((ROOT / "docs" / "monitoring" / "prometheus.yml").read_text())["scrape_configs"][0]
    assert scraped["static_configs"][0]["targets"] == ["web:8080"]
    assert "/run/secrets/metrics_key" in str(scraped["authorization"])

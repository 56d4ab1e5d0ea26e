"""Tests of the whole service with the same processes as in production."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import redis
from sqlalchemy import select

from scanner.records.models import db_now
from tests.end_to_end.conftest import disabled, idle, told, until
from tests.processes import children, core_dumps_allowed, family, that_may_dump_core
from tests.systemd import notified
from workers.embedded_redis import socket_path
from workers.health import processes as process_rows
from workers.sandbox import world
from workers.sandbox.workplace import Workplace
from workers.sandbox.world import World

MINUTE = 60.0
SECURITY_EVENTS = ("token_found", "token_disabled", "token_announced", "mail_sent")


def owners_mailed(surroundings: World) -> list[str]:
    """Return the recipients of all mails except the operator's, who gets a summary half a minute after an incident."""
    return [recipient for recipient in surroundings.mailbox.recipients if recipient != world.OPERATOR]


def processes(pid: int) -> dict[str, list[int]]:
    """Return the ids of the service's processes by name.

    A name is `redis`, a role (for example `poller`), or `<role> child` for its child processes.
    """
    found: dict[str, list[int]] = {}
    stack = [pid]
    while stack:
        parent = stack.pop()
        for child in children(parent):
            try:
                words = " ".join(child.cmdline()).split()  # a forked process has its whole command line in one string
            except psutil.NoSuchProcess:  # the process has ended
                continue
            stack.append(child.pid)
            roles = ("poller@", "responder@", "rescanner@", "scanner-", "beat")
            names = [role for role in roles for word in words if word.startswith(role)]
            names += ["redis" for word in words[:1] if "redis-server" in word]
            name = names[0].rstrip("@-") if names else "other"
            found.setdefault(f"{name} child" if parent != pid else name, []).append(child.pid)
    return found


def told_in_log(surroundings: World, number: int) -> None:
    """Assert that every log line is JSON, and that all kinds of security event were logged."""
    lines = [json.loads(line) for line in (surroundings.folder / "service.log").read_text().splitlines()]
    events = [line for line in lines if line["logger"] == "r8scan.security"]
    for kind in SECURITY_EVENTS:
        assert len({line["incident"] for line in events if line["kind"] == kind}) == number, kind
    assert all("job" in line for line in events if "/blob/" in str(line.get("url")))
    informing = {line["logger"] for line in lines if line["level"] == "info"}
    assert informing <= {"r8scan.security", "r8scan.summary", "workers.celery", "workers.supervisor"}


def leak(surroundings: World, token: str, number: int) -> None:
    name = f"ana/app{number}"
    surroundings.github.create_repository(name)
    work = surroundings.workplace(name, f"work{number}")
    work.write("app.py", f"x = '{token}'\n")
    work.commit("oops")
    work.push()


def test_a_token_is_found_in_every_kind_of_place_and_never_stored(
    surroundings: World, polling: Callable[[], bool], fresh_token: Callable[[], str]
) -> None:
    names = [
        "content",
        "message",
        "author",
        "path",
        "branch",
        "tag",
        "tag_message",
        "issue",
        "comment",
        "description",
        "title",
    ]
    tokens = {name: fresh_token() for name in names}
    digests = {name: surroundings.register(token, email=f"{name}@example.com") for name, token in tokens.items()}
    surroundings.github.create_repository("ana/app", description=f"bot {tokens['description']}")
    work = surroundings.workplace("ana/app")
    work.commit("first")
    work.push()
    with core_dumps_allowed(), surroundings.service() as service:
        until(polling, MINUTE)
        work.write(f"conf/{tokens['path']}/settings.py", "nothing\n")
        work.write("app.py", f"x = '{tokens['content']}'\n")
        named = Workplace(work.path, work.remote, author=f"{tokens['author']} <a@example.com>")
        named.commit(f"use {tokens['message']}")
        work.git("tag", "-a", f"v-{tokens['tag']}", "-m", tokens["tag_message"])
        work.git("branch", f"try-{tokens['branch']}")
        work.push("HEAD", "--tags")
        work.push(f"try-{tokens['branch']}")
        surroundings.github.open_issue("ana/app", f"help {tokens['title']}", f"curl -H 'Bearer {tokens['issue']}'")
        surroundings.github.comment("ana/app", f"mine is {tokens['comment']}")
        for name, digest in digests.items():
            until(lambda digest=digest: disabled(surroundings, digest), MINUTE), name  # type: ignore[misc]
        assert surroundings.mailbox.wait_for(len(names), MINUTE)
        until(lambda: idle(surroundings), MINUTE)
        assert not that_may_dump_core(family(service.pid))
        client = redis.Redis(unix_socket_path=str(socket_path(surroundings.state)))
        in_redis = b"".join(bytes(client.dump(key) or b"") for key in client.scan_iter())
        client.close()
    assert service.returncode == 0
    written = {path: path.read_bytes() for path in surroundings.state.rglob("*") if path.is_file()}
    written[Path("redis")] = in_redis
    written[Path("log")] = (surroundings.folder / "service.log").read_bytes()
    written[Path("mails")] = b"".join(bytes(message) for message in surroundings.mailbox.messages)
    for name, token in tokens.items():
        holders = [str(path) for path, content in written.items() if token.encode() in content]
        assert not holders, f"the token of {name} stands in {holders}"
    told_in_log(surroundings, len(names))
    assert any(digests["content"].encode() in content for content in written.values()), (
        "the search below must see what the service writes"
    )
    assert sorted(owners_mailed(surroundings)) == sorted(f"{name}@example.com" for name in names)


def test_a_leak_is_found_and_one_mail_sent_after_any_process_was_killed(
    surroundings: World, polling: Callable[[], bool], fresh_token: Callable[[], str]
) -> None:
    with surroundings.service() as service:
        until(polling, MINUTE)
        victims = ["poller", "responder", "scanner", "rescanner", "beat", "redis"]
        for number, victim in enumerate(victims, 1):
            token = fresh_token()
            digest = surroundings.register(token, email=f"ana{number}@example.com")
            pids = until(lambda victim=victim: processes(service.pid).get(victim), MINUTE)  # type: ignore[misc]
            leak(surroundings, token, number)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            until(lambda digest=digest: disabled(surroundings, digest), MINUTE)  # type: ignore[misc]
            assert surroundings.mailbox.wait_for(number, MINUTE), victim
        assert service.poll() is None
    assert (len(owners_mailed(surroundings)), told(surroundings)) == (len(victims), len(victims))


def test_a_killed_service_leaves_no_process_and_a_restart_finishes_its_work(
    surroundings: World, polling: Callable[[], bool], fresh_token: Callable[[], str]
) -> None:
    token = fresh_token()
    digest = surroundings.register(token)
    with surroundings.service() as service:
        until(polling, MINUTE)
        pids = [pid for group in processes(service.pid).values() for pid in group]
        descriptors = [os.pidfd_open(pid) for pid in pids]
        leak(surroundings, token, 1)
        service.kill()
        service.wait()
        for descriptor in descriptors:
            ready = __import__("select").select([descriptor], [], [], MINUTE)[0]
            os.close(descriptor)
            assert ready, "a process outlived the service"
    with surroundings.service():
        until(lambda: disabled(surroundings, digest), MINUTE)
        assert surroundings.mailbox.wait_for(1, MINUTE)
        until(lambda: idle(surroundings), MINUTE)
    assert (len(owners_mailed(surroundings)), told(surroundings)) == (1, 1)


def test_a_second_run_with_the_same_state_folder_ends_with_a_one_line_error(
    surroundings: World, polling: Callable[[], bool]
) -> None:
    with surroundings.service() as service:
        until(polling, MINUTE)
        second = surroundings.folder / "second.log"
        with surroundings.service(log=second) as other:
            assert other.wait(MINUTE) == 1
        assert f"already runs on {surroundings.state} (process {service.pid})" in second.read_text()
        assert len(second.read_text().splitlines()) == 1
    assert service.returncode == 0


def test_a_repository_is_rescanned_with_all_its_history_its_pull_requests_and_its_wiki(
    surroundings: World, polling: Callable[[], bool], fresh_token: Callable[[], str]
) -> None:
    old, in_pull_request, in_wiki = fresh_token(), fresh_token(), fresh_token()
    digests = [surroundings.register(token) for token in (old, in_pull_request, in_wiki)]
    surroundings.github.announce_pushes = False
    surroundings.github.create_repository("bo/app")
    work = surroundings.workplace("bo/app")
    work.write("a.txt", old)
    work.commit("old")
    work.write("a.txt", "gone")
    work.commit("gone")
    work.push()
    work.git("checkout", "-q", "-b", "topic")
    work.write("b.txt", in_pull_request)
    work.commit("proposal")
    work.push("HEAD:refs/pull/1/head")
    surroundings.github.create_repository("bo/app.wiki")
    wiki = surroundings.workplace("bo/app.wiki", "wiki")
    wiki.write("Home.md", f"Set the token to {in_wiki}")
    wiki.commit("page")
    wiki.push()
    command = [os.sys.executable, "-m", "workers", "rescan", "repo", "bo/app", "--json"]  # type: ignore[attr-defined]

    def ready() -> bool:
        with surroundings.database.read() as session:
            running = process_rows.read(session, session.execute(select(db_now())).scalar_one())
        return polling() and process_rows.has_consumer(running, "rescans")

    with surroundings.service():
        until(ready, MINUTE)
        done = subprocess.run(
            command, env=surroundings.environment(), capture_output=True, text=True, timeout=90, check=False
        )
        assert done.returncode == 0, done.stderr
        for digest in digests:
            until(lambda digest=digest: disabled(surroundings, digest), MINUTE)  # type: ignore[misc]
        unknown = subprocess.run(
            [*command[:-2], "no/body"],
            env=surroundings.environment(),
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert unknown.returncode == 1
        assert "there is no public repository" in unknown.stderr
    assert not list((surroundings.state / "mirrors").iterdir())


def test_a_rescan_without_workers_is_recorded_and_the_command_says_so(surroundings: World) -> None:
    command = [os.sys.executable, "-m", "workers", "rescan", "repo", "bo/app", "--no-wait"]  # type: ignore[attr-defined]
    done = subprocess.run(
        command, env=surroundings.environment(), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert "waits, because r8scan run does not run here" in done.stderr
    assert not idle(surroundings)


@pytest.mark.parametrize("enforce", ["observe"])
def test_the_mode_observe_disables_nothing_and_notifies_the_operator(
    tmp_path: Path, fresh_token: Callable[[], str], enforce: str
) -> None:

    with world.running(tmp_path / "w", enforce=enforce) as surroundings:
        token = fresh_token()
        digest = surroundings.register(token)
        with surroundings.service():
            leak(surroundings, token, 1)
            assert surroundings.mailbox.wait_for(1, MINUTE)
        assert surroundings.mailbox.recipients == [world.OPERATOR]
        assert not disabled(surroundings, digest)
        assert surroundings.answer(token) == 200


def test_the_service_runs_on_postgresql_and_with_an_external_redis(
    tmp_path: Path, postgresql_url: str, redis_socket: str, fresh_token: Callable[[], str]
) -> None:
    urls = {"database_url": postgresql_url, "redis_url": f"redis+socket://{redis_socket}"}
    socket = tmp_path / "notify"
    with world.running(tmp_path / "w", **urls) as surroundings, notified(socket) as received:
        tokens = [fresh_token() for _ in range(3)]
        digests = [surroundings.register(token, email=f"{number}@example.com") for number, token in enumerate(tokens)]
        with surroundings.service("--processes", "2", NOTIFY_SOCKET=str(socket)) as service:
            for number, token in enumerate(tokens):
                leak(surroundings, token, number)
            for digest in digests:
                until(lambda digest=digest: disabled(surroundings, digest), MINUTE)  # type: ignore[misc]
            assert surroundings.mailbox.wait_for(len(tokens), MINUTE)
            assert "redis" not in processes(service.pid)
            until(lambda: len(received()) > 1, MINUTE)
        to_systemd = received()
        assert to_systemd[:2] == [(service.pid, "READY=1\nWATCHDOG=1"), (service.pid, "WATCHDOG=1")]
        assert {pid for pid, _ in to_systemd} == {service.pid}, (
            "systemd would log a warning for a message of any other process"
        )
        assert service.returncode == 0
        assert told(surroundings) == len(tokens)

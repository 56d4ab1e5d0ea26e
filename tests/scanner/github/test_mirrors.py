"""Tests for copying repositories, also when git is stopped or too slow."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import stamina

from scanner.git_children import environment
from scanner.github import mirrors
from scanner.github.client import GitHub, connect
from scanner.github.errors import RateLimited, Unavailable
from scanner.github.mirrors import MirrorStopped, clone, git_environment, missing_commits
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.workplace import Workplace


@pytest.fixture
def silent() -> Iterator[str]:
    """Yield the address of a server that accepts connections and never answers."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def github(silent: str) -> Iterator[GitHub]:
    client = connect(f"{silent}/api", silent, None)
    yield client
    client.close()


def helpers() -> list[psutil.Process]:
    """Return the git processes that this process or its children have started."""
    return [child for child in psutil.Process().children(recursive=True) if "git" in child.name()]


@stamina.retry(on=AssertionError, attempts=None, timeout=60, wait_initial=0.05, wait_max=0.2)
def await_helper() -> list[psutil.Process]:
    found = helpers()
    assert any("remote-http" in child.name() for child in found)
    return found


def test_stopping_a_clone_ends_git_and_its_helpers(
    github: GitHub, silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    seen: list[psutil.Process] = []

    def stop_when_it_runs() -> None:
        with stamina.set_testing(False):
            seen.extend(await_helper())
        stop.set()

    watcher = threading.Thread(target=stop_when_it_runs)
    monkeypatch.setattr(mirrors, "CHECK_SECONDS", 0.05)
    watcher.start()
    with pytest.raises(MirrorStopped):
        clone(github, f"{silent}/ana/app.git", tmp_path / "m.git", limit_bytes=1 << 20, stop=stop)
    watcher.join()
    assert len(seen) >= 2
    _, alive = psutil.wait_procs(seen, timeout=60)
    assert alive == []


def test_a_clone_beyond_its_time_ends_git_and_its_helpers(
    github: GitHub, silent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirrors, "CHECK_SECONDS", 0.05)
    times = iter([0.0])
    with pytest.raises(Unavailable, match="took longer"):
        clone(
            github,
            f"{silent}/ana/app.git",
            tmp_path / "m.git",
            limit_bytes=1 << 20,
            stop=threading.Event(),
            clock=lambda: next(times, 1e9),
        )
    _, alive = psutil.wait_procs(helpers(), timeout=60)
    assert alive == []


def test_commits_that_git_cannot_check_count_as_missing(tmp_path: Path) -> None:
    work = Workplace(tmp_path / "work", "nowhere")
    work.start()
    there = work.commit("x")
    gone = "1" * 40
    assert missing_commits(work.path / ".git", [there, gone]) == [gone]
    git_dir = tmp_path / "no-repository"
    git_dir.mkdir()
    assert missing_commits(git_dir, [there, gone]) == [there, gone]


def test_network_git_has_all_the_safe_settings_and_only_http() -> None:
    def settings(variables: dict[str, str]) -> dict[str, str]:
        count = int(variables["GIT_CONFIG_COUNT"])
        return {variables[f"GIT_CONFIG_KEY_{n}"]: variables[f"GIT_CONFIG_VALUE_{n}"] for n in range(count)}

    local, network = settings(environment()), settings(git_environment(None, ""))
    assert local.items() <= network.items()
    assert network["protocol.allow"] == "never"
    allowed = {key for key, value in network.items() if key.startswith("protocol.") and value == "always"}
    assert allowed == {"protocol.http.allow", "protocol.https.allow"}


def test_a_clone_that_github_throttles_is_a_limit_of_git(
    client: GitHub, sandbox: SandboxGitHub, tmp_path: Path
) -> None:
    sandbox.create_repository("ana/app")
    sandbox.git_limit = 0
    url = f"{sandbox.url}/ana/app.git"
    for asked in (True, False):
        with pytest.raises(RateLimited) as caught:
            clone(client, url, tmp_path / "mirror", limit_bytes=1 << 20, stop=threading.Event())
        assert caught.value.asked is asked

"""Measures the CPU time, the memory and the delay that each hostile input costs r8scan."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path

import httpx

from scanner.child_processes import start_child
from scanner.detection.digests import sha256_digest
from tests.hostile import github as hostile_github
from tests.hostile import service as hostile_service
from tests.hostile.measured import Measurer
from tests.hostile.processes import Watch
from tests.hostile.registry import HostileInput, token_of
from tests.hostile.repositories import make_repository
from tests.hostile.service import REPORT_KEY, Service, wait_for_tokens

MAX_SCAN_SECONDS = 120.0
SCAN_MEMORY = 3 << 30
"""The limit of the address space of `r8scan scan`, in bytes. It protects the machine."""
NEIGHBOUR_SECONDS = 25.0
GIST_SECONDS = 90.0
IDLE_SECONDS = 60.0

PUSHED = (
    *("sqlite-generated-search", "sqlite-generated-row", "seven-zip-entries", "tar-digits", "pdf-zeros-in-streams"),
    *("text-stream-starts", "text-needles", "text-invented-tokens", "zip-layers", "gzip-leak-before-bomb"),
    "embedded-zstd-beginnings",
)
"""The names of hostile files that the benchmark also pushes to a repository, for the service to read."""
IN_GISTS = ("sqlite-generated-search", "text-stream-starts", "tar-digits")
COUNTED = ("unread_", "error_", "given_up", "event_", "unusable_", "lost_", "refused", "skipped_", "over_")


@dataclass(slots=True)
class Row:
    """The measured cost of one hostile input: a row of the table in docs/security.md.

    CPU times and the delay are in seconds, and `size` is in bytes.

    Attributes:
        has_neighbour: Whether a leaked token was published together with the hostile input.
        neighbour_seconds: The seconds from this token's publication until r8scan disabled it.
        recorded: What r8scan counted as unread or refused.
        failure: The message of an unexpected error, or an empty string.
    """

    name: str
    family: str
    attack: str
    way: str
    size: int
    reader_cpu: float = 0.0
    elsewhere_cpu: float = 0.0
    elsewhere: str = ""
    peak_mb: float = 0.0
    recorded: str = ""
    is_neighbour_found: bool = False
    has_neighbour: bool = True
    neighbour_seconds: float = 0.0
    failure: str = ""


def row_of(one: HostileInput, way: str, size: int) -> Row:
    """Return a row with zero in all measurements.

    Args:
        way: How r8scan gets the input, for example "push".
        size: The size of the input in bytes.
    """
    return Row(one.name, one.family, one.attack, way, size)


def of_scan(folder: Path, inputs: list[HostileInput]) -> Iterator[Row]:
    """Run `r8scan scan` on each hostile file and git history. Yield the cost of each.

    The CPU time of scanning one harmless file is subtracted.
    """
    harmless = folder / "harmless"
    harmless.mkdir()
    (harmless / "a.txt").write_text("nothing\n")
    usual = min(_scan(harmless, ()).elsewhere for _ in range(3))
    for one in inputs:
        if one.delivery not in ("file", "history"):
            continue
        scanned = folder / "scanned"
        scanned.mkdir(exist_ok=True)
        content = one.content()
        options: tuple[str, ...] = ()
        if one.delivery == "history":
            options, target = ("--history",), scanned / "repository.git"
            make_repository(target, content, one.neighbour)
        else:
            target = scanned
            (scanned / one.name).write_bytes(content)
            (scanned / "neighbour.py").write_bytes(b"key = '" + one.neighbour + b"'\n")
        done = _scan(target, options)
        row = row_of(one, "scan --history" if options else "scan", len(content))
        row.reader_cpu, row.elsewhere_cpu = done.readers, max(done.elsewhere - usual, 0.0)
        row.peak_mb, row.recorded, row.failure = done.peak_mb, done.recorded, done.failure
        row.elsewhere = "r8scan scan"
        row.is_neighbour_found = sha256_digest(one.neighbour) in done.digests
        if one.holds_leak and sha256_digest(one.leak) not in done.digests:
            row.failure = row.failure or "leak inside it missed"
        yield row
        subprocess.run(["rm", "-rf", str(scanned)], check=True)


@dataclass(slots=True)
class _Scan:
    """The CPU seconds of one `r8scan scan`, which uses several processes.

    Attributes:
        readers: The highest CPU time of a process that only reads content.
        elsewhere: The highest CPU time of any other process.
    """

    readers: float
    elsewhere: float
    peak_mb: float
    recorded: str
    failure: str
    digests: set[str] = field(default_factory=set)


def _scan(target: Path, options: tuple[str, ...]) -> _Scan:
    command = [str(Path(sys.executable).parent / "r8scan"), "scan", str(target), "--format", "json", *options]
    out, err = target.parent / "scan.out", target.parent / "scan.err"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("R8SCAN_")}
    with out.open("wb") as out_file, err.open("wb") as err_file:
        child = start_child(command, env=environment, own_group=True, stdout=out_file, stderr=err_file)
        resource.prlimit(child.pid, resource.RLIMIT_AS, (SCAN_MEMORY, SCAN_MEMORY))
        with Watch(child.pid) as watch:
            failure = ""
            try:
                # Do not collect the exit status yet. Once it is collected, the system forgets how much CPU time the
                # process used.
                _wait_without_reaping(child.pid, MAX_SCAN_SECONDS)
            except TimeoutError:
                failure = f"not ended after {MAX_SCAN_SECONDS:.0f} s"
        child.kill()
        child.wait()
    lines = out.read_text(errors="replace").splitlines()
    # Only lines about tokens have a digest. Other lines are about unread content.
    digests = {item["sha256"] for item in map(json.loads, lines) if "sha256" in item}
    unread = re.findall(r"not read: (\d+) × (.+)", err.read_text(errors="replace"))
    recorded = ", ".join(f"{reason} {count}" for count, reason in unread)
    if not failure and child.returncode not in (0, 1, 2):
        failure = f"exit status {child.returncode}"
    costs = watch.costs
    return _Scan(costs.most_of_a_reader(), costs.most_elsewhere().cpu, costs.peak_mb(), recorded, failure, digests)


def _wait_without_reaping(pid: int, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def in_service(folder: Path, inputs: list[HostileInput]) -> Iterator[Row]:
    """Send each hostile event, pack, gist and HTTP request to the running service. Yield the cost of each.

    If the service hangs, start a new one for the remaining inputs.
    """
    cases = list(_cases(inputs))
    number = 0
    while cases:
        number += 1
        with hostile_service.running(folder / f"service{number}") as service:
            idle = _idle_cost(service)
            is_well = True
            while cases and is_well:
                one, way = cases.pop(0)
                row = _case(service, one, way, idle)
                is_well = row.is_neighbour_found and service.is_idle()
                if not is_well or not cases:
                    problems = service.status()
                    row.failure = row.failure or (f"status: {problems[0]}" if problems else "")
                yield row
        left = left_running(folder / f"service{number}")
        if left:
            row = Row("after-the-service", "service", "processes that outlive the service", "run", 0)
            row.failure, row.has_neighbour = f"{len(left)} processes are left running", False
            yield row


class InGist(HostileInput):
    """A gist with a hostile input and with a file that leaks a token."""

    @property
    def neighbour(self) -> bytes:
        return token_of(f"beside {self.name} in a gist")


def _cases(inputs: list[HostileInput]) -> Iterator[tuple[HostileInput, str]]:
    ways = {"comment": "comment", "event": "event", "pack": "push", "alert": "alert", "leaked_token": "HTTP"}
    ways["usage"] = "HTTP"
    for one in inputs:
        if one.delivery in ways:
            yield one, ways[one.delivery]
        if one.name in PUSHED:
            yield one, "push"
        if one.name in IN_GISTS:
            # The token that was pushed with this input is already disabled, so the gist leaks another one.
            yield InGist(**{field.name: getattr(one, field.name) for field in fields(one)}), "gist"


def _idle_cost(service: Service) -> dict[int, float]:
    """Return the idle service's CPU seconds per second, by process id."""
    seconds = 5.0
    with Watch(*service.roots) as watch:
        time.sleep(seconds)
    return {pid: cost.cpu / seconds for pid, cost in watch.costs.by_pid.items()}


def _case(service: Service, one: HostileInput, way: str, idle: dict[int, float]) -> Row:
    content = one.content()
    row = row_of(one, way, len(content))
    digest = service.register(one.neighbour.decode())
    before = service.counts()
    started, began = time.time(), time.monotonic()
    with Watch(*service.roots) as watch:
        answer = _DELIVER[way](service, one, content)
        found = wait_for_tokens(service, {digest}, GIST_SECONDS if way == "gist" else NEIGHBOUR_SECONDS)
        row.failure = "" if _ends(service) else f"work not ended after {IDLE_SECONDS:.0f} s"
        row.failure = row.failure or ("refused by an error of ours" if "HTTP 5" in answer else "")
    # Empty the list of events. Otherwise, the service would read this event again together with the next input.
    service.github.window.clear()
    seconds = time.monotonic() - began
    for pid, cost in watch.costs.by_pid.items():
        cost.cpu = max(cost.cpu - idle.get(pid, 0.0) * seconds, 0.0)
    most = watch.costs.most_elsewhere()
    row.reader_cpu, row.elsewhere_cpu = watch.costs.most_of_a_reader(), most.cpu
    row.elsewhere, row.peak_mb = most.name, watch.costs.peak_mb()
    row.is_neighbour_found = digest in found
    visible = service.github.visible.get(one.neighbour.decode(), started)
    row.neighbour_seconds = max(found.get(digest, 0.0) - visible, 0.0)
    row.recorded = ", ".join(filter(None, [answer, _newly_counted(before, service.counts())]))
    return row


def _ends(service: Service) -> bool:
    deadline = time.monotonic() + IDLE_SECONDS
    while not service.is_idle():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _newly_counted(before: dict[str, int], after: dict[str, int]) -> str:
    new = {name: count - before.get(name, 0) for name, count in after.items() if name.startswith(COUNTED)}
    return ", ".join(
        f"{name.removeprefix('unread_').replace('_', ' ')} {count}" for name, count in new.items() if count
    )


def _neighbour_text(one: HostileInput) -> str:
    return f"key = '{one.neighbour.decode()}'\n"


def _by_comment(service: Service, one: HostileInput, content: bytes) -> str:
    beside = hostile_github.comment(_neighbour_text(one), one.neighbour.decode())
    service.github.show(hostile_github.comment(content.decode("utf-8", "replace")), beside)
    return ""


def _by_event(service: Service, one: HostileInput, content: bytes) -> str:
    beside = hostile_github.comment(_neighbour_text(one), one.neighbour.decode())
    service.github.show_raw(content)
    service.github.show(beside)
    return ""


def _by_push(service: Service, one: HostileInput, content: bytes) -> str:
    if one.delivery == "pack":
        hostile = hostile_github.push_of_pack(content, sha256_digest(one.name.encode())[:40])
        beside = hostile_github.push({b"a.py": _neighbour_text(one).encode()}, one.neighbour.decode())
        service.github.show(hostile, beside)
    else:
        files = {b"hostile": content, b"neighbour.py": _neighbour_text(one).encode()}
        service.github.show(hostile_github.push(files, one.neighbour.decode()))
    return ""


def _by_gist(service: Service, one: HostileInput, content: bytes) -> str:
    service.github.show_gist({"hostile": content, "neighbour.py": _neighbour_text(one).encode()})
    return ""


def _by_alert(service: Service, one: HostileInput, content: bytes) -> str:
    record = {"token": one.neighbour.decode(), "type": "x", "url": "https://github.com/a/b", "source": "content"}
    first = _status(lambda: service.alert(content))
    return f"{first}, then {_status(lambda: service.alert(json.dumps([record]).encode()))}"


def _by_http(service: Service, one: HostileInput, content: bytes) -> str:
    json_type = {"Content-Type": "application/json"}
    path = "/leaked-token" if one.delivery == "leaked_token" else "/usage"
    headers = {**json_type, "Authorization": f"Bearer {REPORT_KEY}"}
    answer = _status(lambda: service.post(path, content, headers))
    report = json.dumps({"token": one.neighbour.decode(), "url": ""}).encode()
    return f"{answer}, then {_status(lambda: service.post('/leaked-token', report, json_type))}"


def _status(ask: Callable[[], httpx.Response]) -> str:
    try:
        return f"HTTP {ask().status_code}"
    except httpx.HTTPError as err:
        return type(err).__name__


_DELIVER = {
    "comment": _by_comment,
    "event": _by_event,
    "push": _by_push,
    "gist": _by_gist,
    "alert": _by_alert,
    "HTTP": _by_http,
}


def left_running(folder: Path) -> list[int]:
    """Return the ids of the service's processes that still run.

    `folder` is the service's folder.
    """
    sign = str(folder).encode()
    found: list[int] = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if int(name) != os.getpid() and sign in Path(f"/proc/{name}/environ").read_bytes():
                found.append(int(name))
    return found


def of_edges(folder: Path, inputs: list[HostileInput]) -> Iterator[Row]:
    """Measure the redaction of texts and the parsing of mails. Yield the cost of each input."""
    path = folder / "edge"
    with Measurer() as measurer:
        for one in inputs:
            if one.delivery not in ("text", "bounce"):
                continue
            path.write_bytes(one.content())
            done = measurer.run("redact" if one.delivery == "text" else "bounce", path, cpu_seconds=60)
            row = row_of(one, "redact" if one.delivery == "text" else "mail", path.stat().st_size)
            row.elsewhere_cpu, row.elsewhere, row.peak_mb = done.cpu, "the process itself", done.memory_mb
            row.recorded = str(done.result.get("refused", ""))
            row.failure = "" if done.ended == "well" else f"ended by {done.ended}"
            row.has_neighbour = False
            yield row

"""Runs single tasks in child processes with resource limits, and measures their CPU time and peak memory."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scanner.child_processes import die_with_parent

MAX_CPU_SECONDS = 10
"""The maximum CPU time for reading hostile content."""
MAX_MEMORY_MB = 400
SAFETY_MEMORY_MB = 1500
"""The limit for the address space of the measured process, which protects the machine. Tests allow less memory."""


@dataclass(frozen=True, slots=True)
class Measured:
    """The cost and the result of one task.

    Attributes:
        cpu: The CPU time in seconds.
        memory_mb: The peak memory in MiB.
        ended: How the task ended: "well", or the name of an exception or a signal.
    """

    cpu: float
    memory_mb: float
    ended: str
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""

    @property
    def is_within_limits(self) -> bool:
        return self.ended == "well" and self.cpu <= MAX_CPU_SECONDS and self.memory_mb <= MAX_MEMORY_MB

    def __str__(self) -> str:
        return f"{self.cpu:.1f} s of CPU, {self.memory_mb:.0f} MB, ended {self.ended} {self.error}"


class Measurer:
    """A context manager that runs tasks in child processes and measures their cost."""

    def __enter__(self) -> Measurer:
        parent = os.getpid()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.measured"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=lambda: die_with_parent(parent),
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.close()
        self._child.wait(60)
        self._child.stdout.close()

    def run(self, work: str, path: Path, *, cpu_seconds: int = MAX_CPU_SECONDS) -> Measured:
        """Run one task on the content of a file. Return its cost and result.

        Args:
            work: The task's key in WORK.
            cpu_seconds: The limit on CPU time, in seconds.
        """
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        request = {"work": work, "path": str(path), "cpu_seconds": cpu_seconds}
        self._child.stdin.write(json.dumps(request).encode() + b"\n")
        self._child.stdin.flush()
        return Measured(**json.loads(self._child.stdout.readline()))


def _read(content: bytes) -> dict[str, Any]:
    """Find the tokens in `content`. Return the digests of the tokens, and the counts of unread content."""
    from scanner.detection.digests import sha256_digest
    from scanner.detection.engine import all_findings
    from scanner.detection.limits import Limits, Meter

    # Let the time limits count CPU time instead of wall time, so that they do not depend on how busy the machine is.
    meter = Meter(Limits(), len(content), time.process_time)
    found = all_findings(content, "hostile", meter)
    digests = {sha256_digest(finding.token) for finding in found[:1000]}
    return {"unread": dict(meter.unread), "found": len(found), "digests": sorted(digests)}


def _redact(content: bytes) -> dict[str, Any]:
    from scanner.detection import redact

    text = content.decode("utf-8", "surrogateescape")
    return {"characters": len(redact(text))}


def _read_pack(content: bytes) -> dict[str, Any]:
    from scanner.detection.deep_reading import InProcessReader
    from scanner.detection.git.pack_scanning import PackRequest
    from scanner.detection.git.packs import PackLimits
    from scanner.detection.limits import Limits

    reader = InProcessReader(Limits(), time.process_time)
    answer = reader.read_pack(content, PackRequest(PackLimits(), "sha1", (), 8.0))
    return {"unread": dict(answer.scan.unread), "objects": answer.scan.objects, "deferred": len(answer.deferred)}


def _read_event(content: bytes) -> dict[str, Any]:
    from scanner.github.hostile_json import parse_json
    from scanner.sources.timeline.events import parse_event, read_events

    payload = parse_json(content)
    value = {"id": "1", "repo": {"id": 1, "name": "a/b"}, "created_at": "2026-01-01T00:00:00Z", **payload}
    event = parse_event(value)
    found = read_events([event] if event is not None else [], "https://github.com")
    return {"counts": dict(found.counts), "documents": len(found.documents)}


def _read_alerts(content: bytes) -> dict[str, Any]:
    from scanner.detection import sha256_digest
    from scanner.sources.alerts import NotAlerts, TooManyAlerts, parse_alerts

    try:
        found = parse_alerts(content, sha256_digest, "https://github.com")
    except (NotAlerts, TooManyAlerts) as err:
        return {"refused": str(err)}
    return {"counts": dict(found.counts), "digests": [one.candidate.digest for one in found.alerts]}


def _read_usage(content: bytes) -> dict[str, Any]:
    from datetime import UTC, datetime

    from scanner.compromise.networks import NetworkList
    from scanner.compromise.usage_records import BadRecord, RecordReader
    from scanner.detection import sha256_digest

    reader = RecordReader(sha256_digest, NetworkList([]), datetime.now(UTC))
    bad = 0
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    for line in filter(None, lines):
        try:
            reader.read(line)
        except BadRecord:
            bad += 1
    return {"bad": bad}


def _read_bounce(content: bytes) -> dict[str, Any]:
    from notifications.email.bounces import NotABounce, read_bounce

    try:
        return {"bounce": read_bounce(content).reason}
    except NotABounce as err:
        return {"refused": str(err)}


WORK: dict[str, Callable[[bytes], dict[str, Any]]] = {
    "read": _read,
    "redact": _redact,
    "pack": _read_pack,
    "event": _read_event,
    "alert": _read_alerts,
    "usage": _read_usage,
    "bounce": _read_bounce,
}


def _measure(request: dict[str, Any]) -> dict[str, Any]:
    """Run one task in a child process. Return the fields of a `Measured`."""
    receive, send = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(receive)
        _work(request, send)
    os.close(send)
    with os.fdopen(receive, "rb") as pipe:
        answer = pipe.read()
    _, status, usage = os.wait4(pid, 0)
    ended, told = "well", {}
    if os.WIFSIGNALED(status):
        ended = signal.Signals(os.WTERMSIG(status)).name
    else:
        told = json.loads(answer)
        ended = told.pop("ended")
    cpu = usage.ru_utime + usage.ru_stime
    return {"cpu": cpu, "memory_mb": usage.ru_maxrss / 1024, "ended": ended, **told}


def _work(request: dict[str, Any], send: int) -> None:
    """Run one task, write the result as JSON to the file descriptor `send`, and exit."""
    told: dict[str, Any]
    try:
        content = Path(request["path"]).read_bytes()
        resource.setrlimit(resource.RLIMIT_CPU, (request["cpu_seconds"], request["cpu_seconds"] + 1))
        resource.setrlimit(resource.RLIMIT_AS, (SAFETY_MEMORY_MB << 20, SAFETY_MEMORY_MB << 20))
        told = {"ended": "well", "result": WORK[request["work"]](content)}
    except BaseException as err:  # noqa: BLE001 - the exception is what is reported
        last = traceback.extract_tb(err.__traceback__)[-1]
        told = {"ended": type(err).__name__, "error": f"{str(err)[:200]} ({Path(last.filename).name}:{last.lineno})"}
    with suppress(BrokenPipeError), os.fdopen(send, "wb") as pipe:
        pipe.write(json.dumps(told).encode())
    os._exit(0)


def main() -> None:
    """Run the task that each line of standard input describes."""
    import tests.hostile.preloaded  # noqa: F401 - so that no fork pays for the imports

    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(json.dumps(_measure(json.loads(line))).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()

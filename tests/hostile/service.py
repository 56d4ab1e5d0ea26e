"""Runs r8scan and its web server with a simulated GitHub, which can show hostile content."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from sqlalchemy import and_, func, or_, select

from scanner.child_processes import start_child
from scanner.detection.digests import sha256_digest
from scanner.detection.patterns.token_formats import hint_of
from scanner.records import schema, tallies
from scanner.records.database import Database
from scanner.records.models import ApiToken, ScanJob, db_now
from scanner.records.source_models import SourceState
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from tests.benchmarks.firehose import Prepared
from tests.hostile import github as hostile_github
from tests.hostile.github import HostileGitHub
from workers.sandbox import mailbox
from workers.sandbox.mailbox import Mailbox
from workers.sandbox.world import until

REPORT_KEY = "the-key-of-internal-systems"
SAFETY_MEMORY = 3 << 30
"""The limit for the address space of each process, in bytes. It protects the machine."""
READY_SECONDS = 300.0
SOURCES = ("public_events", "gists")
_networks = itertools.count(1)
UNSET = ("mails_go_nowhere", "sender_not_set", "operator_not_set")


@dataclass
class Service:
    """A running r8scan.

    `process` is the process of `r8scan run`. `web` is the process of `r8scan serve`, and `url` is its address.
    """

    folder: Path
    github: HostileGitHub
    mailbox: Mailbox
    database: Database
    environment: Mapping[str, str]
    process: subprocess.Popen[bytes]
    web: subprocess.Popen[bytes]
    url: str

    @property
    def roots(self) -> tuple[int, int]:
        return self.process.pid, self.web.pid

    def register(self, token: str, email: str = "ana@example.com") -> str:
        """Add the token to the vendor's token store. Return its digest."""
        digest = sha256_digest(token.encode())
        row = ImportedToken(digest, hint_of(token.encode()), "ci", email, (email,))
        with self.database.write() as session:
            ImportRun.begin().write(session, [row])
        return digest

    def disabled_at(self) -> dict[str, float]:
        """Return the Unix time at which each disabled token was disabled, by digest."""
        statement = select(ApiToken.digest, ApiToken.disabled_at).where(ApiToken.disabled_at.is_not(None))
        with self.database.read() as session:
            return {digest: at.timestamp() for digest, at in session.execute(statement) if at}

    def is_idle(self) -> bool:
        """Return whether no job runs or is due."""
        is_due = and_(ScanJob.state == "queued", ScanJob.next_attempt_at <= db_now(1))
        statement = select(func.count()).where(or_(ScanJob.state == "running", is_due))
        with self.database.read() as session:
            return not session.execute(statement).scalar_one()

    def counts(self) -> dict[str, int]:
        """Return the counters of all sources, added up by counter name."""
        with self.database.read() as session:
            by_source = tallies.since(session, 48)
            states = list(session.execute(select(SourceState.counts)).scalars())
        found: dict[str, int] = {}
        for counts in [*by_source.values(), *states]:
            for name, count in counts.items():
                if isinstance(count, int):
                    found[name] = found.get(name, 0) + count
        return found

    def status(self) -> list[str]:
        """Return the problems that `r8scan status` shows, without those about settings that tests do not need."""
        command = [sys.executable, "-m", "workers", "status", "--json"]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=120, check=False)
        found = json.loads(done.stdout)["problems"]
        return [f"{one['sentence']}: {one['todo']}" for one in found if one["kind"] not in UNSET]

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Send a request to the web server, each time from a new client address."""
        network = next(_networks)
        transport = httpx.HTTPTransport(local_address=f"127.{network >> 8 & 127}.{network & 255}.1", trust_env=False)
        with httpx.Client(transport=transport, timeout=60) as client:
            return client.post(f"{self.url}{path}", content=body, headers=dict(headers))

    def alert(self, body: bytes) -> httpx.Response:
        """Send a secret scanning alert with this body, signed like GitHub's alerts."""
        return self.post("/github/secret-scanning", body, self.github.signer.headers(body))


@contextmanager
def running(
    folder: Path, pushes: list[Prepared] | None = None, rate: float = 1.0, *, processes: int = 2
) -> Iterator[Service]:
    """Run `r8scan run` and `r8scan serve` in an empty folder. Yield the service after its first poll of GitHub.

    Args:
        folder: The folder for the service's state and logs.
        pushes: The pushes that appear on the public timeline.
        rate: The number of pushes that appear per second.
        processes: The number of scanning processes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        github = stack.enter_context(hostile_github.running(HostileGitHub(pushes, rate)))
        mails = stack.enter_context(mailbox.running())
        database = Database(f"sqlite:///{folder}/state/r8scan.db")
        schema.upgrade(database)
        stack.callback(database.close)
        environment = _environment(folder, github, mails)
        log = stack.enter_context((folder / "service.log").open("ab"))
        run = [sys.executable, "-m", "workers", "run", "--processes", str(processes)]
        child = stack.enter_context(_started(run, environment, log.fileno(), log.fileno()))
        with (folder / "web.log").open("ab") as web_log:
            serve = [sys.executable, "-m", "workers", "serve", "--port", "0"]
            web = stack.enter_context(_started(serve, environment, web_log.fileno(), web_log.fileno()))
        url = until(lambda: _address(folder / "web.log"), READY_SECONDS)
        until(lambda: _has_polled(database), READY_SECONDS)
        yield Service(folder, github, mails, database, environment, child, web, url)


def _environment(folder: Path, github: HostileGitHub, mails: Mailbox) -> dict[str, str]:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("R8SCAN_") and name != "GITHUB_TOKEN"
    }
    settings = {
        "STATE_DIR": str(folder / "state"),
        "DATABASE_URL": f"sqlite:///{folder}/state/r8scan.db",
        "GITHUB_API_URL": f"{github.url}/api",
        "GITHUB_WEB_URL": github.url,
        "SMTP_URL": mails.url,
        "EMAIL_FROM": "Security <security@vendor.example>",
        "MAIL_WINDOW": "1",
        "SOURCES": ",".join(SOURCES),
        "REPORT_KEY": REPORT_KEY,
        "LOG_FORMAT": "json",
    }
    return {**inherited, **{f"R8SCAN_{name}": value for name, value in settings.items()}}


@contextmanager
def _started(
    command: list[str], environment: Mapping[str, str], stdout: int, stderr: int
) -> Iterator[subprocess.Popen[bytes]]:
    with os.fdopen(os.dup(stdout), "ab") as out, os.fdopen(os.dup(stderr), "ab") as err:
        child = start_child(command, env=environment, own_group=True, stdout=out, stderr=err)
    resource.prlimit(child.pid, resource.RLIMIT_AS, (SAFETY_MEMORY, SAFETY_MEMORY))
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(45)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _address(log: Path) -> str | None:
    found = re.search(rb"listening on (http://[\w.:]+)", log.read_bytes())
    return found[1].decode() if found else None


def _has_polled(database: Database) -> bool:
    statement = select(func.count()).where(SourceState.last_success_at.is_not(None))
    with database.read() as session:
        return bool(session.execute(statement).scalar_one())


def wait_for_tokens(service: Service, digests: set[str], timeout: float) -> dict[str, float]:
    """Wait until all tokens with these digests are disabled, or until `timeout` seconds have passed.

    Return the Unix time at which each disabled token was disabled, by digest.
    """
    deadline = time.monotonic() + timeout
    while True:
        found = {digest: at for digest, at in service.disabled_at().items() if digest in digests}
        if len(found) == len(digests) or time.monotonic() > deadline:
            return found
        time.sleep(0.05)

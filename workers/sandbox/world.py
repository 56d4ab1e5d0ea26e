"""The servers and settings around the service in a test or demonstration."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from scanner.child_processes import start_child
from scanner.detection.digests import sha256_digest
from scanner.detection.patterns.token_formats import hint_of
from scanner.records import schema
from scanner.records.database import Database
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from workers.sandbox import github_server, mailbox, vendor_api
from workers.sandbox.github import SandboxGitHub
from workers.sandbox.mailbox import Mailbox
from workers.sandbox.vendor_api import WEBHOOK_SECRET, VendorApi
from workers.sandbox.workplace import Workplace

OPERATOR = "operator@vendor.example"


@dataclass
class World:
    """The simulated servers that one service uses (GitHub, mail, vendor), and the service's settings. The service's own
    files are in `folder/state`.
    """

    folder: Path
    github: SandboxGitHub
    mailbox: Mailbox
    vendor_api: VendorApi
    database: Database
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment variables for the service. `more` are further variables."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("R8SCAN_") and name != "GITHUB_TOKEN"
        }
        return {**inherited, **self.settings, **more}

    def register(self, token: str, *, email: str = "ana@example.com", name: str = "training") -> str:
        """Add the token to the vendor's token store. Return its digest."""
        digest = sha256_digest(token.encode())
        entry = ImportedToken(digest, hint_of(token.encode()), name, email or None, (email,) if email else ())
        with self.database.write() as session:
            ImportRun.begin().write(session, [entry])
        return digest

    def answer(self, token: str) -> int:
        """Return the HTTP status with which the vendor's API answers this token."""
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.get(f"{self.vendor_api.url}/v1/account", headers=headers, trust_env=False).status_code

    def workplace(self, repository: str, name: str = "work") -> Workplace:
        """Return a new working copy that pushes to the repository."""
        work = Workplace(self.folder / name, self.github.push_address(repository))
        work.start()
        return work

    @contextmanager
    def service(
        self, *arguments: str, command: str = "run", log: Path | None = None, **more: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run `r8scan run`, or another command, until the `with` block ends. `more` are environment variables."""
        path = log or self.folder / "service.log"
        with path.open("ab") as output:
            child = start_child(
                [sys.executable, "-m", "workers", command, *arguments],
                env=self.environment(**more),
                own_group=True,
                death_signal=signal.SIGTERM,
                stdout=output,
                stderr=output,
            )
        try:
            yield child
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(40)
            if child.poll() is None:
                child.kill()
                child.wait()


@contextmanager
def running(folder: Path, **settings: str) -> Iterator[World]:
    """Run a simulated GitHub, a mailbox and a vendor's API until the `with` block ends.

    `settings` are the service's settings. Their names are in lower case, without the prefix R8SCAN_.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        own_github = stack.enter_context(github_server.running(folder / "github"))
        own_mailbox = stack.enter_context(mailbox.running())
        values = {
            "state_dir": str(folder / "state"),
            "database_url": f"sqlite:///{folder}/state/r8scan.db",
            "github_api_url": own_github.api_url,
            "github_web_url": own_github.url,
            "smtp_url": own_mailbox.url,
            "email_from": "Replicate Security <security@vendor.example>",
            "operator_email": OPERATOR,
            "mail_window": "1",
            **settings,
        }
        database = Database(values["database_url"])
        schema.upgrade(database)
        stack.callback(database.close)
        api = stack.enter_context(vendor_api.running(database))
        values = {"announce_webhook_url": api.webhook_url, "announce_webhook_secret": WEBHOOK_SECRET, **values}
        variables = {f"R8SCAN_{name.upper()}": value for name, value in values.items()}
        yield World(folder, own_github, own_mailbox, api, database, variables)


def until(what: Callable[[], Any], timeout: float, pause: float = 0.02) -> Any:
    """Call `what` until its result is true, and return this result. Times are in seconds.

    Raises:
        TimeoutError: The result was not true within `timeout` seconds.
    """
    deadline = time.monotonic() + timeout
    while True:
        answer = what()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not happen within {timeout:.0f} s")
        time.sleep(pause)

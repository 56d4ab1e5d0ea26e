"""The time to queue and send the mails of ten thousand simultaneous incidents.

Run: python -m tests.benchmarks.bench_mails [--incidents N]
"""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import func, select

from scanner.child_processes import start_child
from scanner.detection import Candidate, Place
from scanner.records import schema
from scanner.records.database import Database
from scanner.records.models import Notification
from scanner.response.policy import Policy
from scanner.response.respond import respond
from scanner.tokens.imports import ImportedToken
from scanner.tokens.registry import ImportRun
from tests.benchmarks.targets import Targets
from tests.servers import postgresql_server, redis_server
from workers.sandbox import mailbox

WORKERS = 2
SECONDS_INTO_THE_OUTBOX = 60.0
BARE_MAILS = 300
LEAST_OF_BARE = 0.7
"""The target: two workers together send at least this share of the mails per second that `bare_rate` measures."""
MAX_DELIVERY_SECONDS = 900.0
"""The run ends after this time, even if not all mails are delivered."""

BARE = """
import sys, time
from datetime import UTC, datetime
from notifications.email.render import MailIdentity, compose, render
from notifications.email.samples import samples
from notifications.email.transport import Envelope
from notifications.email.transports import transport_for

identity, facts = MailIdentity(sender="security@example.com"), next(samples())[1]
with transport_for(sys.argv[1]).open() as outlet:
    for number in range(int(sys.argv[2])):
        message = compose(
            render(facts, identity),
            identity,
            recipient=f"user{number}@example.com",
            message_id=f"<{number}@example.com>",
            date=datetime.now(UTC),
            incident_ids=facts.incident_ids,
        )
        content = Envelope("security@example.com", f"user{number}@example.com", f"{number}", message.as_bytes())
        outlet.send(content, deadline=time.monotonic() + 20)
"""


def measure(incidents: int, url: str, redis: str, folder: Path) -> int:
    """Queue one mail for each incident, and let workers send the mails. Return 1 if a target was missed.

    Args:
        incidents: The number of leaked tokens, each of a different account.
        url: The URL of the PostgreSQL database.
        redis: The path of Redis's socket.
        folder: The folder in which the state folder is created.
    """
    targets = Targets()
    database = Database(url)
    schema.upgrade(database)
    digests = [f"{number:064x}" for number in range(incidents)]
    for start in range(0, incidents, 1000):
        rows = [
            ImportedToken(digest, "r8_Ab1…xyz9", "ci", f"user{digest[-6:]}", (f"user{digest[-6:]}@example.com",))
            for digest in digests[start : start + 1000]
        ]
        with database.write() as session:
            ImportRun.begin().write(session, rows)
    policy = Policy(operator_email="op@example.com", mail_window=0)
    started = time.monotonic()
    for start in range(0, incidents, 200):
        found = [
            Candidate(digest, "r8_Ab1…xyz9", Place("file", "https://github.com/a/b", "a/b", 1, f"{digest}.py"), 3, 1)
            for digest in digests[start : start + 200]
        ]
        respond(database, found, source="public_events", policy=policy)
    disabled = time.monotonic() - started
    print(f"{incidents} incidents")
    targets.below("disabled and in the outbox", disabled, SECONDS_INTO_THE_OUTBOX, " s")
    bare = [bare_rate()]
    with mailbox.running() as inbox:
        workers = [_worker(url, redis, inbox.url, folder, number) for number in range(WORKERS)]
        try:
            wake = [sys.executable, "-m", "celery", "-A", "workers", "call", "r8scan.deliver"]
            for _ in range(2 * WORKERS):
                subprocess.run(wake, env=_environment(url, redis, inbox.url, folder), check=True, capture_output=True)
            inbox.wait_for(1, MAX_DELIVERY_SECONDS)
            # Begin after the first mail, because the start of the workers must not be measured.
            started = time.monotonic()
            while not inbox.wait_for(incidents, 5) and time.monotonic() - started < MAX_DELIVERY_SECONDS:
                pass
            seconds = time.monotonic() - started
        finally:
            for worker in workers:
                worker.terminate()
                worker.wait(60)
        copies = collections.Counter(inbox.recipients)
        ids = {str(message["Message-ID"]) for message in inbox.messages}
    with database.read() as session:
        counted = session.execute(select(Notification.state, func.count()).group_by(Notification.state))
        states = {state.value: number for state, number in counted}
    database.close()
    bare.append(bare_rate())
    each, alone = len(ids) / seconds, statistics.mean(bare)
    print(f"  delivered in {seconds:.1f} s by {WORKERS} workers, {each:.0f} a second; one bare process: {alone:.0f}")
    targets.at_least("mails a second by those of a bare process", each / alone, LEAST_OF_BARE)
    judge(targets, incidents, copies, len(ids), states)
    return targets.status()


def bare_rate() -> float:
    """Return how many mails a second one process renders and sends, without a database."""
    with mailbox.running() as inbox:
        child = subprocess.Popen([sys.executable, "-c", BARE, inbox.url, str(BARE_MAILS)])
        inbox.wait_for(1, MAX_DELIVERY_SECONDS)
        started = time.monotonic()
        assert inbox.wait_for(BARE_MAILS, MAX_DELIVERY_SECONDS)
        seconds = time.monotonic() - started
        assert child.wait(60) == 0
    return BARE_MAILS / seconds


def judge(
    targets: Targets, incidents: int, copies: Mapping[str, int], message_ids: int, states: Mapping[str, int]
) -> None:
    """Check that every owner got exactly one mail.

    Args:
        targets: The list to which this function adds its checks.
        incidents: The number of owners.
        copies: The number of mails that each recipient got.
        message_ids: The number of distinct Message-IDs.
        states: The number of mails in each state of the database.
    """
    targets.exactly("owners told", len(copies), incidents)
    targets.exactly("owners told more than once", sum(count > 1 for count in copies.values()), 0)
    targets.exactly("different Message-IDs", message_ids, incidents)
    targets.exactly("rows sent", states.get("sent", 0), incidents)
    targets.exactly("rows in another state", sum(states.values()) - states.get("sent", 0), 0)


def _environment(url: str, redis: str, smtp: str, folder: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("R8SCAN_")}
    return {
        **inherited,
        "R8SCAN_DATABASE_URL": url,
        "R8SCAN_REDIS_URL": f"redis+socket://{redis}",
        "R8SCAN_SMTP_URL": smtp,
        "R8SCAN_STATE_DIR": str(folder / "state"),
        "R8SCAN_MAIL_RATE": "100000",
        "R8SCAN_LOG_LEVEL": "error",
    }


def _worker(url: str, redis: str, smtp: str, folder: Path, number: int) -> subprocess.Popen[bytes]:
    options = ["-Q", "notifying", "-P", "threads", "-c", "2", "-n", f"mail{number}@bench", "--without-gossip"]
    command = [sys.executable, "-m", "celery", "-A", "workers", "--quiet", "worker", *options, "--without-mingle"]
    return start_child(command, env=_environment(url, redis, smtp, folder), own_group=True)


def main() -> None:
    """Run the benchmark with PostgreSQL and Redis. Exit with status 1 if a target was missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--incidents", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="a thousand")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="r8scan-bench-"))
    try:
        with postgresql_server() as url, redis_server() as redis:
            status = measure(1000 if options.quick else options.incidents, url, redis, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    raise SystemExit(status)


if __name__ == "__main__":
    main()

"""Fills a database with invented rows that look like some weeks of service."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from notifications.email.samples import samples
from scanner.compromise import brake_status
from scanner.records import audit
from scanner.records.canary_models import Canary
from scanner.records.compromise_models import Brake, Report
from scanner.records.database import Database
from scanner.records.health_models import Heartbeat
from scanner.records.models import (
    Account,
    ApiToken,
    Exposure,
    Incident,
    Notification,
    NotificationSubject,
    Recipient,
    ScanJob,
)
from scanner.records.reading_models import UnreadContent
from scanner.records.source_models import BudgetState, Gap, RecallMeasurement, SourceState, Tally
from scanner.records.states import (
    CanaryState,
    Cause,
    Decision,
    IncidentState,
    JobState,
    NotificationState,
    ReportState,
    RequestedAction,
)
from workers.queues import BEAT, QUEUES, WEB

HOSTILE = "<img src=x onerror=alert(1)>\"'{{7*7}}\u202egnp.exe"
"""A hostile name, which is used for files, branches, repositories and tokens."""
REPOSITORIES = ("ana/image-tools", "acme/weather-bot", "lab42/diffusion-notes", "mira/portfolio", "acme/infra")
SOURCES = ("public_events", "public_events", "public_events", "gists", "code_search", "event_archive")
PATHS = (".env", "notebooks/try.ipynb", "src/config/settings.py", "deploy/values.yaml", "README.md")
ACCOUNTS = ("acme-weather", "ana", "lab42", "mira", "northwind-research", "bluebird-studio")


def fill(database: Database, *, incidents: int = 30, seed: int = 7) -> list[uuid.UUID]:
    """Write accounts, tokens, incidents, mails, jobs and waiting reports. Return the incidents' ids.

    The same `seed` gives the same rows.
    """
    chance = random.Random(seed)
    now = datetime.now(UTC)
    with database.write() as session:
        accounts = _accounts(session)
        ids = [_incident(session, chance, number, now, accounts) for number in range(incidents)]
        _sources(session, now)
        _measurements(session, now)
        _jobs(session, chance, now)
        _held(session, now)
        session.add_all(running(now))
        audit.record(session, "brake_released", {"reports": 12, "closed_at": None}, who="console:ana")
        audit.record(session, "tokens_imported", {"rows": 5120, "bad_rows": 0}, who="operator:deploy")
    return ids


def _accounts(session: Session) -> list[Account]:
    found = []
    for name in ACCOUNTS:
        account = Account(name=name, created_at=datetime(2026, 1, 1, tzinfo=UTC))
        account.recipients = [Recipient(email=f"{name}@example.com")]
        session.add(account)
        found.append(account)
    session.flush()
    return found


def _incident(
    session: Session, chance: random.Random, number: int, now: datetime, accounts: list[Account]
) -> uuid.UUID:
    action, state = _kind(number)
    detected = now - timedelta(minutes=2 + number * number * 9)
    seconds = chance.choice((0.8, 1.4, 2.2, 3.9, 7.5, 31.0))
    disabled = detected + timedelta(seconds=0.2) if action == Decision.DISABLED else None
    if action == Decision.ALREADY_DISABLED:
        disabled = detected - timedelta(days=2)
    account = accounts[number % len(accounts)]
    digest = hashlib.sha256(f"filled {number}".encode()).hexdigest()
    # Some tokens were imported only as a digest. They have no hint, which is a token's first and last characters.
    hint = "" if action == Decision.HELD else f"r8_{digest[:3]}…{digest[-4:]}"
    is_protected = action == Decision.PROTECTED
    token = ApiToken(
        digest=digest,
        name=HOSTILE if number == 3 else chance.choice(("ci", "training", "notebook", "production", "laptop")),
        hint=hint,
        account_id=account.id,
        created_at=detected - timedelta(days=90),
        last_used_at=detected - timedelta(hours=5),
        disabled_at=disabled,
        disabled_reason="public_repository" if disabled else None,
        protected_at=detected if is_protected else None,
    )
    session.add(token)
    session.flush()
    incident = Incident(
        digest=digest,
        hint=hint,
        token_id=str(token.id),
        token_name=token.name,
        token_created_at=token.created_at,
        token_last_used_at=token.last_used_at,
        account_id=str(account.id),
        account_name=account.name,
        cause=Cause.COMPROMISE_SIGNS if action in (Decision.FLAGGED, Decision.HELD) else Cause.PUBLIC_REPOSITORY,
        action=action,
        state=state,
        detected_at=detected,
        disabled_at=disabled,
        evidence={},
    )
    session.add(incident)
    session.flush()
    if action not in (Decision.FLAGGED, Decision.HELD):
        session.add_all(_places(chance, number, incident, detected, seconds))
    if action in (Decision.DISABLED, Decision.PROTECTED):
        session.add_all(_mails(number, incident, account, detected, is_protected))
    evidence = {"source": "public_events", "digest": digest}
    audit.record(session, f"incident_{action}", evidence, incident_id=incident.id)
    return incident.id


def _kind(number: int) -> tuple[Decision, IncidentState]:
    rare = {
        1: Decision.PROTECTED,
        4: Decision.FLAGGED,
        6: Decision.HELD,
        9: Decision.ALREADY_DISABLED,
        13: Decision.OBSERVED,
        17: Decision.REJECTED,
        21: Decision.PROTECTED,
    }
    is_closed = number % 5 == 2 or number == 17
    return rare.get(number, Decision.DISABLED), IncidentState.CLOSED if is_closed else IncidentState.OPEN


def _places(
    chance: random.Random, number: int, incident: Incident, detected: datetime, seconds: float
) -> Iterator[Exposure]:
    for place in range(1 + (number % 4 == 0) * chance.randrange(4) + (number == 0) * 30):
        repository = chance.choice(REPOSITORIES)
        path = HOSTILE if number == 3 else chance.choice(PATHS)
        commit = hashlib.sha1(f"{number} {place}".encode(), usedforsecurity=False).hexdigest()
        yield Exposure(
            incident_id=incident.id,
            kind="file",
            url=f"https://github.com/{repository}/blob/{commit}/{PATHS[place % len(PATHS)]}#L{place + 3}",
            repository=HOSTILE if number == 3 else repository,
            repository_id=1000 + number,
            path=path,
            commit=commit,
            ref="refs/heads/main",
            git_object=commit,
            line=place + 3,
            column=12,
            encoding="plain",
            container="",
            published_at=detected - timedelta(seconds=seconds - place),
            source=SOURCES[(number + place) % len(SOURCES)],
            place_key=hashlib.sha256(f"{number} {place}".encode()).hexdigest(),
            seen_at=detected + timedelta(seconds=place),
        )


def _mails(
    number: int, incident: Incident, account: Account, detected: datetime, is_protected: bool
) -> Iterator[Notification]:
    state = NotificationState.SENT
    if number % 11 == 0:
        state = NotificationState.PENDING
    elif number % 13 == 5:
        state = NotificationState.FAILED
    facts = next(facts for name, facts in samples() if name == "public-repository")
    channel = "operator" if is_protected else "email"
    row = Notification(
        channel=channel,
        merge_key=f"{channel}:{number}",
        account_id=None if is_protected else str(account.id),
        recipient="security@vendor.example" if is_protected else f"{account.name}@example.com",
        state=state,
        attempts=0 if state == NotificationState.PENDING else 1,
        next_attempt_at=detected + timedelta(seconds=10),
        facts=None if state == NotificationState.PENDING else facts.to_json(),
        message_id=f"<{number}@vendor.example>",
        created_at=detected,
        sent_at=detected + timedelta(seconds=11) if state == NotificationState.SENT else None,
        error="550 5.1.1 the mailbox does not exist" if state == NotificationState.FAILED else None,
    )
    row.subjects = [
        NotificationSubject(
            incident_id=incident.id, channel=channel, merge_key=row.merge_key, occasion=str(incident.action)
        )
    ]
    yield row


def _sources(session: Session, now: datetime) -> None:
    for number, name in enumerate(("public_events", "code_search", "gists", "event_archive")):
        session.add(
            SourceState(
                source=name,
                cursor={},
                next_poll_at=now + timedelta(seconds=2),
                last_success_at=now - timedelta(seconds=1 + number),
                newest_seen_at=now - timedelta(seconds=1.3 + number * 20),
                gaps=number,
                counts={"polls": 86000 - number * 9000, "events": 4_100_000 // (number + 1)},
            )
        )
        hour = now.replace(minute=0, second=0, microsecond=0)
        for what, count in (("pushes", 18_200), ("unread_too_large", 14), ("error_not_found", 160)):
            session.add(Tally(source=name, hour=hour, name=what, count=count // (number + 1)))
    session.add(
        Gap(
            source="public_events",
            from_at=now - timedelta(hours=4),
            until_at=now - timedelta(hours=4) + timedelta(seconds=40),
            estimated=220,
            reason="page_limit",
            found_at=now - timedelta(hours=4),
            filled_at=None,
        )
    )
    for resource, limit, left in (("core", 5000, 3120), ("code_search", 10, 4), ("graphql", 5000, 4990)):
        session.add(
            BudgetState(
                credential="token 1a2b",
                resource=resource,
                limit=limit,
                remaining=left,
                resets_at=now + timedelta(minutes=20),
                blocked_until=None,
                reason="",
                updated_at=now,
            )
        )


def _measurements(session: Session, now: datetime) -> None:
    """Insert two rows: an estimate of how many pushes r8scan saw, and a canary (a test token) that was disabled."""
    shares = {"60": [1200, 540, 0.4221, 0.4783], "3600": [1150, 1104, 0.9472, 0.9697]}
    total = [2_150_000, 1_990_000, 2_330_000]
    session.add(RecallMeasurement(source="public_events", shares=shares, total=total, measured_at=now))
    session.add(
        Canary(
            way="texts",
            slot=1,
            state=CanaryState.ENDED,
            digest=hashlib.sha256(b"filled canary").hexdigest(),
            planted_at=now - timedelta(minutes=4),
            ended_at=now - timedelta(minutes=4) + timedelta(seconds=1.6),
            decision=Decision.DISABLED,
            source="public_events",
        )
    )


def _jobs(session: Session, chance: random.Random, now: datetime) -> None:
    states = (JobState.DONE, JobState.DONE, JobState.QUEUED, JobState.RUNNING, JobState.PARTIAL, JobState.FAILED)
    for number in range(24):
        state = states[number % len(states)]
        kind = "pushes" if number % 3 else "repository"
        repository = chance.choice(REPOSITORIES)
        target = {"repository": repository} if kind == "repository" else {"pushes": [{"repository": repository}]}
        is_over = state in (JobState.DONE, JobState.PARTIAL, JobState.FAILED)
        error = "RepositoryTooLarge: larger than 20 GB" if number % 2 else "CloneFailed: the remote hung up"
        session.add(
            ScanJob(
                kind=kind,
                source="rescan" if kind == "repository" else "public_events",
                priority=10,
                target=target,
                dedupe_key=f"filled:{number}",
                state=state,
                next_attempt_at=now,
                progress={"phase": "history", "done": 120, "total": 400} if state == JobState.RUNNING else {},
                counts={"pushes": 1, "unread_too_large": 2} if state == JobState.PARTIAL else {},
                error=error if state == JobState.FAILED else None,
                created_at=now - timedelta(minutes=number),
                begun_at=None if state == JobState.QUEUED else now - timedelta(minutes=number),
                claimed_at=now - timedelta(seconds=5) if state == JobState.RUNNING else None,
                deadline_at=now + timedelta(minutes=10) if state == JobState.RUNNING else None,
                leased_until=now + timedelta(seconds=30) if state == JobState.RUNNING else None,
                finished_at=now if is_over else None,
            )
        )
    session.flush()
    partial = select(ScanJob.id).where(ScanJob.state == JobState.PARTIAL).order_by(ScanJob.id.desc()).limit(1)
    for number, path in enumerate(("models/weights.bin", HOSTILE)):
        place = {
            "kind": "file",
            "repository": "lab42/diffusion-notes",
            "path": path,
            "url": f"https://github.com/lab42/diffusion-notes/blob/main/{number}",
            "git_object": hashlib.sha1(path.encode(), usedforsecurity=False).hexdigest(),
        }
        session.add(
            UnreadContent(
                source="public_events",
                job_id=session.execute(partial).scalar_one(),
                reasons="too_large,reader_deadline" if number else "too_large",
                content_digest="",
                size=0 if number else 48_000_000,
                place=place,
                seen_at=now,
            )
        )


def running(now: datetime) -> Iterator[Heartbeat]:
    """Yield the heartbeats of a running service, with times an hour in the future."""
    for pid, role in enumerate((WEB, BEAT, *sorted(set(QUEUES.values()))), 1):
        queues = ",".join(queue for queue, consumer in QUEUES.items() if consumer == role)
        # The heartbeats must still be recent in a slow test.
        at = now + timedelta(hours=1)
        yield Heartbeat(role=role, host="r8", pid=pid, queues=queues, version="1", started_at=now, seen_at=at)


def _held(session: Session, now: datetime) -> None:
    session.execute(insert(Brake).values(id=1, closed_at=now - timedelta(minutes=7), reason="61 tokens in a minute"))
    for number in range(9):
        session.add(
            Report(
                digest=hashlib.sha256(f"filled {number}".encode()).hexdigest(),
                hint="",
                sign="abuse_report" if number % 2 else "stolen_laptop",
                idempotency_key=hashlib.sha256(f"held {number}".encode()).hexdigest(),
                note="seen in a paste",
                reporter="operator:deploy",
                wanted=RequestedAction.DISABLE,
                received_at=now - timedelta(minutes=7),
                state=ReportState.HELD,
                next_check_at=now,
                decision=Decision.HELD,
            )
        )
    assert brake_status.read(session).held == 9

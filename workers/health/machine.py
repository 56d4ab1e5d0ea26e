"""Checks this machine: disk, clock, missing settings, and the spool.

The spool contains files with records that could not be written to the database.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from scanner.records import spool
from scanner.records.states import EnforceMode
from scanner.settings import Settings
from workers.health.problems import Kind, Problem, counted, span
from workers.health.rows import Configuration

MAX_CLOCK_DIFFERENCE_SECONDS = 60.0
MAX_HOST_LENGTH = 255
MIN_FREE_BYTES = 1024**3
MIN_FREE_SHARE = 0.05
"""The disk is almost full if its free space is below both this share and `MIN_FREE_BYTES`."""


@dataclass(frozen=True, slots=True)
class MachineState:
    """The state of this machine. The fields about the disk are None if there is no state folder."""

    spool_entries: int
    spool_refused: int
    disk_free_bytes: int | None
    disk_free_share: float | None
    problems: tuple[Problem, ...]


def own_host() -> str:
    """Return the name of this machine for the heartbeat."""
    return platform.node()[:MAX_HOST_LENGTH] or "localhost"


def configuration(settings: Settings) -> Configuration:
    """Return the settings that decide what happens to a found token, without secrets."""
    return Configuration(
        enforce=settings.enforce,
        mail_transport=mail_transport(settings),
        token_store=settings.token_store_url or "own tables",
        sources=settings.polled_sources,
        database=database(settings),
        is_one_machine=settings.redis_url.get_secret_value() == "embedded",
    )


def database(settings: Settings) -> str:
    """Return the database's name without password, such as "postgresql db.example.com:5432/r8scan"."""
    from urllib.parse import parse_qs, urlsplit

    url = settings.database_url.get_secret_value()
    if url.startswith("sqlite"):
        return url.partition(":///")[2]
    parts = urlsplit(url)
    host = parts.hostname or parse_qs(parts.query).get("host", [""])[0]
    return f"{parts.scheme} {host}{f':{parts.port}' if parts.port else ''}{parts.path}"


def running_seconds(state_dir: Path) -> float | None:
    """Return how many seconds ago `r8scan run` was started with this state folder, or None if it does not run here."""
    lock = state_dir / "run.lock"
    try:
        # Do not test the lock by taking it: `r8scan run` could then fail to take it.
        os.kill(int(lock.read_text()), 0)
    except PermissionError:
        pass  # the process exists and belongs to another user
    except (OSError, ValueError, OverflowError):
        return None
    try:
        return max(time.time() - lock.stat().st_mtime, 0.0)
    except OSError:
        return None


def mail_transport(settings: Settings) -> str:
    """Return where mails are sent, without credentials: "smtp mail.example.com:587" or "Maildir /path"."""
    from urllib.parse import urlsplit

    parts = urlsplit(settings.smtp_url.get_secret_value())
    if parts.scheme == "maildir":
        return f"Maildir {parts.path}"
    return f"{parts.scheme} {parts.hostname}" + (f":{parts.port}" if parts.port else "")


def read(settings: Settings) -> MachineState:
    """Return the state of the disk and of the spool (records that could not be written to the database)."""
    waiting, refused = spool.count(settings.state_dir), spool.refused(settings.state_dir)
    free: int | None = None
    share: float | None = None
    try:
        usage = shutil.disk_usage(settings.state_dir)
        free, share = usage.free, usage.free / usage.total if usage.total else 0.0
    except OSError:
        pass  # the folder is missing, because nothing was ever written into it
    problems = (*_spool_problems(settings, waiting, refused), *_disk_problems(settings, free, share))
    return MachineState(waiting, refused, free, share, problems)


def settings_problems(settings: Settings) -> Iterator[Problem]:
    """Yield a problem for each setting that prevents mails from arriving."""
    is_maildir = settings.smtp_url.get_secret_value().startswith("maildir:")
    if is_maildir and settings.enforce == EnforceMode.DISABLE:
        sentence = f"mails to owners go into a local folder ({mail_transport(settings)}), not to the owners"
        yield Problem(Kind.MAILS_GO_NOWHERE, sentence, "set R8SCAN_SMTP_URL")
    if "localhost" in settings.email_from and not is_maildir:
        sentence = "mails are sent from an address at localhost, which mail servers refuse"
        yield Problem(Kind.SENDER_NOT_SET, sentence, "set R8SCAN_EMAIL_FROM")
    if settings.operator_email is None:
        sentence = "protected tokens, undeliverable mails and problems are reported to nobody"
        yield Problem(Kind.OPERATOR_NOT_SET, sentence, "set R8SCAN_OPERATOR_EMAIL")


def clock_problems(now: datetime) -> Iterator[Problem]:
    """Yield a problem if this machine's clock differs from `now`, the database's time."""
    seconds = time.time() - now.timestamp()
    if abs(seconds) > MAX_CLOCK_DIFFERENCE_SECONDS:
        yield clock_off("this machine's clock", seconds)


def clock_off(clock: str, seconds: float, host: str = "") -> Problem:
    """Return the problem that a machine's clock is wrong.

    Args:
        clock: The name of the clock, for the problem's sentence.
        seconds: How far the clock is ahead of the database's clock. Negative if it is behind.
        host: The name of the clock's machine. Empty for this machine.
    """
    word = "ahead of" if seconds > 0 else "behind"
    sentence = f"{clock} is {span(abs(seconds))} {word} the database's"
    return Problem(Kind.CLOCK_OFF, sentence, "synchronise both, with NTP", None, host)


def _spool_problems(settings: Settings, waiting: int, refused: int) -> Iterator[Problem]:
    if waiting:
        sentence = f"{counted(waiting, 'entry waits', 'entries wait')} in the spool after a database outage"
        yield Problem(Kind.SPOOL_WAITS, sentence, "nothing; the entries are committed when the database answers")
    if refused:
        file = settings.state_dir / spool.FOLDER / spool.REFUSED
        sentence = f"the spool was full and lost {counted(refused, 'entry', 'entries')}"
        yield Problem(Kind.SPOOL_LOST, sentence, f"rescan their content, then remove {file}")


def _disk_problems(settings: Settings, free: int | None, share: float | None) -> Iterator[Problem]:
    if free is not None and share is not None and free < MIN_FREE_BYTES and share < MIN_FREE_SHARE:
        sentence = f"the disk of {settings.state_dir} has {free / 1024**2:,.0f} MB left"
        yield Problem(Kind.DISK_FULL, sentence, "make room, or move R8SCAN_STATE_DIR")

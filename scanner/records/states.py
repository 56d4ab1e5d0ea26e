"""The values of all state columns, as enums."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import Enum as EnumColumn


class IncidentState(StrEnum):
    """The state of an incident. An open incident collects new public places of its token."""

    OPEN = "open"
    CLOSED = "closed"


class Decision(StrEnum):
    """A decision about a token: the action of an incident, the decision on a report, or the result of a disable."""

    UNDECIDED = ""
    """Nothing was decided yet."""
    DISABLED = "disabled"
    """r8scan disabled the token."""
    ALREADY_DISABLED = "already_disabled"
    """The owner or an operator had disabled the token before."""
    DISABLING = "disabling"
    """The disable is decided. The call to an external token store has not succeeded yet."""
    PROTECTED = "protected"
    """The token is protected: it stays live, and the operator is notified."""
    OBSERVED = "observed"
    """Nothing was done, because `R8SCAN_ENFORCE` is `observe`."""
    UNKNOWN = "unknown"
    """The token store does not know the token, or no longer does."""
    HELD = "held"
    """The disable waits until an operator allows it, for example because the disable quota was used up."""
    FLAGGED = "flagged"
    """A rule in mode `flag` matched: the operator is notified, and nothing else was done."""
    REJECTED = "rejected"
    """The disable was held, and an operator decided against it."""


class Cause(StrEnum):
    """Why a token is disabled."""

    PUBLIC_REPOSITORY = "public_repository"
    """The token was found in a public place."""
    COMPROMISE_SIGNS = "compromise_signs"
    """Someone reported the token, or a usage rule matched."""
    OPERATOR = "operator"
    """An operator disabled the token on the command line. Only announcements have this cause."""
    CANARY = "canary"
    """The token is a canary, which r8scan planted to test itself. No statistic counts it."""


class CanaryWay(StrEnum):
    """How a canary token is planted. This determines which source can find the token."""

    TEXTS = "texts"
    """The canary is added to the texts of the next poll of public events."""
    PUSHES = "pushes"
    """The canary is put into the queue of pushes."""
    FILES = "files"
    """The canary is put into the queue of files, which gists and code search fill."""
    REPOSITORY = "repository"
    """The canary is pushed to a public repository on GitHub."""
    GIST = "gist"
    """The canary is published in a gist on GitHub."""


class CanaryState(StrEnum):
    """The state of a canary token: it is planted, it has ended, or it could not be planted."""

    PLANTED = "planted"
    """The canary was not disabled yet."""
    ENDED = "ended"
    """r8scan has decided about the canary. The column `decision` says how."""
    FAILED = "failed"
    """The canary could not be planted. The column `error` says why."""


class ReportState(StrEnum):
    """The state of a report: it is recorded, it waits for the token store or the operator, or it is decided."""

    RECEIVED = "received"
    """The report is recorded, and nothing was done yet."""
    UNKNOWN = "unknown"
    """The token store has not known the token so far. r8scan will ask again."""
    HELD = "held"
    """The report waits until an operator decides, for example because the disable quota was used up."""
    SETTLED = "settled"
    """The report is decided. The column `decision` says what was done."""
    REJECTED = "rejected"
    """An operator decided not to act on the report."""


class RequestedAction(StrEnum):
    """What a report asks r8scan to do."""

    DISABLE = "disable"
    FLAG = "flag"
    """Only notify the operator."""


class SightingState(StrEnum):
    """Why a candidate is not confirmed as a token: the token store was not asked yet, or does not know it."""

    UNCHECKED = "unchecked"
    """The token store was not asked yet."""
    UNKNOWN = "unknown"
    """The token store has not known the candidate so far."""


class NotificationState(StrEnum):
    """The state of a message in the outbox: pending, frozen (its content is final), sent or failed."""

    PENDING = "pending"
    """Further incidents may be added to the message."""
    FROZEN = "frozen"
    """The message was claimed for delivery, so its content no longer changes."""
    SENT = "sent"
    FAILED = "failed"


class Channel(StrEnum):
    """To whom, or by which means, a message is sent."""

    EMAIL = "email"
    """A mail to an owner."""
    OPERATOR = "operator"
    """A mail to the operator."""
    STREAM = "stream"
    """A Redis stream that gateways read."""
    WEBHOOK = "webhook"
    """An HTTP request to a gateway."""


class Occasion(StrEnum):
    """Why a notification reports an incident."""

    DISABLED = "disabled"
    ALREADY_DISABLED = "already_disabled"
    PROTECTED = "protected"
    OBSERVED = "observed"
    FLAGGED = "flagged"
    BRAKE_CLOSED = "brake_closed"
    """The disable quota is used up, and the disable waits for the operator."""
    UNDELIVERABLE = "undeliverable"
    """No mail could be delivered to an owner."""


class JobKind(StrEnum):
    """What a job reads, for example a list of pushes or a whole repository."""

    PUSHES = "pushes"
    """A list of pushes."""
    FILES = "files"
    """A list of files: gists, code search results and long texts."""
    SLOW_PUSHES = "slow_pushes"
    """A single push that took too long to be read together with other pushes."""
    SLOW_FILES = "slow_files"
    """A single file that took too long to be read together with other files."""
    REPOSITORY = "repository"
    """A repository with its whole history and its conversations."""
    GIST = "gist"
    """A gist with its whole history and its comments."""
    OWNER = "owner"
    """The list of an owner's repositories and gists. Each becomes a job of its own."""
    ARCHIVE_HOUR = "archive_hour"
    """One hour of the event archive."""


class EnforceMode(StrEnum):
    """The setting `R8SCAN_ENFORCE`: what r8scan does with a token that it finds in public."""

    DISABLE = "disable"
    OBSERVE = "observe"
    """Only notify the operator."""


class RuleMode(StrEnum):
    """What happens when a usage rule matches."""

    OFF = "off"
    FLAG = "flag"
    """Only notify the operator."""
    DISABLE = "disable"


class JobState(StrEnum):
    """The state of a scan job: queued, running or ended, and how it ended."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    PARTIAL = "partial"
    """The job is done, but something could not be read. The job's counts say what."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    DROPPED = "dropped"
    """The job was never begun, because the queue was too long."""


OPEN_JOB_STATES = (JobState.QUEUED, JobState.RUNNING)


class Role(StrEnum):
    """What a console user may do."""

    VIEWER = "viewer"
    """A viewer reads every page and changes nothing."""
    OPERATOR = "operator"


def column_of(enum: type[StrEnum], length: int) -> EnumColumn:
    """Return a VARCHAR column type for an enum of this module, `length` characters wide."""
    return EnumColumn(enum, native_enum=False, length=length, values_callable=_values, validate_strings=True)


def _values(enum: Any) -> list[str]:
    return [member.value for member in enum]

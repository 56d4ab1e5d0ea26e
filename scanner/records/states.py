"""The words for how things stand, as the tables keep them. Every comparison and every assignment uses these enums."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import Enum as EnumColumn


class IncidentState(StrEnum):
    """Whether an incident takes further places of its token. At most one incident of a token is open."""

    OPEN = "open"
    CLOSED = "closed"


class Decision(StrEnum):
    """What was done about a token: the action of an incident, the decision on a report, the result of a disable."""

    UNDECIDED = ""
    """Of a row that was just written: nothing was done yet."""
    DISABLED = "disabled"
    """By us."""
    ALREADY_DISABLED = "already_disabled"
    """Before us, by its owner or an operator."""
    DISABLING = "disabling"
    """Decided; the call to a token store outside our database is under way."""
    PROTECTED = "protected"
    """The token is protected: it lives, and the operator is told."""
    OBSERVED = "observed"
    """Nothing was done, because the settings say `observe`."""
    UNKNOWN = "unknown"
    """The token store does not know the token, or no longer."""
    HELD = "held"
    """The disable waits until an operator opens the brake."""
    FLAGGED = "flagged"
    """The operator is told, by a rule that only tells."""
    REJECTED = "rejected"
    """It was held, and an operator decided not to disable it."""


class Cause(StrEnum):
    """Why a token is disabled."""

    PUBLIC_REPOSITORY = "public_repository"
    """It was found in public, wherever that is."""
    COMPROMISE_SIGNS = "compromise_signs"
    """It was reported, or a rule about its use asked for it."""
    OPERATOR = "operator"
    """An operator disabled it by hand. Only announcements have this cause."""


class ReportState(StrEnum):
    """How far a report is."""

    RECEIVED = "received"
    """Recorded; nothing was done yet."""
    UNKNOWN = "unknown"
    """The token store did not know the token so far; it is asked again."""
    HELD = "held"
    """It waits until an operator opens the brake."""
    SETTLED = "settled"
    """Decided; the report's decision says what was done."""
    REJECTED = "rejected"
    """An operator decided not to act on it."""


class Wanted(StrEnum):
    """What a report asks for."""

    DISABLE = "disable"
    FLAG = "flag"
    """Only tell the operator."""


class SightingState(StrEnum):
    """What is known of a candidate that the token store has not confirmed."""

    UNCHECKED = "unchecked"
    """The store was not asked yet."""
    UNKNOWN = "unknown"
    """The store did not know it so far."""


class NotificationState(StrEnum):
    """How far a message is."""

    PENDING = "pending"
    """It still takes incidents. At most one message per channel and merge key is pending."""
    FROZEN = "frozen"
    """It was claimed once: what it says is fixed."""
    SENT = "sent"
    FAILED = "failed"


class JobState(StrEnum):
    """How far a job is."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    PARTIAL = "partial"
    """Done, but something could not be read: the job's counts say what."""
    FAILED = "failed"
    CANCELLED = "cancelled"
    DROPPED = "dropped"
    """Never begun: too much waited before it."""


class Role(StrEnum):
    """What a person may do in the console."""

    VIEWER = "viewer"
    """Reads every page and changes nothing."""
    OPERATOR = "operator"


def column_of(enum: type[StrEnum], length: int) -> EnumColumn:
    """Return a column type for one of these enums: a VARCHAR with the values, which no constraint lists.

    Args:
        length: of the VARCHAR, in characters; more than the longest value, so that a new one needs no migration.
    """
    return EnumColumn(enum, native_enum=False, length=length, values_callable=_values, validate_strings=True)


def _values(enum: Any) -> list[str]:
    return [member.value for member in enum]

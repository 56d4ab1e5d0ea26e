"""Reads incidents from the database and converts them to JSON objects."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from scanner.records.canaries import is_no_canary
from scanner.records.models import Exposure, Incident, Notification, NotificationSubject
from scanner.records.states import Channel
from scanner.response.timeline import timeline
from workers.cli.errors import UserError
from workers.web.console.queries.searching import prefix

PAGE = 200
HINT_MARKS = ("…", "_", "...")
"""A text with one of these is a token's hint (its first and last characters), not an incident's id."""
MAX_OF_HINT = 100

_OWN_COLUMNS = ("id", "incident_id", "place_key", "detected_at", "repository_key")


def find(session: Session, wanted: str) -> Incident:
    """Find an incident by its id, by the beginning of its id, or by the hint of its token.

    A hint is the first and last characters of a token, such as "r8_Ab1…xyz9".

    Raises:
        UserError: No incident matches, or several incidents match.
    """
    try:
        found = session.get(Incident, uuid.UUID(wanted))
        if found is not None:
            return found
    except ValueError:
        pass
    if any(mark in wanted for mark in HINT_MARKS):
        return _of_hint(session, wanted)
    digits = wanted.lower().replace("-", "")
    if wanted.startswith("-") or not digits or any(char not in "0123456789abcdef" for char in digits):
        raise UserError(f'"{wanted}" is not the beginning of an incident\'s id: see r8scan incidents list -q TEXT')
    low, high = uuid.UUID(digits[:32].ljust(32, "0")), uuid.UUID(digits[:32].ljust(32, "f"))
    matches = list(session.execute(select(Incident).where(Incident.id.between(low, high)).limit(2)).scalars())
    if len(matches) != 1:
        raise UserError(
            f"{'several incidents begin' if matches else 'no incident begins'} with {wanted}: see r8scan incidents list"
        )
    return matches[0]


def _of_hint(session: Session, hint: str) -> Incident:
    """Return the newest incident of the token with this hint. Raise UserError unless exactly one token has the hint."""
    hint = hint.replace("...", "…")
    matches = Incident.hint == hint if "…" in hint else Incident.hint.like(prefix(hint), escape="\\")
    statement = select(Incident).where(matches).order_by(Incident.detected_at.desc()).limit(MAX_OF_HINT)
    found = list(session.execute(statement).scalars())
    if len({one.digest for one in found}) != 1:
        which = "several tokens have" if found else "no incident is about a token with"
        raise UserError(f"{which} the hint {hint}: see r8scan incidents list -q {hint[:6]}")
    return found[0]


def between(session: Session, since: datetime | None, until: datetime | None, account: str) -> Iterator[Incident]:
    """Yield incidents in the order of their detection, without incidents of canaries (test tokens).

    Args:
        since: Yield only incidents detected at or after this time.
        until: Yield only incidents detected before this time.
        account: Yield only incidents of the account with this name or id. Empty for all accounts.
    """
    after: tuple[datetime, uuid.UUID] | None = None
    while True:
        statement = (
            select(Incident)
            .where(is_no_canary())
            .options(selectinload(Incident.exposures))
            .order_by(Incident.detected_at, Incident.id)
            .limit(PAGE)
        )
        if since is not None:
            statement = statement.where(Incident.detected_at >= since)
        if until is not None:
            statement = statement.where(Incident.detected_at < until)
        if account:
            statement = statement.where((Incident.account_name == account) | (Incident.account_id == account))
        if after is not None:
            at, key = after
            statement = statement.where(
                (Incident.detected_at > at) | ((Incident.detected_at == at) & (Incident.id > key))
            )
        page = session.execute(statement).scalars().all()
        yield from page
        if len(page) < PAGE:
            return
        after = (page[-1].detected_at, page[-1].id)
        session.expunge_all()


@dataclass(frozen=True, slots=True)
class Reported:
    """A message that was sent or queued about an incident. `occasion` is the reason, such as "disabled"."""

    row: Notification
    occasion: str


def notifications(session: Session, incident: Incident) -> list[Reported]:
    """Return the messages about the incident, oldest first."""
    statement = (
        select(Notification, NotificationSubject.occasion)
        .join(NotificationSubject)
        .where(NotificationSubject.incident_id == incident.id)
        .order_by(Notification.created_at)
    )
    return [Reported(row, occasion) for row, occasion in session.execute(statement)]


def mail_states(session: Session, incidents: Sequence[Incident]) -> Mapping[uuid.UUID, set[str]]:
    """Return the states of the mails about each incident, by incident id."""
    states: dict[uuid.UUID, set[str]] = {incident.id: set() for incident in incidents}
    ids = list(states)
    for start in range(0, len(ids), PAGE):
        statement = (
            select(NotificationSubject.incident_id, Notification.state)
            .join(Notification)
            .where(
                NotificationSubject.incident_id.in_(ids[start : start + PAGE]),
                Notification.channel.in_((Channel.EMAIL, Channel.OPERATOR)),
            )
        )
        for incident_id, state in session.execute(statement):
            states[incident_id].add(state)
    return states


def summary(incident: Incident, states: set[str], places: int) -> dict[str, Any]:
    """Return an incident as a flat JSON object.

    Args:
        places: The number of public places where the incident's token was found.
    """
    return {
        "id": str(incident.id),
        "sha256": incident.digest,
        "hint": incident.hint,
        "token_id": incident.token_id,
        "token_name": incident.token_name,
        "account": incident.account_name,
        "cause": incident.cause,
        "action": incident.action,
        "state": incident.state,
        "detected_at": incident.detected_at,
        "disabled_at": incident.disabled_at,
        "exposures": places,
        "notifications": sorted(states),
    }


def whole(session: Session, incident: Incident) -> dict[str, Any]:
    """Return all known facts about an incident as a JSON object."""
    messages = notifications(session, incident)
    mails = [one.row for one in messages if one.row.channel in (Channel.EMAIL, Channel.OPERATOR)]
    return {
        **summary(incident, {mail.state for mail in mails}, len(incident.exposures)),
        "signs": incident.evidence.get("signs", []),
        "exposures": [place(exposure) for exposure in incident.exposures],
        "notifications": [
            {
                "id": str(one.row.id),
                "channel": one.row.channel,
                "occasion": one.occasion,
                "recipient": one.row.recipient,
                "state": one.row.state,
                "attempts": one.row.attempts,
                "message_id": one.row.message_id,
                "created_at": one.row.created_at,
                "sent_at": one.row.sent_at,
                "error": one.row.error,
            }
            for one in messages
        ],
        "timeline": [asdict(moment) for moment in timeline(session, incident)],
    }


def place(exposure: Exposure) -> dict[str, Any]:
    """Return a public place where a token was found, as a flat JSON object."""
    columns = (column.name for column in Exposure.__table__.columns if column.name not in _OWN_COLUMNS)
    return {name: getattr(exposure, name) for name in columns}

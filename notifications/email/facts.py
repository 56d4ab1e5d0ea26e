"""What a mail tells, as frozen values that survive as JSON. Read from the rows once; renders and sends nothing."""

from __future__ import annotations

import dataclasses
import itertools
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from scanner.detection import redact
from scanner.records.models import ApiToken, AuditEntry, Exposure, Incident, Notification, NotificationSubject, db_now

MOST_PLACES = 20
"""Places shown in one mail; their total is always told."""
MOST_TOKENS = 10
"""Tokens of one mail told in full: mail services cut a mail off at about 100 kB."""
MOST_SHORT_TOKENS = 200
"""Further tokens told in one line each; beyond them only their number."""
MOST_SIGNS = 3
MOST_UNDELIVERED = 5

OPERATOR_OCCASIONS = ("protected", "brake_closed", "flagged", "observed", "undeliverable")
"""Why the operator is told, the most urgent first."""

VARIANTS = (
    *("public_repository", "gist", "conversation", "public_place", "compromise_signs", "already_disabled", "operator"),
)
_REPOSITORY = {"file", "file_name", "commit", "tag", "ref_name", "repository_description", "wiki_page"}
_GIST = {"gist", "gist_comment"}
_CONVERSATION = {
    *("issue", "issue_comment", "pull_request", "commit_comment", "review", "review_comment", "discussion", "release"),
}


@dataclass(frozen=True, slots=True)
class PlaceFacts:
    """One public place. `line` is 0 where it is not known; `published_at` is None where it is not known."""

    kind: str
    url: str
    seen_at: datetime
    repository: str | None = None
    path: str | None = None
    commit: str | None = None
    ref: str | None = None
    line: int = 0
    spelling: str = "plain"
    container: str = ""
    published_at: datetime | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PlaceFacts:
        return cls(**_known(cls, value, times=("seen_at", "published_at")))


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A mail to an owner that could not be delivered; `recipient` is None where the account has no address."""

    recipient: str | None
    reason: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Undelivered:
        return cls(**_known(cls, value))


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """One incident as its mail tells it.

    `occasion` is why this mail tells of it. `published_at` is the earliest time known; `published_everywhere` says that
    no place lacks one. `places` holds the first ones of `places_total`, `undelivered` those of `undelivered_total`.
    `signs`, for the operator only, are the newest reports in a line each. `brought_back_at`: the token worked again
    when the facts were read, since somebody had brought it back at that time.
    """

    incident_id: str
    occasion: str
    name: str
    hint: str
    cause: str
    detected_at: datetime
    account: str | None = None
    disabled_at: datetime | None = None
    published_at: datetime | None = None
    published_everywhere: bool = False
    seen_at: datetime | None = None
    last_used_at: datetime | None = None
    places: tuple[PlaceFacts, ...] = ()
    places_total: int = 0
    undelivered: tuple[Undelivered, ...] = ()
    undelivered_total: int = 0
    signs: tuple[str, ...] = ()
    brought_back_at: datetime | None = None

    @property
    def disabled_before_exposure(self) -> bool:
        """Whether the token was dead before anything became public."""
        since = self.published_at or self.seen_at or self.detected_at
        return self.occasion == "already_disabled" and self.disabled_at is not None and self.disabled_at <= since

    @property
    def exposed_seconds(self) -> float | None:
        """From the first publication known, else from the first sighting, until it was disabled. None: it was not."""
        if self.disabled_at is None or self.places_total == 0:
            return None
        since = self.published_at or self.seen_at or self.detected_at
        return max((self.disabled_at - since).total_seconds(), 0)

    @property
    def used_since_exposure(self) -> bool | None:
        """Whether the last use on record came after the first publication known; None where that cannot be told."""
        if self.last_used_at is None or self.published_at is None:
            return None
        if self.last_used_at > self.published_at:
            return True
        return False if self.published_everywhere else None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TokenFacts:
        times = ("detected_at", "disabled_at", "published_at", "seen_at", "last_used_at", "brought_back_at")
        known = _known(cls, value, times=times)
        known["places"] = tuple(PlaceFacts.from_json(place) for place in value.get("places", ()))
        known["undelivered"] = tuple(Undelivered.from_json(one) for one in value.get("undelivered", ()))
        known["signs"] = tuple(value.get("signs", ()))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class ShortToken:
    """A token that is only listed."""

    name: str
    hint: str
    incident_id: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ShortToken:
        return cls(**_known(cls, value))


@dataclass(frozen=True, slots=True)
class MailFacts:
    """Everything that one mail tells, and the variant that tells it: `tokens` in full, `others` in a line each.

    `causes` are those of all of them, also of tokens that are only counted.
    """

    variant: str
    frozen_at: datetime
    tokens: tuple[TokenFacts, ...]
    others: tuple[ShortToken, ...] = ()
    tokens_total: int = 0
    places_total: int = 0
    causes: tuple[str, ...] = ()

    @property
    def incident_ids(self) -> tuple[str, ...]:
        """Of the tokens told in full, in order, each once."""
        return tuple(dict.fromkeys(token.incident_id for token in self.tokens))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; times as ISO 8601 in UTC."""
        value: dict[str, Any] = _to_json(self)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MailFacts:
        """What `to_json` made. KeyError, TypeError or ValueError for anything else; unknown fields are ignored."""
        known = _known(cls, value, times=("frozen_at",))
        known["tokens"] = tuple(TokenFacts.from_json(token) for token in value["tokens"])
        known["others"] = tuple(ShortToken.from_json(other) for other in value.get("others", ()))
        known["causes"] = tuple(value.get("causes") or sorted({token.cause for token in known["tokens"]}))
        return cls(**known)


def gather(session: Session, notification: Notification) -> MailFacts:
    """Read what the notification's incidents say at this moment. Bounded, however many incidents it has taken."""
    subjects = session.execute(
        select(NotificationSubject.occasion, Incident)
        .join(Incident, Incident.id == NotificationSubject.incident_id)
        .where(NotificationSubject.notification_id == notification.id)
        .order_by(NotificationSubject.id)
    ).all()
    share = max(1, MOST_PLACES // max(len(subjects), 1))
    totals = _totals(session, notification.id)
    is_operator = notification.channel == "operator"
    if is_operator:
        subjects = sorted(subjects, key=lambda subject: _urgency(subject[0]))
    undelivered = _undelivered(session, notification.id) if is_operator else {}
    tokens = tuple(
        _token(session, incident, occasion, totals.get(incident.id), undelivered.get(incident.id, ()), share)
        for occasion, incident in subjects[:MOST_TOKENS]
    )
    if is_operator:
        incidents = [incident for _, incident in subjects]
        tokens = tuple(
            dataclasses.replace(token, signs=_signs(incident))
            for token, incident in zip(tokens, incidents, strict=False)
        )
    else:
        back = _brought_back(session, notification.id)
        tokens = tuple(
            dataclasses.replace(token, brought_back_at=back.get(uuid.UUID(token.incident_id))) for token in tokens
        )
    others = tuple(
        ShortToken(redact(incident.token_name), incident.hint, str(incident.id))
        for _, incident in subjects[MOST_TOKENS : MOST_TOKENS + MOST_SHORT_TOKENS]
    )
    causes = {incident.cause for _, incident in subjects}
    variant = _variant(
        notification.channel,
        {occasion for occasion, _ in subjects},
        causes,
        _kinds(session, notification.id),
    )
    return MailFacts(
        variant=variant,
        frozen_at=session.execute(select(db_now())).scalar_one(),
        tokens=tokens,
        others=others,
        tokens_total=len(subjects),
        places_total=sum(total.places for total in totals.values()),
        causes=tuple(sorted(causes)),
    )


def _urgency(occasion: str) -> int:
    """The place among what the operator is told in full: what is urgent is never only listed."""
    return OPERATOR_OCCASIONS.index(occasion) if occasion in OPERATOR_OCCASIONS else len(OPERATOR_OCCASIONS)


def _variant(channel: str, occasions: set[str], causes: set[str], kinds: set[str]) -> str:
    """The most particular wording that is true of every token of the mail."""
    if channel == "operator":
        return "operator"
    if occasions == {"already_disabled"}:
        return "already_disabled"
    if causes == {"compromise_signs"}:
        return "compromise_signs"
    for variant, own in (("public_repository", _REPOSITORY), ("gist", _GIST), ("conversation", _CONVERSATION)):
        if kinds and kinds <= own and causes == {"public_repository"}:
            return variant
    return "public_place"


@dataclass(frozen=True, slots=True)
class _Totals:
    places: int
    published: int
    published_at: datetime | None
    seen_at: datetime


def _incident_ids(notification_id: uuid.UUID) -> Any:
    return select(NotificationSubject.incident_id).where(NotificationSubject.notification_id == notification_id)


def _totals(session: Session, notification_id: uuid.UUID) -> dict[uuid.UUID, _Totals]:
    statement = (
        select(
            Exposure.incident_id,
            func.count(),
            func.count(Exposure.published_at),
            func.min(Exposure.published_at),
            func.min(Exposure.seen_at),
        )
        .where(Exposure.incident_id.in_(_incident_ids(notification_id)))
        .group_by(Exposure.incident_id)
    )
    return {row[0]: _Totals(*row[1:]) for row in session.execute(statement)}


def _kinds(session: Session, notification_id: uuid.UUID) -> set[str]:
    statement = select(Exposure.kind).where(Exposure.incident_id.in_(_incident_ids(notification_id))).distinct()
    return set(session.execute(statement).scalars())


def _token(
    session: Session,
    incident: Incident,
    occasion: str,
    totals: _Totals | None,
    undelivered: Sequence[Undelivered],
    share: int,
) -> TokenFacts:
    exposures = session.execute(
        select(Exposure).where(Exposure.incident_id == incident.id).order_by(Exposure.id).limit(share)
    ).scalars()
    return TokenFacts(
        incident_id=str(incident.id),
        occasion=occasion,
        name=redact(incident.token_name),
        hint=incident.hint,
        cause=incident.cause,
        detected_at=incident.detected_at,
        account=redact(incident.account_name) if incident.account_name else None,
        disabled_at=incident.disabled_at,
        published_at=totals.published_at if totals else None,
        published_everywhere=totals is not None and totals.places == totals.published,
        seen_at=totals.seen_at if totals else None,
        last_used_at=incident.token_last_used_at,
        places=tuple(_place(exposure) for exposure in exposures),
        places_total=totals.places if totals else 0,
        undelivered=tuple(undelivered[:MOST_UNDELIVERED]),
        undelivered_total=len(undelivered),
    )


def _brought_back(session: Session, notification_id: uuid.UUID) -> dict[uuid.UUID, datetime]:
    """When an operator brought back, before this mail went out, what works still; by incident. Our tables only."""
    statement = (
        select(AuditEntry.incident_id, func.max(AuditEntry.at))
        .join(Incident, Incident.id == AuditEntry.incident_id)
        .join(ApiToken, ApiToken.digest == Incident.digest)
        .where(
            AuditEntry.what == "token_enabled_by_hand",
            AuditEntry.incident_id.in_(_incident_ids(notification_id)),
            ApiToken.disabled_at.is_(None),
        )
        .group_by(AuditEntry.incident_id)
    )
    return {incident_id: at for incident_id, at in session.execute(statement) if incident_id is not None}


def _signs(incident: Incident) -> tuple[str, ...]:
    """What was reported of it, newest first: the sign, by whom, and their words."""
    reported = (incident.evidence or {}).get("signs", ())
    lines = (f"{one.get('sign')} by {one.get('reporter')}: {one.get('note') or '-'}" for one in reversed(reported))
    return tuple(redact(line) for line in itertools.islice(lines, MOST_SIGNS))


def _place(row: Exposure) -> PlaceFacts:
    return PlaceFacts(
        kind=row.kind,
        url=redact(row.url),
        seen_at=row.seen_at,
        repository=redact(row.repository) if row.repository else None,
        path=redact(row.path) if row.path else None,
        commit=row.commit,
        ref=redact(row.ref) if row.ref else None,
        line=row.line,
        spelling=redact(row.spelling),
        container=redact(row.container),
        published_at=row.published_at,
    )


def _undelivered(session: Session, notification_id: uuid.UUID) -> dict[uuid.UUID, list[Undelivered]]:
    """The failed mails to owners of the same incidents: whom the operator has to reach in another way."""
    statement = (
        select(NotificationSubject.incident_id, Notification.recipient, Notification.error)
        .join(Notification, Notification.id == NotificationSubject.notification_id)
        .where(
            Notification.channel == "email",
            Notification.state == "failed",
            NotificationSubject.incident_id.in_(_incident_ids(notification_id)),
        )
        .order_by(NotificationSubject.id)
    )
    found: dict[uuid.UUID, list[Undelivered]] = defaultdict(list)
    for incident_id, recipient, error in session.execute(statement):
        found[incident_id].append(Undelivered(recipient, redact(error or "")))
    return found


def _to_json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if dataclasses.is_dataclass(value):
        return {field.name: _to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [_to_json(one) for one in value] if isinstance(value, tuple) else value


def _known(cls: type[Any], value: Mapping[str, Any], *, times: tuple[str, ...] = ()) -> dict[str, Any]:
    known = {field.name: value[field.name] for field in dataclasses.fields(cls) if field.name in value}
    for name in times:
        if known.get(name) is not None:
            known[name] = datetime.fromisoformat(known[name])
    return known

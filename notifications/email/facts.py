"""The facts of a mail: the data that it reports. They are stored in the database as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from scanner.records.states import Occasion

MAX_PLACES = 20
"""The maximum number of public places that one mail lists."""
MAX_TOKENS = 10
"""The maximum number of tokens that one mail describes in full. Mail services cut off mails at about 100 kB."""
MAX_SHORT_TOKENS = 200
"""The maximum number of tokens that one mail lists in one line each, after the tokens that it describes in full."""

OPERATOR_OCCASIONS = (
    *(Occasion.PROTECTED, Occasion.BRAKE_CLOSED, Occasion.FLAGGED, Occasion.OBSERVED, Occasion.UNDELIVERABLE),
)
"""The reasons for which the operator receives mails, the most urgent first."""


@dataclass(frozen=True, slots=True)
class PlaceFacts:
    """One public place in which a token was found, such as a file.

    An unknown `line` is 0. An unknown `published_at` is None.
    """

    kind: str
    url: str
    seen_at: datetime
    repository: str | None = None
    path: str | None = None
    commit: str | None = None
    ref: str | None = None
    line: int = 0
    encoding: str = "plain"
    container: str = ""
    published_at: datetime | None = None

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PlaceFacts:
        return cls(**_known(cls, value, times=("seen_at", "published_at")))


@dataclass(frozen=True, slots=True)
class UndeliveredMail:
    """A mail to an owner that could not be delivered. `recipient` is None if the address is unknown."""

    recipient: str | None
    reason: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> UndeliveredMail:
        return cls(**_known(cls, value))


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What a mail reports about one incident and its token.

    Attributes:
        occasion: Why the mail reports this incident, such as "disabled".
        cause: How the token was compromised, such as "public_repository".
        published_at: The earliest known time of publication.
        published_everywhere: Whether the time of publication is known for every public place.
        seen_at: When r8scan first saw the token in a public place.
        places: The first public places in which the token was found.
        places_total: The number of all public places.
        undelivered: The first failed mails to the owner. Empty in mails to owners.
        undelivered_total: The number of all failed mails to the owner.
        signs: The newest compromise reports, one line each. Empty in mails to owners.
        brought_back_at: When an operator enabled the token again. Only set in mails to owners.
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
    undelivered: tuple[UndeliveredMail, ...] = ()
    undelivered_total: int = 0
    signs: tuple[str, ...] = ()
    brought_back_at: datetime | None = None

    @property
    def disabled_before_exposure(self) -> bool:
        """Return whether the token was already disabled when it first became public."""
        since = self.published_at or self.seen_at or self.detected_at
        return self.occasion == Occasion.ALREADY_DISABLED and self.disabled_at is not None and self.disabled_at <= since

    @property
    def exposed_seconds(self) -> float | None:
        """Return the seconds from the token's publication until it was disabled.

        If no time of publication is known, count from `seen_at`. Return None if the token was not disabled or was never
        public.
        """
        if self.disabled_at is None or self.places_total == 0:
            return None
        since = self.published_at or self.seen_at or self.detected_at
        return max((self.disabled_at - since).total_seconds(), 0)

    @property
    def used_since_exposure(self) -> bool | None:
        """Return whether the token was used after its first publication, or None if unknown."""
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
        known["undelivered"] = tuple(UndeliveredMail.from_json(one) for one in value.get("undelivered", ()))
        known["signs"] = tuple(value.get("signs", ()))
        return cls(**known)


@dataclass(frozen=True, slots=True)
class ShortToken:
    """The facts about a token that fit into one line of a mail."""

    name: str
    hint: str
    incident_id: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ShortToken:
        return cls(**_known(cls, value))


@dataclass(frozen=True, slots=True)
class MailFacts:
    """What one mail reports.

    Attributes:
        variant: The name of the folder with the templates for this mail.
        frozen_at: When these data were read from the database.
        tokens: The tokens that the mail describes in full.
        others: The tokens that the mail lists in one line each.
        tokens_total: The number of all tokens, also of those that the mail does not show.
        places_total: The number of all public places of these tokens.
        causes: How these tokens were compromised, without duplicates.
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
        """Return the ids of the incidents in `tokens`, without duplicates."""
        return tuple(dict.fromkeys(token.incident_id for token in self.tokens))

    def to_json(self) -> dict[str, Any]:
        """Return the data as a JSON object, with times in ISO 8601 format in UTC."""
        value: dict[str, Any] = _to_json(self)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MailFacts:
        """Return the data of a mail from the result of `to_json`. Ignore unknown fields.

        Raises:
            KeyError, TypeError, ValueError: the object is malformed.
        """
        known = _known(cls, value, times=("frozen_at",))
        known["tokens"] = tuple(TokenFacts.from_json(token) for token in value["tokens"])
        known["others"] = tuple(ShortToken.from_json(other) for other in value.get("others", ()))
        known["causes"] = tuple(value.get("causes") or sorted({token.cause for token in known["tokens"]}))
        return cls(**known)


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

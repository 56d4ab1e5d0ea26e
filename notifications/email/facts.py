"""The facts of a mail: frozen values that are stored as JSON in the outbox. They do not depend on the database."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from scanner.records.states import Occasion

MAX_PLACES = 20
"""Places listed in one mail. The mail always gives their total."""
MAX_TOKENS = 10
"""Tokens described in full in one mail, because mail services cut off mails at about 100 kB."""
MAX_SHORT_TOKENS = 200
"""Further tokens listed in one line each. Of more tokens, the mail gives only the number."""

OPERATOR_OCCASIONS = (
    *(Occasion.PROTECTED, Occasion.BRAKE_CLOSED, Occasion.FLAGGED, Occasion.OBSERVED, Occasion.UNDELIVERABLE),
)
"""Why the operator receives a mail, most urgent first."""


@dataclass(frozen=True, slots=True)
class PlaceFacts:
    """One public place of a token.

    `line` is 0 if the line is unknown, and `published_at` None if the time is.
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
    """A mail to an owner that could not be delivered. `recipient` is None if the account has no address."""

    recipient: str | None
    reason: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> UndeliveredMail:
        return cls(**_known(cls, value))


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """One incident in a mail.

    Attributes:
        occasion: Why the mail reports this incident.
        published_at: The earliest known time of publication.
        published_everywhere: Whether the time of publication is known for every place.
        places: The first places. Their total number is `places_total`.
        undelivered: The first failed mails to the owner. Their total number is `undelivered_total`. For the operator
            only.
        signs: The newest compromise reports, one line each. For the operator only.
        brought_back_at: When an operator enabled the token again. None unless it still worked when the facts were
            frozen.
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
        """Return whether the token was already disabled when its first place became public."""
        since = self.published_at or self.seen_at or self.detected_at
        return self.occasion == Occasion.ALREADY_DISABLED and self.disabled_at is not None and self.disabled_at <= since

    @property
    def exposed_seconds(self) -> float | None:
        """Return for how many seconds the token was public and worked. Return None if it still works, or was never
        public.

        The time begins with the first known publication. If none is known, it begins when r8scan first saw the token.
        """
        if self.disabled_at is None or self.places_total == 0:
            return None
        since = self.published_at or self.seen_at or self.detected_at
        return max((self.disabled_at - since).total_seconds(), 0)

    @property
    def used_since_exposure(self) -> bool | None:
        """Return whether the token was last used after its first known publication. Return None if this is unknown."""
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
    """A token that the mail lists in one line."""

    name: str
    hint: str
    incident_id: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ShortToken:
        return cls(**_known(cls, value))


@dataclass(frozen=True, slots=True)
class MailFacts:
    """The content of one mail.

    Attributes:
        variant: The wording: the name of a folder of templates.
        frozen_at: When the facts were read. They do not change afterwards.
        tokens: Tokens described in full.
        others: Tokens listed in one line each.
        tokens_total: The number of all tokens of the mail, including those that are only counted.
        causes: The causes of all tokens, including those that are only counted.
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
        """Return the ids of the incidents that are described in full, in their order, without repetitions."""
        return tuple(dict.fromkeys(token.incident_id for token in self.tokens))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, with times as ISO 8601 in UTC."""
        value: dict[str, Any] = _to_json(self)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> MailFacts:
        """Return the facts that `to_json` wrote. Ignore unknown fields.

        Raises:
            KeyError, TypeError, ValueError: the value has another form.
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

"""What a mail tells, as frozen values that survive as JSON. Knows no rows; renders and sends nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

MAX_PLACES = 20
"""Places shown in one mail; their total is always told."""
MAX_TOKENS = 10
"""Tokens of one mail told in full: mail services cut a mail off at about 100 kB."""
MAX_SHORT_TOKENS = 200
"""Further tokens told in one line each; beyond them only their number."""

OPERATOR_OCCASIONS = ("protected", "brake_closed", "flagged", "observed", "undeliverable")
"""Why the operator is told, the most urgent first."""

VARIANTS = (
    *("public_repository", "gist", "conversation", "public_place", "compromise_signs", "already_disabled", "operator"),
)


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
    encoding: str = "plain"
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

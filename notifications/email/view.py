"""The view model of a mail: its facts after cleaning. Code that prints a mail receives only this view.

Every string in a `MailView` is cleaned, bounded, and written so that mail programs do not turn it into a link. Neither
the page nor a template can therefore print a raw string by mistake.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from notifications.email.facts import MailFacts, PlaceFacts, TokenFacts
from notifications.email.unlinked import unlinked
from notifications.email.wording import MAX_NAME_LENGTH, MAX_PATH_LENGTH, clean, safe_link

_MAX_LENGTHS: Mapping[str, int] = dict.fromkeys(
    ("path", "url", "container", "reason", "recipient", "signs"), MAX_PATH_LENGTH
)
"""Characters kept of these fields. All others keep `MAX_NAME_LENGTH`."""


@dataclass(frozen=True, slots=True)
class PlaceView(PlaceFacts):
    """A public place in a mail.

    `link` is its address if a mail may link to it, otherwise None. `url` is for display only.
    """

    link: str | None = None


@dataclass(frozen=True, slots=True)
class TokenView(TokenFacts):
    """A token whose strings are cleaned and whose places are views."""

    places: tuple[PlaceView, ...] = ()


@dataclass(frozen=True, slots=True)
class MailView(MailFacts):
    """A mail whose strings are cleaned and whose tokens are views."""

    tokens: tuple[TokenView, ...]


def mail_view(facts: MailFacts, web_url: str) -> MailView:
    """Return the facts with every string cleaned, and the links that the mail may contain.

    Args:
        facts: The frozen facts. Their strings may have been written by an attacker.
        web_url: The web address of the watched GitHub, the only site that a mail links to.
    """
    tokens = tuple(_token_view(token, web_url) for token in facts.tokens)
    return MailView(**_cleaned_fields(facts, leave_out="tokens"), tokens=tokens)


def _token_view(token: TokenFacts, web_url: str) -> TokenView:
    places = tuple(
        # Make the link from the raw address, because the cleaned address is shortened and no longer leads to the place.
        PlaceView(**_cleaned_fields(place), link=safe_link(place.url, web_url, place.kind))
        for place in token.places
    )
    return TokenView(**_cleaned_fields(token, leave_out="places"), places=places)


def _cleaned_fields(record: Any, leave_out: str = "") -> dict[str, Any]:
    return {
        field.name: _cleaned(getattr(record, field.name), _MAX_LENGTHS.get(field.name, MAX_NAME_LENGTH))
        for field in dataclasses.fields(record)
        if field.name != leave_out
    }


def _cleaned(value: Any, max_length: int) -> Any:
    if isinstance(value, str):
        return unlinked(clean(value, max_length))
    if isinstance(value, tuple):
        return tuple(_cleaned(one, max_length) for one in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.replace(value, **_cleaned_fields(value))
    if value is None or isinstance(value, int | float | datetime):
        return value
    raise TypeError(f"no fact has the type {type(value).__name__}")

"""The data of a mail with all strings made safe. The templates get only these data."""

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
"""The maximum length of these fields in characters, instead of MAX_NAME_LENGTH."""


@dataclass(frozen=True, slots=True)
class PlaceView(PlaceFacts):
    """A public place in which a token was found, with all strings made safe.

    `url` is the URL as mails show it. `link` is the URL to link to, or None.
    """

    link: str | None = None


@dataclass(frozen=True, slots=True)
class TokenView(TokenFacts):
    """A token and its public places, with all strings made safe."""

    places: tuple[PlaceView, ...] = ()


@dataclass(frozen=True, slots=True)
class MailView(MailFacts):
    """The data of a mail and its tokens, as the templates print them."""

    tokens: tuple[TokenView, ...]


def mail_view(facts: MailFacts, web_url: str) -> MailView:
    """Return the data of a mail with all strings made safe.

    Args:
        facts: The data of the mail. An attacker may have written the strings in them.
        web_url: The web address of the watched GitHub, the only site that a mail links to.
    """
    tokens = tuple(_token_view(token, web_url) for token in facts.tokens)
    return MailView(**_cleaned_fields(facts, leave_out="tokens"), tokens=tokens)


def _token_view(token: TokenFacts, web_url: str) -> TokenView:
    places = tuple(
        # Make the link from the original URL. The cleaned URL is only for display and cannot be opened.
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

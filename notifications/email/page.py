"""The words of one mail, put in order: what the text and the HTML body both print, so that they cannot differ.

Everything in a `Page` is plain text: cleaned, bounded, and to be escaped by whoever prints it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from notifications.email.facts import OPERATOR_OCCASIONS, MailFacts, PlaceFacts, TokenFacts
from notifications.email.unlinked import unlinked
from notifications.email.wording import MAX_NAME_LENGTH, MAX_PATH_LENGTH, clean, safe_link, shorten

FEW_PLACES = 3
"""With more places, or several tokens, what to do comes before the list."""
_LONG_FIELDS = {"path", "url", "container", "reason", "recipient", "signs"}
_BEFORE = ("stopped", "steps")
_AFTER = ("how", "not_done", "genuine")

Macro = Callable[..., str]
Words = Callable[[str], Macro]
"""From a name to the macro that speaks it: the variant's own, else the shared one."""
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class _Speaker:
    words: Words
    web_url: str


class WordsError(ValueError):
    """A template's words have not the form that is read here; the message names the macro."""


@dataclass(frozen=True, slots=True)
class Row:
    """A fact with its label; `is_code` for what is to be printed in a fixed width."""

    label: str
    value: str
    is_code: bool


@dataclass(frozen=True, slots=True)
class PlacePage:
    """A place: `link` is an address that may be one, `address` what to show of it (or of one that may not)."""

    title: str
    details: tuple[str, ...]
    link: str | None
    address: str


@dataclass(frozen=True, slots=True)
class TokenPage:
    title: str
    rows: tuple[Row, ...]
    places: tuple[PlacePage, ...]
    more_places: str


@dataclass(frozen=True, slots=True)
class Group:
    """Tokens under one heading, which is empty where they follow the intro."""

    title: str
    paragraphs: tuple[str, ...]
    tokens: tuple[TokenPage, ...]


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    paragraphs: tuple[str, ...]
    is_numbered: bool


@dataclass(frozen=True, slots=True)
class Page:
    """One mail: headline, intro, then the sections `before` the groups, the groups, and those `after` them."""

    language: str
    notice: str
    headline: str
    intro: tuple[str, ...]
    before: tuple[Section, ...]
    places_title: str
    groups: tuple[Group, ...]
    others_title: str
    others: tuple[str, ...]
    more_tokens: str
    after: tuple[Section, ...]
    ending: tuple[str, ...]


def cleaned(value: Value) -> Value:
    """Return the facts with every string cleaned, bounded, and such that no mail program links it.

    Every string passes through here, so no template can forget it.
    """
    return _cleaned(value, MAX_NAME_LENGTH)  # type: ignore[no-any-return]  # the type stays


def build(facts: MailFacts, words: Words, web_url: str) -> Page:
    """Let the words speak of the facts. WordsError when they have not the form expected; Jinja's errors pass.

    `web_url` is the address of the GitHub that is watched: the only one that links may lead to.
    """
    mail = cleaned(facts)
    titles = {row.label: row.value for row in _rows(words, "titles")}
    sections = {name: _section(name, words, titles) for name in (*_BEFORE, *_AFTER)}
    is_short = mail.tokens_total == 1 and mail.places_total <= FEW_PLACES
    before, after = (_BEFORE, _AFTER) if not is_short and facts.variant != "operator" else ((), (*_BEFORE, *_AFTER))
    return Page(
        language=_line(words, "language"),
        notice=_line(words, "notice"),
        headline=_line(words, "headline"),
        intro=_paragraphs(words, "intro"),
        before=tuple(section for name in before if (section := sections[name])),
        places_title=_title(titles, "places"),
        groups=_groups(facts, mail, _Speaker(words, web_url), _title(titles, "details") if before else ""),
        others_title=_title(titles, "others"),
        others=tuple(_line(words, "other_token", other) for other in mail.others),
        more_tokens=_line(words, "more_tokens"),
        after=tuple(section for name in after if (section := sections[name])),
        ending=_paragraphs(words, "ending"),
    )


def _groups(facts: MailFacts, mail: MailFacts, speaker: _Speaker, title: str) -> tuple[Group, ...]:
    """An owner's tokens in one group under `title`; the operator's by occasion, the most urgent first."""
    pairs = list(zip(facts.tokens, mail.tokens, strict=True))
    if facts.variant != "operator":
        return (Group(title, (), tuple(_token(raw, token, speaker) for raw, token in pairs)),)
    present = {raw.occasion for raw, _ in pairs}
    known = [occasion for occasion in OPERATOR_OCCASIONS if occasion in present]
    return tuple(
        Group(
            _line(speaker.words, "group_title", occasion),
            _paragraphs(speaker.words, "group_text", occasion),
            tuple(_token(raw, token, speaker) for raw, token in pairs if raw.occasion == occasion),
        )
        for occasion in (*known, *sorted(present - set(known)))
    )


def _token(raw: TokenFacts, token: TokenFacts, speaker: _Speaker) -> TokenPage:
    words = speaker.words
    return TokenPage(
        title=_line(words, "token_title", token),
        rows=_rows(words, "token_rows", token),
        places=tuple(_place(one, clean_one, speaker) for one, clean_one in zip(raw.places, token.places, strict=True)),
        more_places=_line(words, "more_places", token),
    )


def _place(raw: PlaceFacts, place: PlaceFacts, speaker: _Speaker) -> PlacePage:
    words = speaker.words
    link = safe_link(raw.url, speaker.web_url, raw.kind)
    return PlacePage(
        title=_line(words, "place_title", place),
        details=_lines(words, "place_details", place),
        link=link,
        address=shorten(link, MAX_PATH_LENGTH) if link else place.url,
    )


def _section(name: str, words: Words, titles: dict[str, str]) -> Section | None:
    paragraphs = _paragraphs(words, name)
    return Section(_title(titles, name), paragraphs, name == "steps") if paragraphs else None


def _title(titles: dict[str, str], name: str) -> str:
    try:
        return titles[name]
    except KeyError:
        raise WordsError(f"the macro `titles` has no line `{name}: …`") from None


def _line(words: Words, name: str, *values: Any) -> str:
    return " ".join(words(name)(*values).split())


def _lines(words: Words, name: str, *values: Any) -> tuple[str, ...]:
    lines = (" ".join(line.split()) for line in words(name)(*values).splitlines())
    return tuple(line for line in lines if line)


def _paragraphs(words: Words, name: str, *values: Any) -> tuple[str, ...]:
    blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n", words(name)(*values)))
    return tuple(block for block in blocks if block)


def _rows(words: Words, name: str, *values: Any) -> tuple[Row, ...]:
    rows = []
    for line in _lines(words, name, *values):
        label, colon, value = line.partition(": ")
        if not colon:
            raise WordsError(f"the macro `{name}` may only have lines of the form `Label: value`")
        is_code = len(value) > 2 and value[0] == value[-1] == "`"
        rows.append(Row(label, value[1:-1] if is_code else value, is_code))
    return tuple(rows)


def _cleaned(value: Any, longest: int) -> Any:
    if isinstance(value, str):
        return unlinked(clean(value, longest))
    if isinstance(value, tuple):
        return tuple(_cleaned(one, longest) for one in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes = {
            field.name: _cleaned(
                getattr(value, field.name), MAX_PATH_LENGTH if field.name in _LONG_FIELDS else MAX_NAME_LENGTH
            )
            for field in dataclasses.fields(value)
        }
        return dataclasses.replace(value, **changes)
    if value is None or isinstance(value, int | float | datetime):
        return value
    raise TypeError(f"no fact has the type {type(value).__name__}")

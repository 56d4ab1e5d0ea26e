"""The content of one mail in reading order.

The text body and the HTML body are both made from this content, so they cannot differ.

Everything in a `Page` is plain text, cleaned and of limited length. The HTML body must escape it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from notifications.email.facts import OPERATOR_OCCASIONS
from notifications.email.view import MailView, PlaceView, TokenView
from notifications.email.wording import MAX_PATH_LENGTH, shorten

MAX_PLACES_FIRST = 3
"""A mail about one token in at most this many places lists them before the steps. Any other mail gives steps first."""
_STEPS_SECTIONS = ("stopped", "steps")
_CLOSING_SECTIONS = ("how", "not_done", "genuine")

Macro = Callable[..., str]


class WordsError(ValueError):
    """Raised if a file of template words lacks a macro or a title, or has the wrong form.

    The message names what is wrong.
    """


@dataclass(frozen=True, slots=True)
class Words:
    """The words of one variant of mails: its macros by name, and its section titles.

    A macro or title of the variant takes precedence over the shared macro or title of the same name.
    """

    macro: Callable[[str], Macro]
    titles: Mapping[str, str]

    def title(self, name: str) -> str:
        """Return the title of a section.

        Raises:
            WordsError: `titles` has no such entry.
        """
        try:
            return " ".join(str(self.titles[name]).split())
        except KeyError:
            raise WordsError(f"`titles` has no entry `{name}`") from None

    def line(self, name: str, *values: Any) -> str:
        """Return the text of a macro as one line."""
        return " ".join(self.macro(name)(*values).split())

    def paragraphs(self, name: str, *values: Any) -> tuple[str, ...]:
        """Return the text of a macro as paragraphs, each in one line. The macro separates them by empty lines."""
        blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n", self.macro(name)(*values)))
        return tuple(block for block in blocks if block)


@dataclass(frozen=True, slots=True)
class Row:
    """A fact with its label. `is_code` asks for a fixed-width font."""

    label: str
    value: str
    is_code: bool


@dataclass(frozen=True, slots=True)
class PlacePage:
    """A public place in a mail.

    `address` is the text that the mail shows. `link` is the target of that text, or None for plain text.
    """

    title: str
    details: tuple[str, ...]
    link: str | None
    address: str


@dataclass(frozen=True, slots=True)
class TokenPage:
    """A token in a mail: its facts, its places, and a sentence about places that are not listed.

    The sentence is empty if all places are listed.
    """

    title: str
    rows: tuple[Row, ...]
    places: tuple[PlacePage, ...]
    more_places: str


@dataclass(frozen=True, slots=True)
class Group:
    """Tokens under one heading. The heading is empty when the tokens follow the introduction directly."""

    title: str
    paragraphs: tuple[str, ...]
    tokens: tuple[TokenPage, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A titled block of prose. Its paragraphs are numbered steps if `is_numbered`."""

    title: str
    paragraphs: tuple[str, ...]
    is_numbered: bool


@dataclass(frozen=True, slots=True)
class Page:
    """One mail: headline, introduction, the sections `before` the groups, the groups, and the sections `after` the
    groups.
    """

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


def build(mail: MailView, words: Words) -> Page:
    """Return the content of a mail: the words of its variant, filled with its facts.

    Raises:
        WordsError: a macro or a title is missing. Errors inside a macro are Jinja's own.
    """
    sections = {name: _section(name, words) for name in (*_STEPS_SECTIONS, *_CLOSING_SECTIONS)}
    is_short = mail.tokens_total == 1 and mail.places_total <= MAX_PLACES_FIRST
    before = () if is_short or mail.variant == "operator" else _STEPS_SECTIONS
    after = _CLOSING_SECTIONS if before else (*_STEPS_SECTIONS, *_CLOSING_SECTIONS)
    return Page(
        language=words.line("language"),
        notice=words.line("notice"),
        headline=words.line("headline"),
        intro=words.paragraphs("intro"),
        before=tuple(section for name in before if (section := sections[name])),
        places_title=words.title("places"),
        groups=_groups(mail, words, words.title("details") if before else ""),
        others_title=words.title("others"),
        others=tuple(words.line("other_token", other) for other in mail.others),
        more_tokens=words.line("more_tokens"),
        after=tuple(section for name in after if (section := sections[name])),
        ending=words.paragraphs("ending"),
    )


def _groups(mail: MailView, words: Words, title: str) -> tuple[Group, ...]:
    """Return the tokens of a mail in groups: for the operator by occasion, the most urgent first.

    For an owner, return one group with the title `title`.
    """
    if mail.variant != "operator":
        return (Group(title, (), tuple(_token(token, words) for token in mail.tokens)),)
    present = {token.occasion for token in mail.tokens}
    known = [occasion for occasion in OPERATOR_OCCASIONS if occasion in present]
    return tuple(
        Group(
            words.line("group_title", occasion),
            words.paragraphs("group_text", occasion),
            tuple(_token(token, words) for token in mail.tokens if token.occasion == occasion),
        )
        for occasion in (*known, *sorted(present - set(known)))
    )


def _token(token: TokenView, words: Words) -> TokenPage:
    return TokenPage(
        title=words.line("token_title", token),
        rows=_rows(token, words),
        places=tuple(_place(place, words) for place in token.places),
        more_places=words.line("more_places", token),
    )


def _rows(token: TokenView, words: Words) -> tuple[Row, ...]:
    """Return the rows that the macro `token_rows` adds.

    The macro calls its second argument, `row(label, value)`, for each.
    """
    rows: list[Row] = []

    def row(label: str, value: object, code: bool = False) -> str:
        rows.append(Row(" ".join(label.split()), " ".join(str(value).split()), code))
        return ""

    words.macro("token_rows")(token, row)
    return tuple(rows)


def _place(place: PlaceView, words: Words) -> PlacePage:
    details: list[str] = []

    def line(text: object) -> str:
        details.append(" ".join(str(text).split()))
        return ""

    words.macro("place_details")(place, line)
    return PlacePage(
        title=words.line("place_title", place),
        details=tuple(details),
        link=place.link,
        address=shorten(place.link, MAX_PATH_LENGTH) if place.link else place.url,
    )


def _section(name: str, words: Words) -> Section | None:
    paragraphs = words.paragraphs(name)
    return Section(words.title(name), paragraphs, name == "steps") if paragraphs else None

"""The content of one mail: all its texts, in the order in which they appear.

The texts are plain text, which an HTML template must escape.
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
"""A mail about one token in at most this many places begins with the places, not with the owner's steps."""
_STEPS_SECTIONS = ("stopped", "steps")
_CLOSING_SECTIONS = ("how", "not_done", "genuine")

Macro = Callable[..., str]


class WordsError(ValueError):
    """Raised if a template file `words.txt` is malformed, or lacks a macro or a title. The message gives the reason."""


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of one kind of mail, from its own file `words.txt` and from a shared one.

    `macro` returns a Jinja macro by its name. `titles` has the titles of sections by name.
    """

    macro: Callable[[str], Macro]
    titles: Mapping[str, str]

    def title(self, name: str) -> str:
        """Return the title of the section `name` as one line.

        Raises:
            WordsError: there is no title with this name.
        """
        try:
            return " ".join(str(self.titles[name]).split())
        except KeyError:
            raise WordsError(f"`titles` has no entry `{name}`") from None

    def line(self, name: str, *values: Any) -> str:
        """Call the macro `name` with these arguments, and return its text as one line."""
        return " ".join(self.macro(name)(*values).split())

    def paragraphs(self, name: str, *values: Any) -> tuple[str, ...]:
        """Call the macro `name` with these arguments, and return the paragraphs of its text as one line each.

        Empty lines separate paragraphs.
        """
        blocks = (" ".join(block.split()) for block in re.split(r"\n\s*\n", self.macro(name)(*values)))
        return tuple(block for block in blocks if block)


@dataclass(frozen=True, slots=True)
class Row:
    """A labelled value in the description of a token. `is_code` means a fixed-width font."""

    label: str
    value: str
    is_code: bool


@dataclass(frozen=True, slots=True)
class PlacePage:
    """The texts about one public place in which a token was found.

    `address` is the URL of the place as the mail shows it. `link` is the target of the link, or None.
    """

    title: str
    details: tuple[str, ...]
    link: str | None
    address: str


@dataclass(frozen=True, slots=True)
class TokenPage:
    """The texts about a token: its data and its public places.

    `more_places` is a sentence about the places that the mail does not list, or empty.
    """

    title: str
    rows: tuple[Row, ...]
    places: tuple[PlacePage, ...]
    more_places: str


@dataclass(frozen=True, slots=True)
class Group:
    """A group of tokens in a mail. `title` may be empty. `paragraphs` is the introduction."""

    title: str
    paragraphs: tuple[str, ...]
    tokens: tuple[TokenPage, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a mail: a title and paragraphs. If `is_numbered` is true, they are numbered steps."""

    title: str
    paragraphs: tuple[str, ...]
    is_numbered: bool


@dataclass(frozen=True, slots=True)
class Page:
    """All texts of one mail. `before` and `after` are the sections around the groups of tokens."""

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
    """Return the texts of a mail.

    Raises:
        WordsError: a macro or a title is missing.
        Exception: a macro fails. Custom templates may raise any exception.
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
    """Return the tokens of a mail in groups, the most urgent first.

    `title` is the heading of the only group in a mail to an owner.
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
    """Return the labelled values that describe a token."""
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

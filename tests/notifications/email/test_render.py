"""Tests that the text and the HTML of every kind of mail say the same, and that hostile strings do no harm."""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from notifications.email.facts import OPERATOR_OCCASIONS, MailFacts, PlaceFacts, TokenFacts
from notifications.email.logo import read_logo
from notifications.email.palette import DARK, LIGHT, Palette
from notifications.email.render import BUILT_IN, VARIANTS, Rendered, render_strictly
from notifications.email.unlinked import unlinked
from notifications.email.wording import duration_words, time_words
from tests.notifications.email.rendering import IDENTITY, SAMPLES
from tests.notifications.logos import png

BRANDED = replace(IDENTITY, logo=read_logo(png()))


class Reader(HTMLParser):
    """A parser of an HTML mail. It collects the visible text, the links, the list items and the tags."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.links: list[str] = []
        self.items: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden += tag in ("style", "title")
        if tag == "a":
            self.links.append(dict(attrs)["href"] or "")
            self.items[-1] += f" {self.links[-1]}"
        if tag == "li":
            self.items.append("")
        if tag in ("br", "p", "li", "td", "th", "h1", "h2", "h3", "div"):
            self.seen.append(" ")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "title")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.seen.append(data)
            if self.items:
                self.items[-1] += f" {data}" if data.strip() else ""

    @property
    def text(self) -> str:
        return flat("".join(self.seen))


def flat(text: str) -> str:
    return " ".join(text.split())


def shown(fact: str) -> str:
    """Return an untrusted string as mails show it: unclickable, unless it is a link to GitHub."""
    return fact if fact.startswith(("https://github.com/", "https://gist.github.com/")) else unlinked(fact)


def read(rendered: Rendered) -> Reader:
    reader = Reader()
    reader.feed(rendered.html)
    reader.close()
    return reader


def place_facts(place: PlaceFacts) -> Iterator[str]:
    yield shown(place.url)
    yield time_words(place.seen_at)
    yield from (unlinked(value) for value in (place.repository, place.container, place.path) if value)
    if place.commit:
        yield f"commit {place.commit[:12]}"
    if place.line:
        yield f"line {place.line}"
    if place.encoding != "plain":
        yield place.encoding
    if place.published_at:
        yield time_words(place.published_at)


def token_facts(token: TokenFacts) -> Iterator[str]:
    yield from (token.hint, token.incident_id)
    yield from (value for value in (token.name, token.account) if value)
    times = (token.disabled_at, token.last_used_at, token.published_at, token.seen_at)
    yield from (time_words(moment) for moment in times if moment)
    if token.exposed_seconds is not None and not token.disabled_before_exposure:
        yield duration_words(token.exposed_seconds)
    if token.places_total:
        known = {True: ("yes", "YES"), False: ("no use on record",) * 2, None: ("not known",) * 2}
        yield f"Used since it was public: {known[token.used_since_exposure][token.occasion in OPERATOR_OCCASIONS]}"
    if token.places_total > len(token.places):
        yield f"{token.places_total} places"
    for place in token.places:
        yield from place_facts(place)
    for lost in token.undelivered:
        yield from (unlinked(str(lost.recipient)), unlinked(lost.reason))
    yield from map(unlinked, token.signs)


def facts_told(facts: MailFacts) -> Iterator[str]:
    for token in facts.tokens:
        yield from token_facts(token)
    for other in facts.others:
        yield from (other.name, other.hint, other.incident_id)
    if facts.tokens_total > 1:
        yield str(facts.tokens_total)
    if facts.variant != "operator":
        yield from (IDENTITY.account_tokens_url, str(IDENTITY.usage_url), str(IDENTITY.support_contact), "Vendor")


@pytest.mark.parametrize("name", SAMPLES)
def test_text_and_html_contain_every_fact(name: str) -> None:
    rendered = render_strictly(SAMPLES[name], IDENTITY)
    text, html = flat(rendered.text), read(rendered).text
    for fact in facts_told(SAMPLES[name]):
        assert fact in text, fact
        assert fact.replace(": ", " ") in html.replace(": ", " ") or fact in read(rendered).links, fact


@pytest.mark.parametrize("name", SAMPLES)
def test_both_bodies_list_each_place_with_its_facts(name: str) -> None:
    rendered = render_strictly(SAMPLES[name], IDENTITY)
    in_text = [flat(block) for block in re.split(r"\n\n|\n(?=\d+\. )", rendered.text)]
    in_html = [flat(block) for block in read(rendered).items]
    for place in (place for token in SAMPLES[name].tokens for place in token.places):
        facts = list(place_facts(place))
        assert any(all(fact in block for fact in facts) for block in in_text), place
        assert any(all(fact in block for fact in facts) for block in in_html), place


@pytest.mark.parametrize("name", SAMPLES)
def test_unknown_facts_are_called_unknown(name: str) -> None:
    facts = SAMPLES[name]
    unknown = dataclasses.replace(
        facts,
        tokens=tuple(
            replace(
                *(token,),
                last_used_at=None,
                published_at=None,
                published_everywhere=False,
                places=tuple(replace(place, published_at=None, line=0, commit=None) for place in token.places),
            )
            for token in facts.tokens
        ),
    )
    text = flat(render_strictly(unknown, IDENTITY).text)
    assert text.count("Last use on record: not known") == len(facts.tokens)
    shown = [token for token in facts.tokens if token.places_total]
    assert text.count("Public since: not known") == len(shown)
    assert text.count("Public since a time that is not known to us") == sum(len(token.places) for token in shown)
    assert "None" not in text
    assert "line 0" not in text


@pytest.mark.parametrize("name", SAMPLES)
def test_text_and_html_say_the_same_words(name: str) -> None:
    rendered = render_strictly(SAMPLES[name], IDENTITY)

    def words(text: str) -> set[str]:
        return set(re.sub(r"(^|\s)(\d+\.|==|-)(?=\s)", " ", text.lower().replace(":", "")).split())

    assert words(rendered.text) == words(read(rendered).text)


def test_there_is_a_sample_of_every_variant_and_of_every_occasion_for_the_operator() -> None:
    assert {facts.variant for facts in SAMPLES.values()} == set(VARIANTS)
    operators = [facts for facts in SAMPLES.values() if facts.variant == "operator"]
    assert {token.occasion for facts in operators for token in facts.tokens} == set(OPERATOR_OCCASIONS)


OWNER_MAILS = [name for name in SAMPLES if not name.startswith("operator")]


@pytest.mark.parametrize("name", OWNER_MAILS)
def test_an_owners_mail_says_what_happened_and_what_to_do(name: str) -> None:
    text = flat(render_strictly(SAMPLES[name], IDENTITY).text)
    for title in (
        *("WHAT HAS STOPPED WORKING", "WHAT TO DO NOW", "HOW WE KNOW", "WHAT WE DID NOT DO, AND DO NOT STORE"),
        "HOW TO TELL THAT THIS MAIL IS GENUINE",
    ):
        assert title in text
    assert re.search(r"WHAT TO DO NOW 1\. .* 2\. .* 3\. .* 4\. ", text)
    assert "no login link" in text
    assert "asks for no password, no token and no payment" in text
    assert "fingerprint" in text
    assert "We do not store" in text
    assert f"type {IDENTITY.account_tokens_url}" in text or f"browser: {IDENTITY.account_tokens_url}" in text
    assert f"{IDENTITY.usage_url} (type the address)" in text
    if SAMPLES[name].variant in ("public_repository", "gist", "conversation", "public_place"):
        assert "does not undo anything" in text
        assert "What protects you is that the token no longer works." in text
        assert "environment variables" in text
        assert "Other tokens, keys or passwords" in text


def test_a_mail_lists_reports_only_if_there_are_any() -> None:
    assert "Signs are not proof" in flat(render_strictly(SAMPLES["mixed-causes"], IDENTITY).text)
    assert "Signs" not in flat(render_strictly(SAMPLES["package"], IDENTITY).text)
    assert "since it was public" not in flat(render_strictly(SAMPLES["operator-flagged"], IDENTITY).text)


@pytest.mark.parametrize("name", SAMPLES)
def test_the_html_loads_nothing_and_links_only_to_the_public_places(name: str) -> None:
    facts = SAMPLES[name]
    reader = read(render_strictly(facts, IDENTITY))
    allowed = {tag for tag, _ in reader.tags}
    assert allowed.isdisjoint({"img", "script", "link", "iframe", "form", "input", "button", "object", "svg", "video"})
    for _, attributes in reader.tags:
        assert not {"src", "srcset", "background", "onclick", "onload", "action"} & set(attributes)
        assert "url(" not in (attributes.get("style") or "")
    assert "@import" not in render_strictly(facts, IDENTITY).html
    assert set(reader.links) <= {place.url for token in facts.tokens for place in token.places}
    assert IDENTITY.account_tokens_url not in reader.links


@pytest.mark.parametrize("name", SAMPLES)
def test_the_logo_is_the_only_picture_and_is_attached(name: str) -> None:
    reader = read(render_strictly(SAMPLES[name], BRANDED))
    (picture,) = [values for tag, values in reader.tags if tag == "img"]
    assert picture["src"] == BRANDED.logo.source  # type: ignore[union-attr]  # it has a logo
    assert picture["alt"] == "Vendor"
    sources = [values for _, values in reader.tags if {"src", "srcset", "background"} & set(values)]
    assert sources == [picture]
    assert flat(reader.text) == read(render_strictly(SAMPLES[name], IDENTITY)).text


@pytest.mark.parametrize("identity", ["plain", "branded"])
@pytest.mark.parametrize("name", SAMPLES)
def test_the_html_is_accessible(name: str, identity: str) -> None:
    reader = read(render_strictly(SAMPLES[name], BRANDED if identity == "branded" else IDENTITY))
    attributes = dict(reader.tags)
    assert attributes["html"]["lang"] == "en"
    headings = [int(tag[1]) for tag, _ in reader.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    assert all("role" in values or index for index, (tag, values) in enumerate(reader.tags) if tag == "table")
    assert all(values.get("scope") == "row" for tag, values in reader.tags if tag == "th")
    assert "color-scheme" in {values.get("name") for tag, values in reader.tags if tag == "meta"}
    assert all(values.get("alt") for tag, values in reader.tags if tag == "img")


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_every_pair_of_colours_has_enough_contrast(palette: Palette) -> None:
    for ground in (palette.card, palette.panel):
        for ink in (palette.text, palette.muted, palette.accent):
            assert contrast(ink, ground) >= 4.5
    assert contrast(palette.muted, palette.page) >= 4.5


class Painter(HTMLParser):
    """A parser that collects the pairs of text colour and background colour in an HTML mail."""

    VOID = frozenset({"meta", "br", "img", "link", "hr"})

    def __init__(self, html: str, *, dark: bool) -> None:
        super().__init__()
        self.pairs: set[tuple[str, str]] = set()
        self._stack: list[tuple[str, str]] = [("#000000", "#ffffff")]
        self._dark = dict(self._rules(html)) if dark else {}
        self.feed(html[html.index("</head>") :])

    @staticmethod
    def _rules(html: str) -> Iterator[tuple[str, dict[str, str]]]:
        style = html[html.index("@media (prefers-color-scheme: dark)") : html.index("</style>")]
        for name, rule in re.findall(r"\.([a-z]+) \{ ([^}]*) \}", style):
            yield name, dict(re.findall(r"(background|color): (#[0-9a-f]{6}) !important", rule))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        colours = dict(re.findall(r"(?:^|;)(background|color):(#[0-9a-f]{6})", values.get("style") or ""))
        for name in (values.get("class") or "").split():
            colours.update(self._dark.get(name, {}))
        ink, ground = self._stack[-1]
        self._stack.append((colours.get("color", ink), colours.get("background", ground)))
        if tag == "img":
            self.pairs.add(self._stack[-1])  # the picture's alternative text has these colours
        if tag in self.VOID:
            self._stack.pop()

    def handle_endtag(self, tag: str) -> None:
        if len(self._stack) > 1:
            self._stack.pop()

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.pairs.add(self._stack[-1])


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", SAMPLES)
def test_every_word_of_every_mail_has_enough_contrast(name: str, dark: bool) -> None:
    pairs = Painter(render_strictly(SAMPLES[name], BRANDED).html, dark=dark).pairs
    palette = DARK if dark else LIGHT
    assert {(palette.text, palette.card), (palette.muted, palette.page), (palette.text, palette.panel)} <= pairs
    assert (LIGHT.text, LIGHT.card) in pairs  # the logo has a light background even in dark mode
    for ink, ground in pairs:
        assert contrast(ink, ground) >= 4.5, (ink, ground)


def test_templates_use_only_colours_of_the_palette() -> None:
    for template in BUILT_IN.rglob("*.html"):
        assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?!;)", re.sub(r"&#\d+;", "", template.read_text()))


HOSTILE = [
    "<img src=x onerror=alert(1)>",
    '"><script>alert(1)</script>',
    "{{ 7 * 7 }}{% for x in range(9) %}{{ x }}{% endfor %}",
    "name\n\nDear customer, send your password to evil@example.com",
    "name\r\nBcc: everybody@example.com",
    "\u202efdp.exe",
    "`code`",
    "Incident: none",
    "x" * 10_000,
    "𝕏" * 3000 + "\u0301" * 3000,
]


def poison_of(value: Any, poison: str) -> Any:
    return (poison,) * len(value) if isinstance(value, tuple) else poison


def poisoned(value: Any, poison: str) -> Any:
    """Return a copy of a mail's data with `poison` in every string that an attacker can write."""
    if isinstance(value, tuple):
        return tuple(poisoned(one, poison) for one in value)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    names = (
        *("name", "account", "url", "repository", "path", "ref", "commit", "encoding", "container", "reason"),
        *("recipient", "signs"),
    )
    changes = {
        field.name: poison_of(current, poison)
        if field.name in names and current is not None
        else poisoned(current, poison)
        for field in dataclasses.fields(value)
        for current in [getattr(value, field.name)]
    }
    return dataclasses.replace(value, **changes)


@pytest.mark.parametrize("poison", HOSTILE)
@pytest.mark.parametrize("name", SAMPLES)
def test_hostile_strings_do_no_harm(name: str, poison: str) -> None:
    clean_mail = render_strictly(SAMPLES[name], IDENTITY)
    mail = render_strictly(poisoned(SAMPLES[name], poison), IDENTITY)
    dirty, before = read(mail), read(clean_mail)
    assert {tag for tag, _ in dirty.tags} <= {tag for tag, _ in before.tags}
    assert dirty.links == []
    assert "\n" not in mail.subject
    assert "\r" not in mail.subject + mail.text + mail.html
    assert "\u202e" not in mail.subject + mail.text + mail.html
    assert "\n\nDear" not in mail.text
    assert "\nBcc" not in mail.text
    assert "0 1 2" not in mail.text
    if "7 * 7" in poison:
        assert "{{ 7 * 7 }}" in mail.text
    assert len(mail.subject) <= 160
    facts = SAMPLES[name]
    strings = 10 + len(facts.others) + sum(10 + 6 * len(token.places) for token in facts.tokens)
    assert len(mail.text) < len(clean_mail.text) + 300 * strings


def test_no_mail_contains_a_raw_token_in_any_disguise(fresh_token: Callable[[], str]) -> None:
    token = fresh_token()
    for held in (token, f"{token[:9]}\u200b{token[9:]}", f"a/{token}.py", f"https://github.com/{token}"):
        mail = render_strictly(poisoned(SAMPLES["public-repository"], held), IDENTITY)
        assert token not in mail.subject + mail.text + mail.html


def test_a_mail_about_many_tokens_stays_below_the_size_limit_of_mail_services() -> None:
    assert len(render_strictly(SAMPLES["public-repository-storm"], IDENTITY).html.encode()) < 102_000

"""Tests that every string of a mail is cleaned exactly once, before the templates get it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from notifications.email.samples import samples
from notifications.email.view import mail_view
from notifications.email.wording import MAX_NAME_LENGTH, MAX_PATH_LENGTH

WEB = "https://github.com"
FACTS = dict(samples())["public-repository"]


def test_names_and_paths_are_cleaned_and_cut_each_at_its_own_limit() -> None:
    place = replace(FACTS.tokens[0].places[0], path="a/" * 400, repository="acme/\u202eevil.example")
    token = replace(FACTS.tokens[0], name="n" * 400, places=(place,))
    (shown,) = mail_view(replace(FACTS, tokens=(token,)), WEB).tokens
    assert len(shown.name) == MAX_NAME_LENGTH
    assert len(str(shown.places[0].path)) == MAX_PATH_LENGTH
    assert shown.places[0].repository == "acme/\N{REPLACEMENT CHARACTER}evil[.]example"


def test_a_link_leads_where_the_raw_address_leads_and_only_to_the_watched_github() -> None:
    place = FACTS.tokens[0].places[0]
    elsewhere = replace(place, url="https://evil.example/acme/weather-bot")
    token = replace(FACTS.tokens[0], places=(place, elsewhere))
    shown = mail_view(replace(FACTS, tokens=(token,)), WEB).tokens[0].places
    assert [one.link for one in shown] == [place.url, None]
    assert shown[1].url == "hxxps[:]//evil[.]example/acme/weather-bot"


def test_times_numbers_and_derived_facts_are_those_of_the_incident() -> None:
    (shown,) = mail_view(FACTS, WEB).tokens
    token = FACTS.tokens[0]
    assert (shown.disabled_at, shown.places_total) == (token.disabled_at, token.places_total)
    assert (shown.exposed_seconds, shown.used_since_exposure) == (token.exposed_seconds, token.used_since_exposure)


def test_a_fact_of_a_type_that_cannot_be_cleaned_is_refused() -> None:
    raw: Any = b"raw"
    with pytest.raises(TypeError, match="bytes"):
        mail_view(replace(FACTS, tokens=(replace(FACTS.tokens[0], name=raw),)), WEB)

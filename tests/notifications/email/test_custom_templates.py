"""Tests of the operator's own mail templates, and of the built-in templates that replace failing ones."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace
from pathlib import Path

import pytest

from notifications.email.page import WordsError
from notifications.email.render import BUILT_IN, MailIdentity, render, render_strictly
from tests.notifications.email.rendering import IDENTITY, SAMPLES


def test_mails_show_the_operators_vendor_name() -> None:
    assert "Replicate" not in "".join(dataclasses.astuple(render_strictly(SAMPLES["gist"], IDENTITY))[:3])


def own_template(folder: Path, name: str, content: str) -> MailIdentity:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content, encoding="utf-8")
    return replace(IDENTITY, template_dir=folder)


def test_a_custom_macro_replaces_only_that_macro(tmp_path: Path) -> None:
    words = (BUILT_IN / "gist/words.txt").read_text()
    changed = words + "{% macro how() %}Wir haben nachgesehen.{% endmacro %}{% macro language() %}de{% endmacro %}"
    mail = render(SAMPLES["gist"], own_template(tmp_path, "gist/words.txt", changed))
    assert mail.template_error is None
    assert "Wir haben nachgesehen." in mail.text
    assert "Wir haben nachgesehen." in mail.html
    assert '<html lang="de"' in mail.html
    assert "Wir haben" not in render(SAMPLES["issue"], replace(IDENTITY, template_dir=tmp_path)).text


def test_a_custom_title_replaces_one_title_and_keeps_the_others(tmp_path: Path) -> None:
    words = (BUILT_IN / "gist/words.txt").read_text() + '{% set titles = {"how": "Why we are sure"} %}'
    text = render_strictly(SAMPLES["gist"], own_template(tmp_path, "gist/words.txt", words)).text
    assert "WHY WE ARE SURE" in text
    assert "HOW WE KNOW" not in text
    assert "WHAT TO DO NOW" in text


@pytest.mark.parametrize(
    ("custom", "message"),
    [("{% set titles = 7 %}", "not a mapping"), ("{% set headline = 7 %}", "no macro `headline`")],
)
def test_malformed_custom_words_are_an_error_that_names_them(tmp_path: Path, custom: str, message: str) -> None:
    words = re.sub(r"{% macro headline.*endmacro %}", "", (BUILT_IN / "gist/words.txt").read_text()) + custom
    with pytest.raises(WordsError, match=message):
        render_strictly(SAMPLES["gist"], own_template(tmp_path, "gist/words.txt", words))


def test_a_custom_body_replaces_one_kind_of_mail_and_may_extend_the_built_in_one(tmp_path: Path) -> None:
    identity = own_template(tmp_path, "gist/body.txt", "OURS\n{% include 'builtin/shared/body.txt' %}")
    assert render(SAMPLES["gist"], identity).text.startswith("OURS\n")
    assert "WHAT TO DO NOW" in render(SAMPLES["gist"], identity).text
    assert not render(SAMPLES["issue"], identity).text.startswith("OURS")


@pytest.mark.parametrize(
    "broken",
    [
        *("{{ no_such_name }}", "{% if %}", "{{ 1 / 0 }}", "", "{{ ''.__class__.__mro__ }}"),
        "{% include 'nowhere.txt' %}",
    ],
)
def test_a_broken_custom_template_delays_no_mail(tmp_path: Path, broken: str) -> None:
    identity = own_template(tmp_path, "shared/body.txt", broken)
    mail = render(SAMPLES["gist"], identity)
    assert mail.text == render(SAMPLES["gist"], IDENTITY).text
    assert mail.template_error is not None
    assert mail.template_error.startswith("custom templates not used: ")
    with pytest.raises(Exception):  # noqa: B017 - each template fails with another exception
        render_strictly(SAMPLES["gist"], identity)


def test_a_missing_template_folder_delays_no_mail(tmp_path: Path) -> None:
    mail = render(SAMPLES["gist"], replace(IDENTITY, template_dir=tmp_path / "gone"))
    assert mail.template_error is not None
    assert "is not a folder" in mail.template_error

"""Tests that no mail program makes a link out of text that an attacker wrote."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from notifications.email.facts import MailFacts
from notifications.email.render import render_strictly
from notifications.email.samples import samples
from notifications.email.unlinked import unlinked
from tests.notifications.email.rendering import IDENTITY
from tests.notifications.email.test_render import poisoned, read

SAMPLES = dict(samples())
# Matches every text that a mail program turns into a link, and some other texts.
LINKED = re.compile(
    r"(?i)(?:[a-z][a-z0-9+.-]*:[/\\]{2}|\b(?:mailto|tel|javascript|data|sms|file):|\bwww\.|\bftp\."
    r"|[\w-][.。](?:com|org|net|example|md|sh|zip|io|dev|app|ai|рф)\b|(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\w)|\\\\)"
)
LURES = (
    *("https://evil.com/x", "HTTP://EVIL.com", "www.evil.txt", "evil.com/x", "mailto:ana@evil.com", "ana@evil.com"),
    *("//evil.com/x", "ftp.evil.txt", "javascript:alert(1)", "README.md", "evil.zip", "пример.рф", "192.0.2.7/x"),
    *(
        "https://3232235777/",
        "\\\\evil\\share",
        "(https://evil.com)",
        "x,https://evil.com",
        "https://github.com@evil.com",
    ),
    *("https:/\\evil.com", "src/https://evil.com/www.evil.com", "evil.js.com", "ssh://evil.com", "file:///etc/x"),
    # Host names with a combining mark, an emoji or an invisible joiner.
    *("\u0939\u093f\u0928\u094d\u0926\u0940.com", "cafe\u0301.com", "i\u2764.ws", "evil\u200c.com", "evil.\u200dcom"),
)


def without_own_addresses(body: str) -> str:
    """Remove the vendor's own URLs from the text of a mail."""
    operator_texts = (IDENTITY.account_tokens_url, str(IDENTITY.usage_url), str(IDENTITY.support_contact))
    return re.sub("|".join(map(re.escape, operator_texts)), "", body)


@pytest.mark.parametrize("name", SAMPLES)
def test_no_attackers_string_becomes_a_link_in_any_mail(name: str) -> None:
    for lure in LURES:
        # Convert the facts to JSON and back, as r8scan does before it sends a mail again.
        frozen = MailFacts.from_json(json.loads(json.dumps(poisoned(SAMPLES[name], lure).to_json())))
        mail = render_strictly(frozen, IDENTITY)
        reader = read(mail)
        assert reader.links == []
        for body in (mail.subject, mail.text, reader.text):
            assert not LINKED.search(without_own_addresses(body)), lure


@pytest.mark.parametrize("lure", LURES)
def test_a_malicious_address_is_broken_and_still_readable(lure: str) -> None:
    broken = unlinked(lure)
    assert broken != lure
    assert not LINKED.search(broken)
    restored = broken.replace("[", "").replace("]", "").replace("hxxp", "http").replace("HXXP", "HTTP")
    assert restored == lure
    assert unlinked(broken) == broken


@pytest.mark.parametrize(
    "name",
    [
        *("src/app/settings.py", ".env", ".github/workflows/ci.yml", "v1.2.3", "config.json", "weather-bot", "a: b"),
        *("requirements-3.11.txt", "r8_Ex1…mple", "4f2a9c1e-0b77-33d8", "notes...txt", "acme/weather-bot", "main"),
        *("src/\u0939\u093f\u0928\u094d\u0926\u0940.py", "cafe\u0301.txt", "$.json", "a=.5"),
    ],
)
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert unlinked(name) == name


@given(st.text(alphabet="htps:/.@[]w-_evilcom013\\ 。ü", max_size=60))
def test_no_text_that_looks_like_an_address_survives(text: str) -> None:
    broken = unlinked(text)
    assert not LINKED.search(broken)
    assert unlinked(broken) == broken

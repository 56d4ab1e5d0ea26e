"""Tests of the composed mail: its headers, its parts, and the line lengths that mail servers require."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications.email.render import (
    MailIdentity,
    Rendered,
    UnusableAddress,
    compose,
    render_strictly,
    sender_address,
)
from notifications.email.samples import samples

SAMPLES = dict(samples())
IDENTITY = MailIdentity(sender="Sécurité <security@vendor.example>", support_contact="help@vendor.example")
DATE = datetime(2026, 11, 3, 14, 3, tzinfo=UTC)
INCIDENT = "x-r8scan-incident"
MESSAGE_ID = "<5f1c9a50-8f27-4a3e-9ed4-111111111111@vendor.example>"


def composed(
    name: str = "public-repository", recipient: str = "ana@acme.example", identity: MailIdentity = IDENTITY
) -> EmailMessage:
    facts = SAMPLES[name]
    return compose(
        render_strictly(facts, identity),
        identity,
        recipient=recipient,
        message_id=MESSAGE_ID,
        date=DATE,
        incident_ids=facts.incident_ids,
    )


def parsed(message: EmailMessage) -> EmailMessage:
    read = message_from_bytes(message.as_bytes(), policy=policy.default)
    assert isinstance(read, EmailMessage)
    return read


def test_the_headers_name_sender_and_recipient_and_mark_the_mail_as_automatic() -> None:
    message = parsed(composed())
    assert message["From"] == "Sécurité <security@vendor.example>"
    assert message["To"] == "ana@acme.example"
    assert message["Reply-To"] == "help@vendor.example"
    assert message["Message-ID"] == MESSAGE_ID
    assert message["Date"].datetime == DATE
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["X-Auto-Response-Suppress"] == "All"
    assert message["X-R8scan-Incident"] == SAMPLES["public-repository"].tokens[0].incident_id
    assert message["MIME-Version"] == "1.0"
    assert "weather-bot" in message["Subject"]
    assert message.defects == []


@pytest.mark.parametrize("name", SAMPLES)
def test_every_mail_has_both_bodies_with_lines_of_limited_length(name: str) -> None:
    message = composed(name)
    lines = message.as_bytes().split(b"\r\n")
    assert max(map(len, lines)) <= 78
    assert all(line.isascii() and b"\n" not in line and b"\r" not in line for line in lines)
    rendered = render_strictly(SAMPLES[name], IDENTITY)
    plain, html = parsed(message).iter_parts()
    assert (plain.get_content_type(), html.get_content_type()) == ("text/plain", "text/html")
    assert plain.get_content().replace("\r\n", "\n") == rendered.text
    assert html.get_content().replace("\r\n", "\n").strip() == rendered.html.strip()
    assert parsed(message).get_content_type() == "multipart/alternative"
    assert list(parsed(message).iter_attachments()) == []


@pytest.mark.parametrize("name", SAMPLES)
def test_a_long_subject_begins_on_the_first_line_and_is_decoded_unchanged(name: str) -> None:
    message = composed(name)
    assert b"\r\nSubject: " in message.as_bytes()
    assert parsed(message)["Subject"] == render_strictly(SAMPLES[name], IDENTITY).subject


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), max_size=40),
            st.sampled_from(
                ["=?utf-8?q?=0D=0ABcc:_x?=", "=?utf-8?b?DQpCY2M6IHg=?=", "=?", "?=", "=?us-ascii?q?=0A?= "]
            ),
        ),
        max_size=4,
    ).map("".join)
)
def test_any_subject_stays_one_header(words: str) -> None:
    subject = " ".join(words.split())
    mail = Rendered(subject or "x", "text", "<p>html</p>")
    written = compose(mail, IDENTITY, recipient="a@b.example", message_id=MESSAGE_ID, date=DATE, incident_ids=())
    lines = written.as_bytes().split(b"\r\n")
    assert max(map(len, lines)) <= 78
    assert parsed(written)["Message-ID"] == MESSAGE_ID
    assert {name.lower() for name in parsed(written)} == {name.lower() for name in composed("gist")} - {INCIDENT}


@pytest.mark.parametrize(
    "name", ["a\r\nBcc: all@x.example", "a\n\nDear user", "\u202eevil", "=?utf-8?q?=0ABcc:_x?=", "x" * 10_000]
)
def test_a_hostile_name_adds_no_header(name: str) -> None:
    token = replace(SAMPLES["gist"].tokens[0], name=name, incident_id=name)
    facts = replace(SAMPLES["gist"], tokens=(token,))
    identity = replace(IDENTITY, vendor_name=name)
    written = compose(
        render_strictly(facts, identity),
        identity,
        recipient="ana@acme.example",
        message_id=MESSAGE_ID,
        date=DATE,
        incident_ids=facts.incident_ids,
    )
    message = parsed(written)
    assert message.keys() == parsed(composed("gist")).keys()
    assert (message["To"], message["From"]) == ("ana@acme.example", "Sécurité <security@vendor.example>")
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    assert len(message["Subject"]) <= 160


def test_each_incident_has_its_header() -> None:
    message = parsed(composed("public-repository-several-tokens"))
    assert message.get_all("X-R8scan-Incident") == list(SAMPLES["public-repository-several-tokens"].incident_ids)


@pytest.mark.parametrize(
    "recipient",
    [
        *("=?utf-8?q?ana=0ABcc:_x?=@acme.example", "ana@=?utf-8?q?=0A?=.example"),
        *("", "nobody", "@acme.example", "ana@", "ana@acme.example\r\nBcc: all@x.example", "a b@acme.example"),
        *("ana@acme.example, bob@acme.example", "ána@acme.example", "ana@" + "x" * 300 + ".example"),
    ],
)
def test_a_malformed_address_is_refused(recipient: str) -> None:
    with pytest.raises(UnusableAddress):
        composed(recipient=recipient)


def test_a_domain_beyond_ascii_is_encoded() -> None:
    assert composed(recipient="ana@bücher.example")["To"] == "ana@xn--bcher-kva.example"


def test_a_support_contact_that_is_no_address_is_no_reply_to() -> None:
    identity = MailIdentity(sender="security@vendor.example", support_contact="https://vendor.example/help")
    assert composed(identity=identity)["Reply-To"] is None


def test_a_hostile_message_id_is_refused() -> None:
    facts = SAMPLES["gist"]
    with pytest.raises(ValueError, match="Message-ID"):
        compose(
            render_strictly(facts, IDENTITY),
            IDENTITY,
            recipient="ana@acme.example",
            message_id="<a@b>\r\nBcc: x@y.example",
            date=DATE,
            incident_ids=(),
        )


def test_a_malformed_sender_is_refused() -> None:
    with pytest.raises(UnusableAddress):
        sender_address(MailIdentity(sender="nobody"))

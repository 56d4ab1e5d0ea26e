"""Tests that a problem with hostile text still reaches the operator, and that the text cannot add a mail header."""

from __future__ import annotations

import email
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from notifications.email.render import MailIdentity
from notifications.email.transport import Envelope
from notifications.operator_channels import MailChannel, News, OperatorNotNotified
from tests.notifications.email.rendering import IDENTITY


class Kept:
    """A mail transport that keeps the mails instead of sending them."""

    def __init__(self) -> None:
        self.sent: list[Envelope] = []

    @contextmanager
    def open(self) -> Iterator[Kept]:
        yield self

    def send(self, envelope: Envelope, *, deadline: float) -> None:
        del deadline
        self.sent.append(envelope)


@pytest.mark.parametrize(
    "hostile",
    [
        "a\r\nBcc: all@evil.example",
        "=?utf-8?q?a=0D=0ABcc:_all=40evil.example=0D=0A=0D=0Abody?=",
        "lone \ud800 and nul \0",
        "\u202eevil",
        "x" * 100_000,
    ],
)
def test_a_mail_to_the_operator_is_sent_whatever_text_its_problem_contains(hostile: str) -> None:
    transport = Kept()
    identity: MailIdentity = IDENTITY
    MailChannel(transport, identity, "op@example.com").notify([News("problem", "mail", hostile, todo=hostile)])
    (envelope,) = transport.sent
    message = email.message_from_bytes(envelope.content)
    assert set(message.keys()) == {
        *("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted"),
        *("Content-Type", "Content-Transfer-Encoding", "MIME-Version"),
    }
    assert "\u202e" not in str(envelope.content, "utf-8")
    assert len(envelope.content) < 20_000


def test_a_domain_with_letters_beyond_ascii_is_written_as_mail_servers_understand_it() -> None:
    transport = Kept()
    MailChannel(transport, IDENTITY, "op@ex\u00e4mple.com").notify([News("test", "test", "a test")])
    assert [one.recipient for one in transport.sent] == ["op@xn--exmple-cua.com"]
    with pytest.raises(OperatorNotNotified, match="beyond ASCII before the @"):
        MailChannel(transport, IDENTITY, "\u00fc@example.com").notify([News("test", "test", "a test")])

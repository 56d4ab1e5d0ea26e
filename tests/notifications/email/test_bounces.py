"""Tests that delivery status notifications are read as bounces, and that hostile mails are refused."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from notifications.email.bounces import MAX_BYTES, MAX_DIAGNOSTIC_LENGTH, Bounce, NotABounce, read_bounce
from tests.notifications.returned_mail import REASON, bounce

MESSAGE_ID = "<5f1c9a50-8f27-4a3e-9ed4-111111111111@vendor.example>"


@pytest.mark.parametrize("headers_only", [False, True])
def test_a_notification_says_which_mail_failed_and_why(headers_only: bool) -> None:
    read = read_bounce(bounce(MESSAGE_ID, headers_only=headers_only))
    assert read == Bounce(MESSAGE_ID, "failed", "5.1.1", REASON)
    assert read.has_failed
    assert read.reason == f"bounced: 5.1.1 {REASON}"


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_a_notification_is_read_with_any_line_ends(line_end: bytes) -> None:
    content = bounce(MESSAGE_ID).replace(b"\n", line_end)
    assert read_bounce(content).message_id == MESSAGE_ID
    assert read_bounce(content.partition(line_end)[2]).message_id == MESSAGE_ID  # without the first line, `From …`


@pytest.mark.parametrize(
    ("action", "status", "has_failed"),
    [
        *(("failed", "5.1.1", True), ("Failed", "5.2.2 (mailbox full)", True), ("failed", "4.4.7", True)),
        *(
            ("failed", "", True),
            ("delayed", "4.4.1", False),
            ("delivered", "2.0.0", False),
            ("relayed", "2.0.0", False),
        ),
        *(("expanded", "2.0.0", False), ("failed", "2.0.0", False), ("failed-not", "5.0.0", False)),
    ],
)
def test_a_mail_fails_only_if_the_server_has_given_up(action: str, status: str, has_failed: bool) -> None:
    assert read_bounce(bounce(MESSAGE_ID, action=action, status=status)).has_failed is has_failed


def test_a_notification_about_several_recipients_names_the_failed_one() -> None:
    relayed = b"Final-Recipient: rfc822; list@acme.example\nAction: relayed\nStatus: 2.0.0\n\nFinal-Recipient:"
    content = bounce(MESSAGE_ID).replace(b"Final-Recipient:", relayed)
    assert read_bounce(content).status == "5.1.1"


def test_a_notification_inside_the_returned_mail_is_ignored() -> None:
    inner = bounce("<inner@vendor.example>").partition(b"\n")[2].replace(b"4C1F", b"INNER")
    content = bounce(MESSAGE_ID, action="delayed", status="4.4.1").replace(b"The words of the mail.", inner)
    read = read_bounce(content)
    assert (read.message_id, read.has_failed) == (MESSAGE_ID, False)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        *(
            (b"", "not a delivery status notification"),
            (b"Subject: hello\n\nI am away.", "not a delivery status notification"),
        ),
        *((bounce(MESSAGE_ID).replace(b"delivery-status\n", b"elsewhere\n"), "no delivery status"),),
        *((bounce(MESSAGE_ID).replace(b"Action:", b"X:"), "names no action"),),
        *((bounce("<>"), "does not return the Message-ID"), (bounce("<two words>"), "does not return the Message-ID")),
        *((bounce(f"<{'x' * 300}@x>"), "does not return the Message-ID"),),
        (bounce(MESSAGE_ID) + b"x" * MAX_BYTES, "larger than 1 MB"),
    ],
)
def test_any_other_mail_is_refused_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(NotABounce, match=reason):
        read_bounce(content)


def test_the_reason_is_one_clean_line_of_limited_length_without_tokens(fresh_token: object) -> None:
    assert callable(fresh_token)
    token = fresh_token()
    said = f"smtp; 550 \x1b[31m\u202e{token}\udcff\n  Bcc: all@x.example " + "x" * 5000
    read = read_bounce(bounce(MESSAGE_ID, diagnostic=said))
    assert token not in read.reason
    assert read.reason.isprintable()
    assert len(read.diagnostic) <= MAX_DIAGNOSTIC_LENGTH


HOSTILE_HEADERS = [
    "Content-Type: multipart/report; boundary*0=a; boundary*1*=utf-8''%ff; report-type=\xff",
    "Content-Type: message/delivery-status; charset=\x00",
    "Content-Type: text/rfc822-headers\nContent-Transfer-Encoding: base64",
    "Content-Type: message/rfc822\nContent-Transfer-Encoding: x-uuencode",
    "Message-ID: =?utf-8?q?<a@b>?=",
    "Action: =?bogus?b?////?=",
    "Status: " + "(" * 500,
    "--4C1F.1762178700/mx.vendor.example",
]
LINES = st.one_of(st.sampled_from(HOSTILE_HEADERS), st.text(max_size=60))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 48), LINES), max_size=12))
def test_a_notification_with_any_lines_changed_is_read_or_refused(changes: list[tuple[int, str]]) -> None:
    lines = bounce(MESSAGE_ID).split(b"\n")
    for at, line in changes:
        lines[at % len(lines)] = line.encode("utf-8", "surrogatepass")
    read_or_refused(b"\n".join(lines))


@settings(deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_are_refused(content: bytes) -> None:
    read_or_refused(b"Content-Type: multipart/report; boundary=b\n\n--b\n" + content)
    read_or_refused(content)


def read_or_refused(content: bytes) -> None:
    try:
        read = read_bounce(content)
    except NotABounce:
        return
    assert read.reason.isprintable()
    assert read.message_id.isascii()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            b"".join(b"Content-Type: multipart/report; boundary=%d\n\n--%d\n" % (n, n) for n in range(101)),
            "separate parts",
        ),
        (b"Content-Type: multipart/report; boundary=b\n\n" + b"--b\r" * 101, "separate parts"),
        (b"A: b\n\n" * 10_001, "20000 lines"),
        (b"A: b\r" * 20_001, "20000 lines"),
        (b"Content-Type: multipart/report" + b"; a*0=b" * 1200, "longer than 8000 bytes"),
        (b"Content-Type: multipart/report" + b"\n" * 3 + b"\r\n\t; a*0=b" * 5000, "longer than 32 kB"),
        (b"Content-Type: message/rfc822\n\n" * 9_000, "cannot be read"),
    ],
    ids=["nested", "parts", "recipients", "headers", "parameters", "folded parameters", "messages"],
)
def test_a_mail_that_is_costly_to_parse_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(NotABounce, match=reason):
        read_bounce(content)


def test_a_notification_of_the_largest_size_is_read() -> None:
    body = (b"QUJD" * 19 + b"\n") * 13_000
    content = bounce(MESSAGE_ID).replace(b"The words of the mail.", body)
    assert MAX_BYTES * 0.9 < len(content) <= MAX_BYTES
    assert read_bounce(content).message_id == MESSAGE_ID

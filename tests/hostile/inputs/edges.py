"""Functions that build hostile events, alerts, reports, usage records and mails."""

from __future__ import annotations

import json

from tests.hostile.inputs.texts import comment_database_search, text_joints
from tests.hostile.registry import hostile, hostile_with_leak, token_of

MIB = 1 << 20
SURROGATE = "\ud800"


def event(payload: object, kind: str = "IssuesEvent") -> bytes:
    """Return the JSON of a GitHub event with this payload, without an id and a time."""
    return json.dumps({"type": kind, "payload": payload}).encode()


@hostile("event", "an issue nested 400 levels deep", delivery="event")
def event_depth() -> bytes:
    return b'{"type": "IssuesEvent", "payload": {"issue": ' + b'{"a":[' * 200 + b"1" + b"]}" * 200 + b"}}"


@hostile("event", "an issue nested 5,000 levels deep", delivery="event")
def event_depth_beyond_parser() -> bytes:
    return b'{"type": "IssuesEvent", "payload": {"issue": ' + b'{"a":[' * 2_500 + b"1" + b"]}" * 2_500 + b"}}"


@hostile("event", "an issue nested 5,000 levels deep, with 500,000 empty strings", delivery="event")
def event_depth_with_strings() -> bytes:
    strings = b"[" + b'"",' * 500_000 + b'""]'
    deep = b'{"a":[' * 2_500 + strings + b"]}" * 2_500
    return b'{"type": "IssuesEvent", "payload": {"issue": ' + deep + b"}}"


@hostile("event", "a number of 1,000,000 digits", delivery="event")
def event_digits() -> bytes:
    return b'{"type": "PushEvent", "payload": {"push_id": ' + b"9" * 1_000_000 + b', "size": 1}}'


@hostile("event", "addresses that are none: hosts in brackets that are not closed", delivery="event")
def event_addresses() -> bytes:
    issue = {"title": "x", "body": "x", "html_url": "https://[", "url": "https://[::1", "comments_url": "//["}
    return event({"issue": issue, "comment": {**issue, "html_url": "http://[a]b"}})


@hostile("event", "200,000 labels", delivery="event")
def event_values() -> bytes:
    return event({"issue": {"labels": [{"name": "x"}] * 200_000}})


@hostile("event", "numbers of 4,000 digits and names that repeat", delivery="event")
def event_numbers() -> bytes:
    return (
        b'{"type": "PushEvent", "payload": {"push_id": ' + b"9" * 4_000 + b', "head": 1e999, "head": -1, "ref": NaN}}'
    )


@hostile("event", "lone surrogates and NUL in every name", delivery="event")
def event_surrogates() -> bytes:
    bad = f"a{SURROGATE}\0/b"
    payload = {"ref": bad, "head": "0" * 40, "before": "0" * 40, "issue": {"title": bad, "body": bad, "html_url": bad}}
    return event(payload)


@hostile("event", "a body of 4 MB of quotes and prefixes", delivery="event")
def event_body() -> bytes:
    return event({"issue": {"body": (text_joints() * 2).decode("latin-1")}})


@hostile("event", "1,000 texts that are each a compressed database", delivery="event")
def event_databases() -> bytes:
    text = comment_database_search().decode()
    return event({"issue": {"labels": [{"name": f"{text}\n{number}"} for number in range(1_000)]}})


def alert(record: dict[str, object]) -> bytes:
    """Return the body of a secret scanning alert with one record."""
    return json.dumps([record]).encode()


@hostile_with_leak("alert", "a lone surrogate in the token of one record, a leak in the next", delivery="alert")
def alert_surrogate(leak: bytes) -> bytes:
    token = leak.decode().split("'")[1]
    bad = {"token": f"{token_of('surrogate').decode()}{SURROGATE}", "type": SURROGATE, "url": SURROGATE}
    good = {"token": token, "type": "x", "url": "https://github.com/a/b", "source": "commit"}
    return json.dumps([bad, good]).encode()


@hostile_with_leak("alert", "10,000 records with addresses of 4 kB, and a leak", delivery="alert")
def alert_records(leak: bytes) -> bytes:
    token = leak.decode().split("'")[1]
    records = [
        {"token": token_of(f"record {number}").decode(), "type": "x", "url": "https://example.com/" + "u" * 500}
        for number in range(9_999)
    ]
    return json.dumps([*records, {"token": token, "type": "x", "url": "", "source": "content"}]).encode()


@hostile("alert", "a record whose type is a compressed database", delivery="alert")
def alert_database() -> bytes:
    text = comment_database_search().decode()
    return alert({"token": token_of("database").decode(), "type": text, "url": f"https://github.com/{text}"})


@hostile("alert", "an array nested 100,000 levels deep", delivery="alert")
def alert_depth() -> bytes:
    return b"[" * 100_000 + b"]" * 100_000


@hostile("alert", "10 MB of joints in a type", delivery="alert", large=True)
def alert_type() -> bytes:
    return alert({"token": token_of("type").decode(), "type": (text_joints() * 4).decode("latin-1"), "url": "x"})


@hostile("leaked token", "a body of 16 kB of opened brackets", delivery="leaked_token")
def leaked_token_depth() -> bytes:
    return b'{"token": ' + b"[" * 16_000


@hostile("leaked token", "an address that is a compressed database", delivery="leaked_token")
def leaked_token_database() -> bytes:
    url = f"https://github.com/a/b/blob/main/{comment_database_search().decode()}"
    return json.dumps({"token": token_of("reported").decode(), "url": url}).encode()


@hostile("leaked token", "lone surrogates and NUL in both fields", delivery="leaked_token")
def leaked_token_surrogates() -> bytes:
    return json.dumps({"token": f"{SURROGATE}\0", "url": f"https://{SURROGATE}\0@x/"}).encode()


@hostile("leaked token", "16 kB of the beginnings of streams in an address", delivery="leaked_token")
def leaked_token_streams() -> bytes:
    return json.dumps({"token": token_of("reported").decode(), "url": "https://x/" + "H4sI" * 4_000}).encode()[:16_384]


@hostile("usage", "lines that are nested, endless or no records", delivery="usage")
def usage_lines() -> bytes:
    record = b'{"token": "x", "time": "2026-01-01T00:00:00Z", "ip": "::ffff:1.2.3.4%' + b"z" * 500 + b'"}\n'
    return b"[" * 8_000 + b"\n" + record * 3_000 + b'{"time": ' + b"9" * 4_000 + b"}\n" + b"\xff\xfe\n" * 100_000


@hostile("usage", "8 MB of empty lines", delivery="usage")
def usage_empty_lines() -> bytes:
    return b"\n" * (8 * MIB - 1)


@hostile("usage", "a user agent that is a compressed database, 3,000 times", delivery="usage")
def usage_databases() -> bytes:
    agent = comment_database_search().decode()
    line = json.dumps({"digest": "0" * 64, "time": 0, "user_agent": agent}).encode()
    return (line + b"\n") * 3_000


def mail(body: bytes, kind: bytes = b'multipart/report; boundary="b"') -> bytes:
    """Return a mail with this body and this content type."""
    return b"From: <>\r\nTo: b@example.com\r\nContent-Type: " + kind + b"\r\n\r\n" + body


@hostile("mail", "parts nested 2,000 levels deep", delivery="bounce")
def bounce_depth() -> bytes:
    parts = [b"--b%d\nContent-Type: multipart/mixed; boundary=b%d\n\n" % (level, level + 1) for level in range(2_000)]
    return mail(b"".join(parts), b"multipart/report; boundary=b0")


@hostile("mail", "messages in messages, 5,000 levels deep", delivery="bounce")
def bounce_messages() -> bytes:
    return mail(b"Content-Type: message/rfc822\n\n" * 5_000, b"message/rfc822")


@hostile("mail", "200,000 parts", delivery="bounce")
def bounce_parts() -> bytes:
    return mail(b"--b\n\n" * 200_000)[: MIB - 10]


@hostile("mail", "a boundary of 60 kB and almost that boundary on each line", delivery="bounce")
def bounce_boundary() -> bytes:
    return mail((b"--" + b"b" * 60_000 + b"c\n") * 16, b'multipart/report; boundary="' + b"b" * 60_000 + b'"')


@hostile("mail", "a header of 1 MB in continuation lines", delivery="bounce")
def bounce_header() -> bytes:
    return b"Content-Type: multipart/report;\n" + b" a=b;\n" * 160_000 + b"\n\n"


@hostile("mail", "parameters by pieces: name*0*, name*1*, 50,000 of them", delivery="bounce")
def bounce_parameters() -> bytes:
    pieces = b"".join(b"; boundary*%d*=''x" % number for number in range(50_000))
    return mail(b"--b\n", b"multipart/report" + pieces)[: MIB - 10]


@hostile("mail", "100,000 recipients in one delivery status", delivery="bounce")
def bounce_recipients() -> bytes:
    status = b"--b\nContent-Type: message/delivery-status\n\n" + b"Action: failed\nStatus: 5.1.1\n\n" * 33_000
    return mail(status + b"--b--\n")[: MIB - 10]

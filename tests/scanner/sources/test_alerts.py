"""Tests of GitHub's secret scanning alerts, and of the labels in r8scan's answers to GitHub."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from scanner.detection import sha256_digest
from scanner.detection.digests import hmac_sha256_digester
from scanner.records import spool, tallies
from scanner.records.database import Database
from scanner.records.models import Exposure, Incident, Notification, Sighting
from scanner.response.policy import Policy
from scanner.sources import alerts
from scanner.sources.alerts import NotAlerts, TooManyAlerts, Verdict, answer_alerts, parse_alerts
from scanner.sources.batches import runner as page_work
from tests.scanner.sources.knowing import exposures, is_disabled, know

Token = Callable[[], str]
WEB = "https://github.com"
SHA = "a" * 40


def record(token: object, **changes: Any) -> dict[str, Any]:
    return {"token": token, "type": "replicate_api_token", "url": "", "source": "content", **changes}


def answered(database: Database, tmp_path: Path, *records: Any, **options: Any) -> Verdict:
    found = parse_alerts(json.dumps(list(records)).encode(), sha256_digest, WEB)
    return answer_alerts(database, found, policy=Policy(), state_dir=tmp_path, **options)


def test_known_tokens_are_disabled_and_every_label_is_true(
    database: Database, tmp_path: Path, fresh_token: Token
) -> None:
    ours, other = fresh_token(), fresh_token()
    digest = know(database, ours)
    verdict = answered(database, tmp_path, record(ours), record(other, type="swapped"), record(None), 5, {})
    assert is_disabled(database, digest)
    labels = {one["token_hash"]: (one["label"], one["token_type"]) for one in verdict.feedback}
    assert labels == {
        sha256_digest(ours.encode()): ("true_positive", "replicate_api_token"),
        sha256_digest(other.encode()): ("false_positive", "swapped"),
    }
    assert ours not in json.dumps(verdict.feedback)
    with database.read() as session:
        assert len(session.execute(select(Notification)).all()) == 1


def test_the_same_alert_twice_changes_nothing(database: Database, tmp_path: Path, fresh_token: Token) -> None:
    token = fresh_token()
    know(database, token)
    first = answered(database, tmp_path, record(token, url=f"{WEB}/ana/app/blob/{SHA}/a.py"))
    again = answered(database, tmp_path, record(token, url=f"{WEB}/ana/app/blob/{SHA}/a.py"))
    assert first.feedback == again.feedback
    with database.read() as session:
        assert len(session.execute(select(Incident)).all()) == 1
        assert len(session.execute(select(Notification)).all()) == 1
    assert len(exposures(database)) == 1


@pytest.mark.parametrize(
    ("source", "url", "kind", "repository", "path"),
    [
        ("content", f"{WEB}/ana/app/blob/{SHA}/src/a%20b.py", "file", "ana/app", "src/a b.py"),
        ("COMMIT", f"{WEB}/ana/app/commit/{SHA}", "commit", "ana/app", None),
        ("content", f"{WEB}/ana/app/commit/{SHA}", "commit", "ana/app", None),
        ("content", "", "other", None, None),
        ("issue_comment", f"{WEB}/ana/app/issues/7", "issue_comment", None, None),
        (" Gist_Content ", "https://gist.github.com/ana/1", "gist", None, None),
        ("npm", "https://registry.example/x", "package", None, None),
        ("Manual_submission", "", "submission", None, None),
        ("something_new", f"{WEB}/x", "other", None, None),
        (None, f"{WEB}/x", "other", None, None),
    ],
)
def test_the_source_of_an_alert_determines_the_kind_of_place(
    source: object, url: str, kind: str, repository: str | None, path: str | None, fresh_token: Token
) -> None:
    body = json.dumps([record(fresh_token(), source=source, url=url)]).encode()
    place = parse_alerts(body, sha256_digest, WEB).alerts[0].candidate.place
    assert (place.kind, place.repository, place.path, place.url) == (kind, repository, path, url)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "https://user:pw@github.com/",
        "https://github.com/\nBcc: x",
        "https://github.com/ <b>",
        "file:///etc/passwd",
        "https://[",
        "https://github.com/" + "a" * 5000,
        5,
        None,
    ],
)
def test_no_hostile_address_is_kept(url: object, fresh_token: Token) -> None:
    body = json.dumps([record(fresh_token(), url=url)]).encode()
    assert parse_alerts(body, sha256_digest, WEB).alerts[0].candidate.place.url == ""


def test_the_parsed_alerts_contain_no_raw_token(fresh_token: Token) -> None:
    token = fresh_token()
    url = f"{WEB}/ana/app/blob/{SHA}/{token}.py"
    found = parse_alerts(json.dumps([record(token, url=url, type=token)]).encode(), sha256_digest, WEB)
    assert token not in repr(found)
    short = parse_alerts(json.dumps([record("a-short-secret")]).encode(), sha256_digest, WEB)
    assert "a-short-secret" not in repr(short)
    assert short.counts["of_another_form"] == 1


def test_githubs_hash_stays_sha256_when_the_store_has_a_pepper(fresh_token: Token) -> None:
    token = fresh_token()
    found = parse_alerts(json.dumps([record(token)]).encode(), hmac_sha256_digester(b"k" * 32), WEB)
    alert = found.alerts[0]
    assert alert.token_hash == hashlib.sha256(token.encode()).hexdigest()
    assert alert.candidate.digest != alert.token_hash


def test_records_for_which_no_time_is_left_are_recorded_and_not_labelled(
    database: Database, tmp_path: Path, fresh_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alerts, "RECORDS_AT_ONCE", 2)
    clock = itertools.count(0, 15)
    verdict = answered(database, tmp_path, *(record(fresh_token()) for _ in range(7)), clock=lambda: next(clock))
    assert (len(verdict.feedback), verdict.unfinished) == (2, 5)
    with database.read() as session:
        states = session.execute(select(Sighting.state)).scalars().all()
    assert sorted(states) == ["unchecked"] * 5 + ["unknown"] * 2


@pytest.mark.parametrize("is_known", [True, False])
def test_one_token_in_many_places_is_labelled_everywhere_and_some_places_are_kept(
    database: Database, tmp_path: Path, fresh_token: Token, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    monkeypatch.setattr(alerts, "RECORDS_AT_ONCE", 2)
    monkeypatch.setattr(alerts, "MAX_PLACES", 3)
    token = fresh_token()
    if is_known:
        know(database, token)
    verdict = answered(database, tmp_path, *(record(token, url=f"{WEB}/a/b/issues/{number}") for number in range(7)))
    label = "true_positive" if is_known else "false_positive"
    assert [one["label"] for one in verdict.feedback] == [label] * 7
    with database.read() as session:
        places = len(session.execute(select(Exposure if is_known else Sighting)).all())
        assert (places, tallies.since(session, 1)["partner_alerts"]["unread_places_over_limit"]) == (3, 4)


def test_of_many_different_types_only_some_are_repeated(fresh_token: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "MAX_TYPES", 2)
    body = json.dumps([record(fresh_token(), type=f"type {number}") for number in range(4)]).encode()
    found = parse_alerts(body, sha256_digest, WEB).alerts
    assert [alert.token_type for alert in found] == ["type 0", "type 1", "…", "…"]


def test_an_unavailable_database_labels_no_false_positive(
    database: Database, tmp_path: Path, fresh_token: Token, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> None:
        raise OperationalError("SELECT", {}, Exception("the server is gone"))

    monkeypatch.setattr(page_work, "respond_to", away)
    token = fresh_token()
    with pytest.raises(OperationalError):
        answered(database, tmp_path, record(token))
    (kept,) = (tmp_path / spool.FOLDER).iterdir()
    assert token not in kept.read_text()


@pytest.mark.parametrize("body", [b"", b"{", b"{}", b"5", b"[" * 200_000, b"\xff\xfe"])
def test_a_body_that_is_not_a_list_is_refused_without_repeating_it(body: bytes) -> None:
    with pytest.raises(NotAlerts, match="the body is not"):
        parse_alerts(body, sha256_digest, WEB)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.lists(
        json_values
        | st.fixed_dictionaries({"token": json_values, "type": json_values, "url": json_values, "source": json_values}),
        max_size=8,
    )
)
def test_a_bad_record_does_not_affect_the_others(records: list[Any]) -> None:
    good = record("r8_" + "x" * 36 + "1")
    for position in (0, len(records)):
        mixed = [*records[:position], good, *records[position:]]
        found = parse_alerts(json.dumps(mixed).encode(), sha256_digest, WEB)
        assert sha256_digest(good["token"].encode()) in {alert.token_hash for alert in found.alerts}


def test_more_records_than_are_taken_are_refused_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "MAX_RECORDS", 3)
    assert len(parse_alerts(json.dumps([record("x")] * 3).encode(), sha256_digest, WEB).alerts) == 3
    with pytest.raises(TooManyAlerts, match="more than 3 records"):
        parse_alerts(json.dumps([record("x")] * 4).encode(), sha256_digest, WEB)

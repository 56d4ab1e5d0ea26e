"""Tests that all text in an event is read, and that no field is trusted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scanner.detection import Detector, sha256_digest
from scanner.sources.timeline.events import KNOWN_TYPES, Found, parse_event, read_events

PAYLOADS = json.loads((Path(__file__).parents[3] / "data" / "event_payloads.json").read_text())
WEB = "https://github.example"
HEAD, BEFORE = "a" * 40, "b" * 40


def event(event_type: str, payload: Any, **changes: Any) -> dict[str, Any]:
    return {
        "id": "123",
        "type": event_type,
        "actor": {"login": "ana"},
        "repo": {"id": 7, "name": "ana/app"},
        "payload": payload,
        "public": True,
        "created_at": "2026-11-20T10:00:00Z",
        **changes,
    }


def read(value: dict[str, Any]) -> Found:
    parsed = parse_event(value)
    assert parsed is not None
    return read_events([parsed], WEB)


def type_name(key: str) -> str:
    return "".join(part.capitalize() for part in key.split("-"))


def example(shape: Any) -> Any:
    if isinstance(shape, dict):
        return {key: example(part) for key, part in shape.items()}
    if isinstance(shape, list):
        return [example(part) for part in shape]
    return {"string": "text", "integer": 5, "boolean": True}.get(shape, {})


def string_paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from string_paths(part, (*path, key))


def planted(value: Any, path: tuple[Any, ...], text: str) -> Any:
    if not path:
        return text
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = planted(value[path[0]], path[1:], text)
    return copy


@pytest.mark.parametrize("key", sorted(PAYLOADS))
def test_a_token_in_any_text_of_any_event_is_found(key: str, fresh_token: Callable[[], str]) -> None:
    payload = example(PAYLOADS[key])
    detector = Detector()
    for path in string_paths(payload):
        token = fresh_token()
        found = read(event(type_name(key), planted(payload, path, f"here: {token}, sorry")))
        digests = {c.digest for document in found.documents for c in detector.scan(document).candidates}
        assert sha256_digest(token.encode()) in digests, path


@pytest.mark.parametrize("key", sorted(PAYLOADS))
def test_every_type_of_the_timeline_is_known(key: str) -> None:
    assert type_name(key) in KNOWN_TYPES


def test_a_comment_is_found_at_its_own_address_and_line(fresh_token: Callable[[], str]) -> None:
    url = f"{WEB}/ana/app/issues/1#issuecomment-5"
    comment = {"html_url": url, "body": f"one\ntwo {fresh_token()}", "created_at": "2026-11-20T09:59:58Z"}
    found = read(event("IssueCommentEvent", {"action": "created", "comment": comment, "issue": {"title": "x"}}))
    candidates = [c for document in found.documents for c in Detector().scan(document).candidates]
    assert [(c.place.kind, c.place.url, c.line) for c in candidates] == [("issue_comment", url, 2)]
    assert str(candidates[0].place.published_at) == "2026-11-20 09:59:58+00:00"


def test_an_address_of_another_host_is_not_believed(fresh_token: Callable[[], str]) -> None:
    comment = {"html_url": "https://evil.example/phish", "body": fresh_token()}
    found = read(event("CommitCommentEvent", {"comment": comment}))
    assert {document.place.url for document in found.documents} == {f"{WEB}/ana/app"}


def test_an_issue_that_is_a_pull_request_is_called_a_pull_request(fresh_token: Callable[[], str]) -> None:
    issue = {"body": fresh_token(), "pull_request": {"url": "x"}}
    found = read(event("IssuesEvent", {"issue": issue}))
    assert "pull_request" in {document.place.kind for document in found.documents}


def test_a_push_is_read_between_its_ends() -> None:
    found = read(event("PushEvent", {"ref": "refs/heads/main", "before": BEFORE, "head": HEAD}))
    (push,) = found.pushes
    assert (push.repository, push.repository_id, push.before, push.head) == ("ana/app", 7, BEFORE, HEAD)
    assert (push.ref, push.kind) == ("refs/heads/main", "push")


@pytest.mark.parametrize(
    ("name", "description", "expected"),
    [
        ("ana/Replicate-demo", None, "very_likely"),
        ("ana/app", "uses replicate", "very_likely"),
        ("ana/app", "", "likely"),
    ],
)
def test_a_push_whose_event_mentions_the_vendor_is_read_first(
    name: str, description: str | None, expected: str
) -> None:
    payload = {"ref": "main", "ref_type": "branch", "description": description}
    parsed = parse_event(event("CreateEvent", payload, repo={"id": 7, "name": name}))
    assert parsed is not None
    found = read_events([parsed], WEB, vendor="Replicate")
    assert [push.likelihood for push in found.pushes] == [expected]


def test_a_branch_name_with_a_token_is_stored_without_it(fresh_token: Callable[[], str]) -> None:
    token = fresh_token()
    found = read(event("PushEvent", {"ref": f"refs/heads/{token}", "before": BEFORE, "head": HEAD}))
    assert token not in json.dumps(found.pushes[0].to_json())


@pytest.mark.parametrize("ref_type", ["branch", "tag", "repository"])
def test_a_created_ref_is_resolved_later(ref_type: str) -> None:
    ref = None if ref_type == "repository" else "v1"
    (push,) = read(event("CreateEvent", {"ref": ref, "ref_type": ref_type})).pushes
    assert push.kind == "create"
    assert push.ref == {"branch": "refs/heads/v1", "tag": "refs/tags/v1", "repository": ""}[ref_type]


def test_a_deleted_branch_queues_nothing() -> None:
    found = read(event("PushEvent", {"ref": "refs/heads/x", "before": BEFORE, "head": "0" * 40}))
    assert found.pushes == []
    assert found.counts["deletions"] == 1


def test_a_repository_that_became_public_is_read_whole() -> None:
    assert read(event("PublicEvent", {})).repositories[0][:2] == ("ana/app", 7)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"payload": {"head": "xyz", "before": BEFORE}}, "unusable_push"),
        ({"payload": {"head": HEAD, "before": "-upload-pack"}}, "unusable_push"),
        ({"payload": None}, "unusable_push"),
        ({"repo": {"id": 1, "name": "../../etc"}}, "unusable_repository_name"),
        ({"repo": None}, "unusable_repository_name"),
        ({"type": "MysteryEvent"}, "unknown_type"),
    ],
)
def test_unusable_events_are_counted_by_reason(changes: dict[str, Any], reason: str) -> None:
    found = read(event("PushEvent", {"ref": "refs/heads/x", "before": BEFORE, "head": HEAD}) | changes)
    assert found.pushes == []
    assert found.counts[reason] == 1


def test_text_that_is_nested_too_deeply_is_counted() -> None:
    payload: Any = "x"
    for _ in range(100):
        payload = {"a": payload}
    assert read(event("MemberEvent", payload)).counts["event_too_deep"] == 1


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4),
    max_leaves=20,
)


@given(
    st.fixed_dictionaries(
        {"id": json_values, "type": st.sampled_from(sorted(KNOWN_TYPES)) | st.text()},
        optional={"payload": json_values, "repo": json_values, "actor": json_values, "created_at": json_values},
    )
)
def test_no_event_crashes_the_reader(value: dict[str, Any]) -> None:
    parsed = parse_event(value)
    if parsed is not None:
        for document in read_events([parsed], WEB).documents:
            assert isinstance(document.content, bytes)

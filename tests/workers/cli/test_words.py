"""Tests that tables describe database values in words, while JSON contains the values."""

from __future__ import annotations

import pytest

from scanner.records.models import Exposure, Notification, ScanJob
from scanner.records.states import Cause, Channel, JobKind, JobState
from workers.cli import jobs_watched, words

GIST = "aa5a315d61ae9438b18d4d1a0f0b0c0d"


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        (Exposure(kind="file", repository="ana/app", url="https://github.com/ana/app/blob/x/a.py"), "ana/app"),
        (Exposure(kind="gist", url=f"https://gist.github.com/ana/{GIST}", path="example4.py"), f"gist ana/{GIST}"),
        (Exposure(kind="gist_comment", url=f"https://gist.github.com/{GIST}#c1"), f"gist {GIST}"),
        (Exposure(kind="gist", url="", path="example4.py"), "gist"),
        (Exposure(kind="package", url="https://pypi.org/project/x"), "package"),
    ],
)
def test_a_place_is_named_by_its_repository_or_gist_and_never_by_its_file(place: Exposure, shown: str) -> None:
    assert words.place(place) == shown


def test_every_cause_and_channel_has_words() -> None:
    assert set(words.CAUSES) == set(Cause)
    assert "repository" not in words.CAUSES[Cause.PUBLIC_REPOSITORY], "it may have been a gist"
    assert set(words.RECIPIENTS) == set(Channel)


@pytest.mark.parametrize(
    ("channel", "recipient", "shown"),
    [
        (Channel.EMAIL, "ana@example.com", "owner, ana@example.com"),
        (Channel.EMAIL, None, "owner, whose address is not known"),
        (Channel.OPERATOR, "ops@example.com", "operator, ops@example.com"),
        (Channel.WEBHOOK, None, "gateways, by webhook"),
    ],
)
def test_a_message_says_who_gets_it(channel: Channel, recipient: str | None, shown: str) -> None:
    assert words.recipient(Notification(channel=channel, recipient=recipient)) == shown


@pytest.mark.parametrize(
    ("kind", "target", "counts", "shown", "found"),
    [
        (JobKind.FILES, {"files": [{}, {}]}, {"bytes": 12_000, "known": 1}, "done: 2 files (12,000 bytes)", 1),
        (
            JobKind.PUSHES,
            {"pushes": [{"repository": "ana/app"}]},
            {"objects": 1, "pushes": 1, "rung_remembered": 1, "band_found_likely": 1, "tokens_disabled_now": 2},
            "done: ana/app (1 object, 1 push)",
            2,
        ),
        (JobKind.GIST, {"gist": GIST}, {"unread_too_large": 2}, f"done: gist {GIST}", 0),
    ],
)
def test_a_job_says_what_it_read_without_internal_counters(
    kind: JobKind, target: dict[str, object], counts: dict[str, int], shown: str, found: int
) -> None:
    job = ScanJob(kind=kind, target=target, counts=counts, state=JobState.DONE, source="gists")
    assert (jobs_watched.result_text(job), jobs_watched.number_found([job])) == (shown, found)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("accounts", 1, "1 account"),
        ("accounts", 2, "2 accounts"),
        ("audit_entries", 1, "1 audit entry"),
        ("pushes", 1, "1 push"),
        ("usage_hours", 1200, "1,200 usage hours"),
    ],
)
def test_one_thing_is_named_in_the_singular(name: str, value: int, shown: str) -> None:
    assert words.amount(name, value) == shown

"""Tests of the record of the newest commits ("tips") in each repository's branches."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from scanner.records.database import Database
from scanner.records.models import db_now
from scanner.records.reading_models import RepositoryTips
from scanner.sources.pushes import memory
from scanner.sources.pushes.push import Push
from scanner.sources.pushes.tips import (
    MAX_OTHER_TIPS,
    RememberedTips,
    Tip,
    TipsRead,
    advanced,
    decoded,
    encoded,
)

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
PUSHED = NOW - timedelta(minutes=1)


def oid(number: int) -> str:
    return f"{number:040x}"


def read(*numbers: int, before: int | None = None, is_read: bool = True) -> TipsRead:
    return TipsRead(tuple(map(oid, numbers)), is_read, before=oid(before) if before else "")


@given(
    st.lists(
        st.builds(Tip, st.binary(min_size=20, max_size=20).map(bytes.hex), st.booleans(), st.booleans(), st.booleans())
        | st.builds(Tip, st.binary(min_size=32, max_size=32).map(bytes.hex)),
        max_size=21,
    )
)
def test_tips_are_unchanged_after_they_were_stored(tips: list[Tip]) -> None:
    assert decoded(encoded(tips)) == tuple(tips)


def test_earlier_tips_of_a_branch_are_dropped_before_tips_of_other_branches() -> None:
    known = advanced(RememberedTips(), read(*range(1, 11)), PUSHED, NOW)
    for number in range(100, 140):
        known = advanced(known, read(number, before=number - 1 if number > 100 else 1), PUSHED, NOW)
    assert len(known.tips) == 1 + MAX_OTHER_TIPS
    assert all(known.has_read(oid(number)) for number in (*range(2, 11), 139))
    assert not known.holds(oid(100))


def test_the_default_branch_is_kept_however_many_other_tips_come() -> None:
    known = advanced(RememberedTips(), TipsRead((oid(1),), True, default=oid(1)), PUSHED, NOW)
    for number in range(2, 60):
        known = advanced(known, read(number), PUSHED, NOW)
    assert known.has_read(oid(1))
    assert known.oids[0] == oid(59)


def test_the_commit_before_a_push_is_accounted_for_but_not_read() -> None:
    known = advanced(RememberedTips(), read(2, before=1), PUSHED, NOW)
    assert (known.holds(oid(1)), known.has_read(oid(1)), known.has_read(oid(2))) == (True, False, True)
    assert advanced(known, read(1), PUSHED, NOW).has_read(oid(1))
    again = advanced(known, read(2, is_read=False), PUSHED, NOW)
    assert again.has_read(oid(2)), "a commit that was read completely stays so"


@pytest.mark.parametrize(
    ("pushed_at", "is_read"), [(PUSHED, True), (PUSHED + timedelta(minutes=5), False), (None, False)]
)
def test_a_later_push_with_the_same_tip_went_to_another_branch(pushed_at: datetime | None, is_read: bool) -> None:
    known = advanced(RememberedTips(), read(1), PUSHED, NOW)
    assert known.has_read_push_at(oid(1), pushed_at) is is_read
    assert not known.has_read_push_at(oid(2), pushed_at)


def push(number: int, name: str = "ana/app") -> Push:
    return Push(name, number, oid(0), oid(1), "", "", PUSHED, "push")


def test_repositories_of_two_hosts_and_a_wiki_do_not_share_their_tips(database: Database) -> None:
    with database.write() as session:
        memory.remember(session, [(push(1), read(1)), (push(1, "ana/app.wiki"), read(2))], "github.com")
        memory.remember(session, [(push(1), read(3))], "git.example")
    with database.read() as session:
        found = memory.recall(session, [push(1), push(1, "ana/app.wiki"), push(2)], "github.com")
    assert {key: tips.oids for key, tips in found.items()} == {
        ("github.com", 1): [oid(1)],
        ("github.com#wiki", 1): [oid(2)],
    }


def test_old_repositories_are_deleted_and_then_the_oldest_above_the_limit(database: Database) -> None:
    with database.write() as session:
        memory.remember(session, [(push(number), read(number)) for number in range(1, 8)], "github.com")
        for number in range(1, 8):
            age = (memory.KEPT_DAYS + 1) * 86400 if number == 7 else 10 * number
            session.execute(
                update(RepositoryTips).where(RepositoryTips.repository_id == number).values(read_at=db_now(-age))
            )
    with database.write() as session:
        assert memory.purge(session, max_rows=4) == (1, 2)
        assert memory.purge(session, max_rows=4) == (0, 0)
    with database.read() as session:
        assert sorted(session.execute(select(RepositoryTips.repository_id)).scalars()) == [1, 2, 3, 4]

"""Tests that every column can store any hostile text or JSON, in both databases."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import JSON, select, types

from scanner.detection import sha256_digest
from scanner.records import jobs
from scanner.records.canary_models import Canary
from scanner.records.columns import Json, String, Text, db_now, is_among, storable_json, storable_text
from scanner.records.database import Database
from scanner.records.models import Base, Incident, ScanJob
from scanner.records.states import CanaryState, CanaryWay, JobKind

HOSTILE = "a\0b" + os.fsdecode(b"caf\xe9") + "\ud800 \U0001f600"
SHOWN = "a\\x00bcaf\\xe9\\ud800 \U0001f600"


def test_every_text_column_escapes_its_text() -> None:
    for table in Base.metadata.tables.values():
        for column in table.columns:
            if isinstance(column.type, types.Enum):
                continue  # an enum's column accepts only the enum's values
            if isinstance(column.type, types.String) or (
                isinstance(column.type, types.TypeDecorator) and isinstance(column.type.impl_instance, types.String)
            ):
                assert isinstance(column.type, (String, Text)), column


def test_hostile_text_and_json_are_stored_and_shown(database: Database) -> None:
    target: dict[str, Any] = {"path": HOSTILE, HOSTILE: [HOSTILE, {"deep": HOSTILE}], "size": float("inf"), "n": 5}
    with database.write() as session:
        job_id = jobs.enqueue(session, JobKind.PUSHES, target, source="public_events", dedupe_key=HOSTILE)
        row = session.get(ScanJob, job_id)
        assert row is not None
        row.error, row.counts = HOSTILE, {f"unread_{HOSTILE}": 1}
    with database.read() as session:
        row = session.execute(select(ScanJob).where(ScanJob.dedupe_key == HOSTILE)).scalar_one()
        assert row.target == {"path": SHOWN, SHOWN: [SHOWN, {"deep": SHOWN}], "size": "inf", "n": 5}
        assert (row.error, row.counts, row.dedupe_key) == (SHOWN, {f"unread_{SHOWN}": 1}, SHOWN)


def test_escaped_text_is_cut_to_the_width_of_its_column(database: Database) -> None:
    with database.write() as session:
        assert jobs.enqueue(session, JobKind.PUSHES, {}, source="s", dedupe_key="\ud800" * 400) is not None
    with database.read() as session:
        assert session.execute(select(ScanJob.dedupe_key)).scalar_one() == ("\\ud800" * 400)[:400]


@given(st.text(st.characters(exclude_categories=())))
def test_invalid_text_becomes_valid_and_valid_text_is_unchanged(text: str) -> None:
    storable = storable_text(text)
    storable.encode()
    assert "\0" not in storable
    assert storable_text(storable) == storable
    if "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert storable == text


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=())), inner),
)


@given(_VALUES)
def test_invalid_json_becomes_valid(value: Any) -> None:
    text = storable_json(value)
    json.dumps(json.loads(text), ensure_ascii=False, allow_nan=False).encode()
    assert "\\u0000" not in text.replace("\\\\", "")


@pytest.mark.parametrize("value", [{"a": "\U0001f600"}, ["\\ud800"], "plain", 1, None])
def test_valid_json_is_unchanged(value: Any) -> None:
    assert json.loads(storable_json(value)) == value


def test_a_column_is_compared_with_many_texts_by_one_parameter(database: Database) -> None:
    digests = [sha256_digest(b"%d" % number) for number in range(2_000)]
    with database.write() as session:
        session.add_all(
            Canary(digest=digest, way=CanaryWay.TEXTS, state=CanaryState.PLANTED, slot=slot, planted_at=db_now())
            for slot, digest in enumerate(digests[:3])
        )
        session.flush()
        condition = is_among(session, Canary.digest, digests[2:])
        assert session.execute(select(Canary.digest).where(condition)).scalars().all() == digests[2:3]
        assert session.execute(select(Canary.digest).where(is_among(session, Canary.digest, []))).first() is None


def test_every_engine_writes_json_columns_with_our_serializer(database: Database) -> None:
    assert database.engine.dialect._json_serializer is storable_json
    columns = [column for table in Base.metadata.tables.values() for column in table.columns]
    assert any(isinstance(column.type, Json) for column in columns)
    assert not any(isinstance(column.type, JSON) for column in columns)


def test_a_comparison_with_the_database_clock_uses_an_index(database: Database) -> None:
    statement = select(Incident.id).where(Incident.detected_at > db_now(-60))
    with database.read() as session:
        compiled = str(statement.compile(session.connection(), compile_kwargs={"literal_binds": True}))
        if database.is_postgresql:
            session.connection().exec_driver_sql("SET LOCAL enable_seqscan = off")
        explain = "EXPLAIN" if database.is_postgresql else "EXPLAIN QUERY PLAN"
        plan = "\n".join(str(row) for row in session.connection().exec_driver_sql(f"{explain} {compiled}"))
    assert "Index Cond: (detected_at > " in plan or "USING INDEX ix_incidents_detected_at (detected_at>?)" in plan, plan

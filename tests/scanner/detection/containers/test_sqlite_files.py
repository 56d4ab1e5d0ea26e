"""Tests for SQLite databases: every page with rows is read, and no SQL of the database is run."""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import Callable

import pytest

from scanner.detection.containers.members import Container, UnreadableError
from scanner.detection.containers.sqlite_files import sqlite_members
from scanner.detection.limits import Limits, Meter
from tests.scanner.detection.fuzz_targets import read_all

VALUE = "a value of more than forty bytes, " * 40


def database(*statements: str, page_size: int = 512, encoding: str = "UTF-8") -> bytes:
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size = {page_size}")
        connection.execute(f"PRAGMA encoding = '{encoding}'")
        for statement in statements:
            connection.execute(statement)
        return connection.serialize()


def members(content: bytes, limits: Limits | None = None) -> list[tuple[str, bytes]]:
    meter = Meter(limits or Limits(), len(content))
    found = []
    for member in sqlite_members(Container("a.db", content, meter)):
        assert isinstance(member.source, bytes)
        found.append((member.name, member.source))
    return found


def with_generated_columns(columns: list[str]) -> bytes:
    return database(
        "CREATE TABLE t(a)",
        "INSERT INTO t(a) VALUES (1)",
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = 'CREATE TABLE t(a," + ",".join(columns).replace("'", "''") + ")'",
    )


@pytest.mark.parametrize("page_size", [512, 1024, 4096, 65536])
@pytest.mark.parametrize("encoding", ["UTF-8", "UTF-16le", "UTF-16be"])
def test_texts_of_all_sizes_and_encodings_are_read_as_utf_8(page_size: int, encoding: str) -> None:
    chance = random.Random(page_size)
    texts = ["é" + "".join(chance.choices("abc ", k=size)) for size in (39, 40, 400, 1_000, 3_000, 9_000, 70_000)]
    rows = [f"INSERT INTO settings VALUES ('k', '{text}')" for text in texts]
    content = database("CREATE TABLE settings (name, value)", *rows, page_size=page_size, encoding=encoding)
    found = b"\n".join(body for name, body in members(content) if name == "settings")
    assert found.decode().split("\n") == texts


def test_many_rows_are_read_in_order_from_trees_of_several_levels() -> None:
    rows = [f"INSERT INTO t VALUES ('{number:06} {VALUE[:200]}')" for number in range(3_000)]
    found = b"\n".join(body for name, body in members(database("CREATE TABLE t (a)", *rows)) if name == "t")
    assert [line[:6] for line in found.split(b"\n")] == [b"%06d" % number for number in range(3_000)]


def test_tables_without_row_ids_are_read_from_all_their_levels() -> None:
    rows = [f"INSERT INTO t VALUES ('{number:04} {VALUE[:100]}')" for number in range(400)]
    content = database("CREATE TABLE t (a PRIMARY KEY) WITHOUT ROWID", *rows)
    found = b"\n".join(body for name, body in members(content) if name == "t")
    assert {line[:4] for line in found.split(b"\n")} == {b"%04d" % number for number in range(400)}


def test_values_in_an_index_are_not_read_a_second_time() -> None:
    content = database("CREATE TABLE t (a)", "CREATE INDEX i ON t (a)", f"INSERT INTO t VALUES ('{VALUE}')")
    assert [(name, body.decode()) for name, body in members(content)] == [("t", VALUE)]


def test_each_blob_is_one_member_and_the_texts_of_a_table_are_one_member() -> None:
    content = database(
        "CREATE TABLE t (a)",
        f"INSERT INTO t VALUES ('{VALUE}')",
        "INSERT INTO t VALUES (zeroblob(100))",
        f"INSERT INTO t VALUES ('{VALUE}')",
    )
    assert [len(body) for _, body in members(content)] == [100, 2 * len(VALUE) + 1]


def test_deleted_rows_are_read_from_free_pages() -> None:
    rows = [f"INSERT INTO t VALUES ('{number:04} {VALUE[:300]}')" for number in range(50)]
    content = database("PRAGMA secure_delete = OFF", "CREATE TABLE t (a)", *rows, "DROP TABLE t")
    assert b"0033 a value" in b"".join(body for name, body in members(content) if name == "free pages")


def test_a_database_with_a_pointer_map_is_not_called_damaged() -> None:
    rows = [f"INSERT INTO t VALUES ('{VALUE}')" for _ in range(300)]
    content = database("PRAGMA auto_vacuum = FULL", "CREATE TABLE t (a)", *rows)
    assert content[52:56] != bytes(4)
    assert sum(body.count(VALUE.encode()) for _, body in members(content)) == 300


def test_reserved_space_at_the_end_of_pages_is_not_read() -> None:
    # Byte 20 of the header is the number of reserved bytes at the end of each page. No SQL statement can change it.
    content = bytearray(database("CREATE TABLE t (a)"))
    content[20] = 32
    assert members(bytes(content)) == []


@pytest.mark.parametrize(
    "columns",
    [
        ["b AS (instr(CAST(hex(zeroblob(24000000)) AS BLOB), CAST(hex(zeroblob(12000000))||'1' AS BLOB)))"],
        [f"c{number} AS (zeroblob(48000000))" for number in range(60)],
    ],
    ids=["computed", "large"],
)
def test_generated_columns_are_never_computed(columns: list[str]) -> None:
    meter = read_all("sqlite", with_generated_columns(columns))
    assert meter.unread == {}
    assert meter.expanded < 10_000


def test_a_truncated_database_is_read_up_to_its_end_and_counted() -> None:
    rows = [f"INSERT INTO t VALUES ('{VALUE[:300]}')" for _ in range(20)]
    content = database("CREATE TABLE t (a)", *rows)
    meter = Meter(Limits(), len(content))
    reader = sqlite_members(Container("a.db", content[:4096], meter))
    assert b"a value" in b"".join(bytes(member.source) for member in [next(reader)] if isinstance(member.source, bytes))
    with pytest.raises(UnreadableError, match="damaged"):
        list(reader)


def _a_loop(content: bytearray) -> None:
    # Make the root page its own child.
    content[512 + 8 : 512 + 12] = (2).to_bytes(4, "big")


def _a_page_outside(content: bytearray) -> None:
    content[512 + 8 : 512 + 12] = (10**6).to_bytes(4, "big")


@pytest.mark.parametrize("change", [_a_loop, _a_page_outside])
def test_invalid_child_pages_are_counted_and_the_rest_is_read(change: Callable[[bytearray], None]) -> None:
    rows = [f"INSERT INTO t VALUES ('{VALUE[:300]}')" for _ in range(20)]
    content = bytearray(database("CREATE TABLE t (a)", *rows))
    assert content[512] == 5, "the table has more than one page"
    change(content)
    meter = read_all("sqlite", bytes(content))
    assert meter.unread == {"damaged": 1}
    assert meter.expanded >= 19 * 300

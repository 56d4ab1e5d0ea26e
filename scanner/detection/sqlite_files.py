"""Reader of SQLite databases: the values of their tables, for those that lie split over pages."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator

from scanner.detection.limits import Meter
from scanner.detection.members import Container, Member, UnreadableError, shown_name, whole

SIGNATURE = b"SQLite format 3\0"
_SHORTEST = 40
_STEPS_BETWEEN_CHECKS = 20_000
_BATCH = 1 << 20


def sqlite_members(container: Container) -> Iterator[Member]:
    """The values of every ordinary table, one member per MB of them, one value a line; long and binary values alone.

    The file is opened from memory, read-only, with its views, triggers and virtual tables out of reach.
    """
    content = whole(container)
    if len(content) < 100:
        raise UnreadableError("damaged")
    # Bytes 18 and 19 ask for a write-ahead log beside the file; from memory there is none.
    content = content[:18] + b"\1\1" + content[20:]
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.deserialize(content)
        connection.text_factory = bytes
        # Generated columns may compute anything.
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, container.meter.limits.member_bytes)
        connection.set_progress_handler(_interrupter(container.meter), _STEPS_BETWEEN_CHECKS)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA query_only = ON")
        tables = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0 AND sql NOT LIKE 'create virtual%'"
        ).fetchmany(container.meter.limits.entries + 1)
        for (name,) in tables:
            container.meter.enter()
            yield from _table(connection, name, container.meter)
    except (sqlite3.Error, UnicodeError, OverflowError) as error:
        raise UnreadableError("damaged") from error
    finally:
        connection.close()


def _interrupter(meter: Meter) -> Callable[[], int]:
    def out_of_time() -> int:
        return 1 if meter.late else 0

    return out_of_time


def _table(connection: sqlite3.Connection, name: bytes, meter: Meter) -> Iterator[Member]:
    shown = shown_name(name)
    quoted = name.decode("utf-8", "surrogateescape").replace('"', '""')
    gathered: list[bytes] = []
    size = 0
    for row in connection.execute(f'SELECT * FROM "{quoted}"'):  # noqa: S608 - an identifier, quoted by doubling
        for value in row:
            if not isinstance(value, bytes) or len(value) < _SHORTEST:
                continue
            meter.take(len(value))
            if len(value) > _BATCH or not value[:1].isascii() or b"\0" in value[:16]:
                yield Member(shown, value)
                continue
            gathered.append(value)
            size += len(value)
            if size > _BATCH:
                yield Member(shown, b"\n".join(gathered))
                gathered, size = [], 0
    if gathered:
        yield Member(shown, b"\n".join(gathered))

"""The script that alembic (the migration tool) runs for each upgrade of the database, in one transaction."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import Connection, Enum

from scanner.records import (
    announcement_models,
    audit_models,
    canary_models,
    compromise_models,
    console_models,
    discovery_models,
    health_models,
    indexes,
    reading_models,
    source_models,
    usage_models,
)
from scanner.records.database import Database
from scanner.records.models import Base

# Import every module that defines tables or indexes, because the import registers them in the metadata.
_MODULES = (
    announcement_models,
    audit_models,
    canary_models,
    compromise_models,
    console_models,
    discovery_models,
    health_models,
    indexes,
    reading_models,
    source_models,
    usage_models,
)


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        # Do not use batches. On SQLite, a batch copies a table and renames the copy. SQLite refuses this if a trigger
        # names the table, for example `incidents`. Plain columns can be added and dropped without a batch.
        render_as_batch=False,
        render_item=_rendered,
        user_module_prefix="",  # script.py.mako imports our column types
    )
    with context.begin_transaction():
        context.run_migrations()


def _rendered(kind: str, item: Any, autogenerate: Any) -> str | Literal[False]:
    """Return the Python source of a column type for a new migration, or False for alembic's default."""
    del autogenerate
    if kind == "type" and isinstance(item, Enum):
        return (
            f"sa.String(length={item.length})"  # enum values change over time, so a migration must not import the enum
        )
    return False


def run_by_developer() -> None:
    database = Database(context.config.get_main_option("sqlalchemy.url", ""))
    with database.engine.execution_options(r8scan_writes=True).begin() as connection:
        run(connection)
    database.close()


if "connection" in context.config.attributes:
    run(context.config.attributes["connection"])
else:
    run_by_developer()

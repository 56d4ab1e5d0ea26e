"""Run by alembic: one transaction, on a connection that the caller hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from scanner.records import sign_models, source_models
from scanner.records.models import Base

# Their import adds these tables to the metadata.
_MODULES = (sign_models, source_models)


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        compare_type=True,
        render_as_batch=connection.dialect.name == "sqlite",
    )
    with context.begin_transaction():
        context.run_migrations()


run(context.config.attributes["connection"])

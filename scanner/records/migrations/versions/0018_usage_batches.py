"""Creates a table for the cursors of usage batches, which were rows of `read_objects` before."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import Json, String, UtcDateTime

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_READ_OBJECTS = sa.table(
    "read_objects", sa.column("kind"), sa.column("key"), sa.column("hits", Json), sa.column("read_at")
)
_OLD_KIND = "usage_batch"


def upgrade() -> None:
    batches = op.create_table(
        "usage_batches",
        sa.Column("key", String(length=64), nullable=False),
        sa.Column("cursor", String(length=8), nullable=False),
        sa.Column("begun_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_usage_batches")),
    )
    op.create_index(op.f("ix_usage_batches_begun_at"), "usage_batches", ["begun_at"])
    columns = (_READ_OBJECTS.c.key, _READ_OBJECTS.c.hits, sa.type_coerce(_READ_OBJECTS.c.read_at, UtcDateTime()))
    rows = op.get_bind().execute(sa.select(*columns).where(_READ_OBJECTS.c.kind == _OLD_KIND)).all()
    if rows:
        op.bulk_insert(batches, [{"key": key, "cursor": (hits or [""])[0], "begun_at": at} for key, hits, at in rows])
    op.execute(sa.delete(_READ_OBJECTS).where(_READ_OBJECTS.c.kind == _OLD_KIND))


def downgrade() -> None:
    op.drop_table("usage_batches")

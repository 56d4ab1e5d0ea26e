"""Creates the tables of reports, the disable quota, usage and request rates. Adds evidence to incidents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from scanner.records.columns import Id, Json, UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "brake",
        sa.Column("id", Id, autoincrement=False, nullable=False),
        sa.Column("closed_at", UtcDateTime(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_brake")),
    )
    op.create_table(
        "reports",
        sa.Column("id", Id, nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("hint", sa.String(length=16), nullable=False),
        sa.Column("sign", sa.String(length=40), nullable=False),
        sa.Column("idempotency_key", sa.String(length=64), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("reporter", sa.String(length=64), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("wanted", sa.String(length=16), nullable=False),
        sa.Column("is_braked", sa.Boolean(), nullable=False),
        sa.Column("evidence", Json, nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("next_check_at", UtcDateTime(), nullable=False),
        sa.Column("decision", sa.String(length=32), nullable=False),
        sa.Column("decided_at", UtcDateTime(), nullable=True),
        sa.Column("incident_id", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reports")),
        sa.UniqueConstraint("digest", "sign", "idempotency_key", name=op.f("uq_reports_digest_sign_idempotency_key")),
    )
    with op.batch_alter_table("reports", schema=None) as batch_op:
        batch_op.create_index("ix_reports_decision_decided_at", ["decision", "decided_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_reports_received_at"), ["received_at"], unique=False)
        batch_op.create_index("ix_reports_state_next_check_at", ["state", "next_check_at"], unique=False)

    op.create_table(
        "request_rates",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("minute", UtcDateTime(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_request_rates")),
    )
    with op.batch_alter_table("request_rates", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_request_rates_minute"), ["minute"], unique=False)

    op.create_table(
        "usage_baselines",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("hour", UtcDateTime(), nullable=True),
        sa.Column("hour_count", Id, nullable=False),
        sa.Column("previous_hour", UtcDateTime(), nullable=True),
        sa.Column("hours", sa.Integer(), nullable=False),
        sa.Column("total", Id, nullable=False),
        sa.Column("peak", Id, nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_usage_baselines")),
    )
    with op.batch_alter_table("usage_baselines", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_usage_baselines_hour"), ["hour"], unique=False)

    op.create_table(
        "usage_hours",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("hour", UtcDateTime(), nullable=False),
        sa.Column("count", Id, nullable=False),
        sa.Column("listed", Id, nullable=False),
        sa.Column("networks", Json, nullable=False),
        sa.Column("countries", Json, nullable=False),
        sa.Column("agents", Json, nullable=False),
        sa.Column("listed_networks", Json, nullable=False),
        sa.Column("unkept", Json, nullable=False),
        sa.PrimaryKeyConstraint("digest", "hour", name=op.f("pk_usage_hours")),
    )
    with op.batch_alter_table("usage_hours", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_usage_hours_hour"), ["hour"], unique=False)

    op.add_column("incidents", sa.Column("evidence", Json, server_default=sa.text("'{}'"), nullable=False))


def downgrade() -> None:
    op.drop_column("incidents", "evidence")

    with op.batch_alter_table("usage_hours", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_usage_hours_hour"))

    op.drop_table("usage_hours")
    with op.batch_alter_table("usage_baselines", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_usage_baselines_hour"))

    op.drop_table("usage_baselines")
    with op.batch_alter_table("request_rates", schema=None) as batch_op:
        batch_op.drop_index(batch_op.f("ix_request_rates_minute"))

    op.drop_table("request_rates")
    with op.batch_alter_table("reports", schema=None) as batch_op:
        batch_op.drop_index("ix_reports_state_next_check_at")
        batch_op.drop_index(batch_op.f("ix_reports_received_at"))
        batch_op.drop_index("ix_reports_decision_decided_at")

    op.drop_table("reports")
    op.drop_table("brake")

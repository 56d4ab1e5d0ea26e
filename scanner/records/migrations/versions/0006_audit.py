"""Creates triggers that refuse to change or delete an audit entry."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_POSTGRESQL = (
    """
    CREATE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'entries of the audit cannot be changed'; END $$
    """,
    "CREATE TRIGGER audit_only_grows BEFORE UPDATE ON audit FOR EACH ROW EXECUTE FUNCTION audit_only_grows()",
)
_SQLITE = (
    """
    CREATE TRIGGER audit_only_grows BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'entries of the audit cannot be changed'); END
    """,
)


def upgrade() -> None:
    for statement in _POSTGRESQL if op.get_bind().dialect.name == "postgresql" else _SQLITE:
        op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION audit_only_grows() CASCADE")
    else:
        op.execute("DROP TRIGGER audit_only_grows")

"""Creates the hash chain of the audit, and a trigger that refuses to delete an entry unless its hashes are kept."""

from __future__ import annotations

import secrets

import sqlalchemy as sa
from alembic import op

from scanner.records.audit_hashes import FIRST_HASH, entry_hash
from scanner.records.columns import Id, Json, UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

ROWS_A_PAGE = 2000

_AUDIT = sa.table(
    "audit",
    sa.column("id", Id),
    sa.column("at", UtcDateTime()),
    sa.column("who", sa.String()),
    sa.column("what", sa.String()),
    sa.column("incident_id", sa.Uuid()),
    sa.column("evidence", Json),
    sa.column("nonce", sa.String()),
    sa.column("previous_hash", sa.String()),
    sa.column("hash", sa.String()),
)
_MAY_DELETE = """
    OLD.id <= (SELECT max(purged_id) FROM audit_head)
    OR EXISTS (SELECT 1 FROM audit_removed WHERE audit_removed.id = OLD.id AND audit_removed.hash = OLD.hash)
"""
_POSTGRESQL = (
    f"""
    CREATE OR REPLACE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_OP = 'DELETE' THEN
            IF {_MAY_DELETE} THEN RETURN OLD; END IF;
            RAISE EXCEPTION 'entries of the audit cannot be deleted';
        ELSIF TG_OP = 'TRUNCATE' THEN
            RAISE EXCEPTION 'entries of the audit cannot be deleted';
        END IF;
        RAISE EXCEPTION 'entries of the audit cannot be changed';
    END $$
    """,
    "CREATE TRIGGER audit_only_grows BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_only_grows()",
    "CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit "
    "FOR EACH STATEMENT EXECUTE FUNCTION audit_only_grows()",
    # This function adds entries to the audit log. It locks the row with the newest hash, so that two transactions
    # cannot add entries at the same time. `scanner.records.audit_hashes` computes the same hashes.
    """
    CREATE FUNCTION audit_append(entries jsonb) RETURNS void LANGUAGE plpgsql AS $$
    DECLARE
        entry jsonb;
        next_id bigint;
        last text;
        hashed text;
    BEGIN
        SELECT last_id, last_hash INTO STRICT next_id, last FROM audit_head WHERE id = 1 FOR UPDATE;
        FOR entry IN SELECT value FROM jsonb_array_elements(entries) LOOP
            next_id := next_id + 1;
            hashed := encode(
                sha256(convert_to(last || ':' || next_id || ':' || (entry ->> 'content_hash'), 'UTF8')), 'hex'
            );
            INSERT INTO audit (id, at, who, what, incident_id, evidence, nonce, previous_hash, hash) VALUES (
                next_id, (entry ->> 'at')::timestamptz, entry ->> 'who', entry ->> 'what',
                (entry ->> 'incident_id')::uuid, entry -> 'evidence', entry ->> 'nonce', last, hashed
            );
            last := hashed;
        END LOOP;
        UPDATE audit_head SET last_id = next_id, last_hash = last WHERE id = 1;
    END $$
    """,
)
_SQLITE = (
    """
    CREATE TRIGGER audit_only_grows BEFORE UPDATE ON audit
    BEGIN SELECT RAISE(ABORT, 'entries of the audit cannot be changed'); END
    """,
    f"""
    CREATE TRIGGER audit_is_not_emptied BEFORE DELETE ON audit WHEN NOT ({_MAY_DELETE})
    BEGIN SELECT RAISE(ABORT, 'entries of the audit cannot be deleted'); END
    """,
)


def upgrade() -> None:
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    op.execute(f"DROP TRIGGER audit_only_grows{' ON audit' if is_postgresql else ''}")
    op.create_table(
        "audit_head",
        sa.Column("id", Id, nullable=False),
        sa.Column("last_id", Id, nullable=False),
        sa.Column("last_hash", sa.String(64), nullable=False),
        sa.Column("purged_id", Id, nullable=False),
        sa.Column("purged_hash", sa.String(64), nullable=False),
        sa.Column("purged_count", Id, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_head")),
    )
    op.create_table(
        "audit_removed",
        sa.Column("id", Id, autoincrement=False, nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_removed")),
    )
    columns = (("nonce", 32), ("previous_hash", 64), ("hash", 64))
    for name, length in columns:
        op.add_column("audit", sa.Column(name, sa.String(length), nullable=True))
    last_id, last_hash = _chain_existing_entries(op.get_bind())
    with op.batch_alter_table("audit") as batch_op:
        for name, length in columns:
            batch_op.alter_column(name, existing_type=sa.String(length), nullable=False)
    head = sa.table("audit_head", *(sa.column(name) for name in _HEAD))
    op.execute(head.insert().values(dict(zip(_HEAD, (1, last_id, last_hash, 0, FIRST_HASH, 0), strict=True))))
    for statement in _POSTGRESQL if is_postgresql else _SQLITE:
        op.execute(statement)


_HEAD = ("id", "last_id", "last_hash", "purged_id", "purged_hash", "purged_count")


def _chain_existing_entries(connection: sa.Connection) -> tuple[int, str]:
    """Compute the hashes of the existing entries. Return the last entry's id and hash."""
    last_id, last_hash = 0, FIRST_HASH
    change = (
        _AUDIT.update()
        .where(_AUDIT.c.id == sa.bindparam("own_id"))
        .values({name: sa.bindparam(f"own_{name}") for name in ("nonce", "previous_hash", "hash")})
    )
    while True:
        query = sa.select(_AUDIT).where(_AUDIT.c.id > last_id).order_by(_AUDIT.c.id).limit(ROWS_A_PAGE)
        rows = [dict(row) for row in connection.execute(query).mappings()]
        if not rows:
            return last_id, last_hash
        for row in rows:
            row |= {"nonce": secrets.token_hex(16), "previous_hash": last_hash}
            row["hash"] = last_hash = entry_hash(row)
        names = ("id", "nonce", "previous_hash", "hash")
        connection.execute(change, [{f"own_{name}": row[name] for name in names} for row in rows])
        last_id = rows[-1]["id"]


def downgrade() -> None:
    is_postgresql = op.get_bind().dialect.name == "postgresql"
    for trigger in ("audit_only_grows", "audit_is_not_emptied"):
        op.execute(f"DROP TRIGGER {trigger}{' ON audit' if is_postgresql else ''}")
    with op.batch_alter_table("audit") as batch_op:
        for name in ("nonce", "previous_hash", "hash"):
            batch_op.drop_column(name)
    op.drop_table("audit_removed")
    op.drop_table("audit_head")
    if is_postgresql:
        op.execute("DROP FUNCTION audit_append(jsonb)")
        op.execute(
            "CREATE OR REPLACE FUNCTION audit_only_grows() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'entries of the audit cannot be changed'; END $$"
        )
        op.execute(
            "CREATE TRIGGER audit_only_grows BEFORE UPDATE ON audit FOR EACH ROW EXECUTE FUNCTION audit_only_grows()"
        )
    else:
        op.execute(_SQLITE[0])

"""requests that may be sent again.

Revision: 0007
Follows: 0006
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations.row_security import lock_rows, unlock_rows

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_INDEXES = {
    "ix_idempotency_keys_tenant_id_turn_id": ["tenant_id", "turn_id"],
    "ix_idempotency_keys_tenant_id_created_at": ["tenant_id", "created_at"],
}


def upgrade() -> None:
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("attempt", sa.String(length=32), nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("headers", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("turn_id", sa.String(length=32), nullable=True),
        sa.ForeignKeyConstraint(
            ["tenant_id", "turn_id"],
            ["turns.tenant_id", "turns.id"],
            name=op.f("fk_idempotency_keys_tenant_id_turn_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_idempotency_keys_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "key", name=op.f("pk_idempotency_keys")),
    )
    for name, columns in _INDEXES.items():
        op.create_index(op.f(name), "idempotency_keys", columns)
    lock_rows("idempotency_keys")


def downgrade() -> None:
    unlock_rows("idempotency_keys")
    op.drop_table("idempotency_keys")

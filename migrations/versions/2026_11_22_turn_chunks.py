"""the text of resumable turns while they run, and notes of other replicas on leases.

Revision: 0006
Follows: 0005
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations.row_security import lock_rows, unlock_rows

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("leases", sa.Column("heard_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("leases", sa.Column("stopped_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "turn_chunks",
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("turn_id", sa.String(length=32), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id", "turn_id"],
            ["turns.tenant_id", "turns.id"],
            name=op.f("fk_turn_chunks_tenant_id_turn_id"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("fk_turn_chunks_tenant_id")),
        sa.PrimaryKeyConstraint("tenant_id", "turn_id", "position", name=op.f("pk_turn_chunks")),
    )
    lock_rows("turn_chunks")


def downgrade() -> None:
    unlock_rows("turn_chunks")
    op.drop_table("turn_chunks")
    op.drop_column("leases", "stopped_at")
    op.drop_column("leases", "heard_at")

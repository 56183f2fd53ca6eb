"""items with calls, stored turns, labels.

Revision: 0004
Follows: 0003
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations.row_security import rows_of_all

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    with op.batch_alter_table("items") as items:
        items.add_column(sa.Column("parts", sa.JSON(none_as_null=True), nullable=True))
        items.add_column(sa.Column("name", sa.String(length=256), nullable=True))
        items.add_column(sa.Column("call_id", sa.String(length=256), nullable=True))
        items.add_column(sa.Column("status", sa.String(length=16), server_default="completed", nullable=False))
        items.add_column(sa.Column("answer", sa.Integer(), nullable=True))
        items.drop_index(op.f("ix_items_tenant_id_turn_id"))
        items.create_unique_constraint(
            op.f("uq_items_tenant_id_turn_id_position"), ["tenant_id", "turn_id", "position"]
        )
    op.add_column("conversations", sa.Column("labels", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("turns", sa.Column("labels", sa.JSON(), server_default="{}", nullable=False))
    op.add_column("turns", sa.Column("stored", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.create_index(
        "ix_turns_stored",
        "turns",
        ["tenant_id", "endpoint", "id"],
        unique=False,
        sqlite_where=sa.text("stored"),
        postgresql_where=sa.text("stored"),
    )
    with rows_of_all("turns", "items"):
        op.execute(_ANSWERS)
        op.execute(_LABELS_OUT if _on_postgresql() else _LABELS_OUT_SQLITE)


def downgrade() -> None:
    with rows_of_all("turns", "items"):
        op.execute(_LABELS_BACK if _on_postgresql() else _LABELS_BACK_SQLITE)
        for statement in _AS_MESSAGES:
            op.execute(statement)
    op.drop_index(
        "ix_turns_stored", table_name="turns", sqlite_where=sa.text("stored"), postgresql_where=sa.text("stored")
    )
    op.drop_column("turns", "stored")
    op.drop_column("turns", "labels")
    op.drop_column("conversations", "labels")
    with op.batch_alter_table("items") as items:
        items.drop_constraint(op.f("uq_items_tenant_id_turn_id_position"), type_="unique")
        items.create_index(op.f("ix_items_tenant_id_turn_id"), ["tenant_id", "turn_id"], unique=False)
        for column in ("answer", "status", "call_id", "name", "parts"):
            items.drop_column(column)


def _on_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"


_ANSWERS = "UPDATE items SET answer = 0 WHERE role = 'assistant' AND turn_id IS NOT NULL"
_LABELS_OUT = """
    UPDATE turns SET labels = parameters -> 'metadata', parameters = (parameters::jsonb - 'metadata')::json
    WHERE parameters::jsonb ? 'metadata'
"""
_LABELS_OUT_SQLITE = """
    UPDATE turns SET labels = json_extract(parameters, '$.metadata'), parameters = json_remove(parameters, '$.metadata')
    WHERE json_type(parameters, '$.metadata') IS NOT NULL
"""
_LABELS_BACK = """
    UPDATE turns SET parameters = (parameters::jsonb || jsonb_build_object('metadata', labels))::json
    WHERE labels::jsonb <> '{}'
"""
_LABELS_BACK_SQLITE = """
    UPDATE turns SET parameters = json_set(parameters, '$.metadata', json(labels)) WHERE json(labels) <> '{}'
"""
# What could only be said as text then.
_AS_MESSAGES = (
    "UPDATE items SET text = name || '(' || text || ')', type = 'message' WHERE type = 'function_call'",
    "UPDATE items SET type = 'message' WHERE type = 'function_call_output'",
    "UPDATE items SET role = 'system' WHERE role = 'developer'",
)

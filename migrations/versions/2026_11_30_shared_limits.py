"""limits that the keys of a rotation share.

Revision: 0008
Follows: 0007
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from migrations.row_security import rows_of_all

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    # Keys that were rotated before keep the limits that they have: nobody is limited by an upgrade.
    op.add_column("api_keys", sa.Column("limit_subject", sa.String(length=32), nullable=True))


def downgrade() -> None:
    # No key may lose its limits: each of a rotation gets a copy, with what they have used together.
    with rows_of_all("limits", "turns"):
        op.execute(_APART)
        op.execute(_RUNNING)
    op.drop_column("api_keys", "limit_subject")


_LIMITS = (
    "requests_per_minute, tokens_per_minute, turns_at_once, tokens_per_day, tokens_per_month, "
    "minute, minute_requests, minute_tokens, day, day_tokens, month, month_tokens, running"
)
_APART = f"""
    INSERT INTO limits (tenant_id, subject, {_LIMITS})
    SELECT limits.tenant_id, api_keys.id, {_LIMITS}
    FROM limits JOIN api_keys ON api_keys.tenant_id = limits.tenant_id AND api_keys.limit_subject = limits.subject
"""  # noqa: S608 - names of columns
# Each counts its own turns from here on.
_RUNNING = """
    UPDATE limits SET running = (
        SELECT count(*) FROM turns
        WHERE turns.tenant_id = limits.tenant_id AND turns.key_id = limits.subject AND turns.status = 'running'
    )
    WHERE subject <> tenant_id
"""

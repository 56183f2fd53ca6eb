"""ceilings of tenants in the engine's queue.

Revision: 0009
Follows: 0008
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.add_column("tenants", sa.Column("max_places", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("tenants", "max_places")
